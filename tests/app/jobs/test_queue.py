"""The pages' side, without any worker: submit, look, cancel, delete."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from app import paths, uploads
from app.jobs.folder import JobFolder
from app.jobs.model import new_job_id
from app.jobs.queue import JobQueue
from stem_core.errors import JobError, OutputError

from .running import make_request


def _upload() -> str:
    return uploads.store_upload(b"not looked at here", "slide.png").id


def test_runs_wait_in_order_and_say_that_no_worker_is_there(queue: JobQueue) -> None:
    upload = _upload()
    ids = [queue.submit(make_request(upload, seed=seed)) for seed in range(3)]
    assert [queue.status(job_id).queue_position for job_id in ids] == [1, 2, 3]
    first = queue.status(ids[0])
    assert (first.state, first.started_s, first.request.seed) == ("queued", None, 0)
    assert "no worker is running" in first.message
    assert not queue.worker_alive()
    assert [status.id for status in queue.list()] == ids[::-1]


def test_a_cancelled_run_leaves_the_queue(queue: JobQueue) -> None:
    upload = _upload()
    first, second = (queue.submit(make_request(upload)) for _ in range(2))
    queue.cancel(first)
    assert queue.status(first).state == "cancelled"
    assert queue.status(second).queue_position == 1
    queue.cancel(first)


def test_deleting_removes_every_trace(queue: JobQueue, home: Path) -> None:
    shared, own = _upload(), _upload()
    kept = queue.submit(make_request(shared))
    gone = queue.submit(make_request(own, spots_kind="file", spots_upload_id=shared))
    queue.delete(gone)
    assert [status.id for status in queue.list()] == [kept]
    assert uploads.upload_path(shared).exists()
    with pytest.raises(JobError):
        uploads.upload_path(own)
    for call in (queue.status, queue.cancel, queue.delete, queue.result_dir):
        with pytest.raises(JobError, match="no such run"):
            call(gone)
    names = [str(path) for path in home.rglob("*")]
    assert not any(gone in name or own in name for name in names)
    with sqlite3.connect(paths.database_file()) as database:
        tables = [
            row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type='table'")
        ]
        for table in tables:
            assert gone not in str(database.execute(f"SELECT * FROM {table}").fetchall()), table
    queue.delete(kept)
    assert list(paths.uploads_dir().iterdir()) == []


@pytest.mark.parametrize("bad", ["..", "../../etc/passwd", "x", "", "0123456789abcdef" * 2])
def test_unknown_ids_are_refused(queue: JobQueue, bad: str) -> None:
    for call in (queue.status, queue.cancel, queue.delete, queue.result_dir, queue.preview_file):
        with pytest.raises(JobError):
            call(bad)


def test_a_run_without_a_result_has_no_result(queue: JobQueue) -> None:
    job_id = queue.submit(make_request(_upload()))
    with pytest.raises(JobError, match="no result yet"):
        queue.result_dir(job_id)
    assert queue.preview_file(job_id) is None


def test_a_request_for_an_upload_that_is_gone_is_not_queued(queue: JobQueue) -> None:
    with pytest.raises(JobError, match="upload it again"):
        queue.submit(make_request("0" * 32))
    assert queue.list() == []


def test_all_files_are_for_the_owner_alone_and_hold_no_pickles(queue: JobQueue, home: Path) -> None:
    queue.submit(make_request(_upload()))
    folders = [home, *(path for path in home.rglob("*") if path.is_dir())]
    assert all(stat.S_IMODE(folder.stat().st_mode) == 0o700 for folder in folders)
    with sqlite3.connect(paths.database_file()) as database:
        rows = database.execute("SELECT serialization, inputs FROM workflow_status").fetchall()
        rows += (
            database.execute("SELECT 'portable_json', inputs FROM workflow_inputs").fetchall()
            if (
                database.execute(
                    "SELECT 1 FROM sqlite_master WHERE name='workflow_inputs'"
                ).fetchone()
            )
            else []
        )
    assert {kind for kind, _ in rows} == {"portable_json"}


def test_a_run_with_a_damaged_status_has_failed_and_can_be_deleted(queue: JobQueue) -> None:
    upload = _upload()
    good, bad = (queue.submit(make_request(upload)) for _ in range(2))
    JobFolder(bad).status_file.write_text("{", encoding="utf-8")
    assert queue.status(bad).state == "failed"
    assert "cannot be read" in queue.status(bad).message
    assert {status.id for status in queue.list()} == {good, bad}
    queue.delete(bad)
    assert [status.id for status in queue.list()] == [good]


def test_a_status_is_always_whole(home: Path) -> None:
    folder = JobFolder(new_job_id())
    folder.make(make_request("0" * 32))
    stop = threading.Event()

    def write() -> None:
        progress = folder.read_progress()
        while not stop.is_set():
            folder.write_progress(progress)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(500):
            assert folder.read_progress().state == "queued"
    finally:
        stop.set()
        writer.join()


def test_many_threads_may_submit_at_once(queue: JobQueue) -> None:
    upload = _upload()
    ids: list[str] = []
    threads = [
        threading.Thread(target=lambda: ids.append(queue.submit(make_request(upload))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(queue.status(job_id).queue_position or 0 for job_id in ids) == [1, 2, 3, 4]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_home_that_cannot_be_written_has_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    monkeypatch.setenv("STEM_HOME", str(locked))
    with pytest.raises(OutputError, match="set STEM_HOME"):
        JobQueue().list()


def test_a_database_that_is_none_has_a_sentence(queue: JobQueue, home: Path) -> None:
    upload = _upload()
    paths.database_file().write_bytes(b"this is not a database" * 100)
    with pytest.raises(OutputError, match=r"list of runs .* cannot be used"):
        queue.submit(make_request(upload))
    assert list(paths.jobs_dir().iterdir()) == []
