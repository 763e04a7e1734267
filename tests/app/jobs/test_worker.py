"""A real worker process on a real slide and a real, tiny model: runs, failures, cancelling."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from app import paths, uploads
from app.jobs.folder import JobFolder
from app.jobs.model import JobRequest, JobStatus
from app.jobs.queue import JobQueue
from stem_core.errors import SettingsError
from stem_core.prediction.export import FILE_NAMES
from stem_core.prediction.result import read_prediction

from .running import Worker, make_request, state_on_disk, wait_until

STOP_LIMIT_S = 30.0  # two seconds where the machine is free


@dataclass
class Serving:
    queue: JobQueue
    worker: Worker
    request: JobRequest


@pytest.fixture(scope="module")
def serving(
    tmp_path_factory: pytest.TempPathFactory, small_slide: Path, tiny_in_registry: str
) -> Iterator[Serving]:
    """One worker for all tests of this file; none of them ends it."""
    folder = tmp_path_factory.mktemp("serving")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEM_HOME", str(folder / "home"))
        queue = JobQueue()
        upload = uploads.store_upload(small_slide.read_bytes(), "slide.png")
        request = make_request(
            upload.id, model=tiny_in_registry, mpp=1.0, layout="grid", pitch_um=60.0
        )
        worker = Worker(folder / "worker.out")
        yield Serving(queue, worker, request)
        worker.kill()
        queue.close()


def test_a_run_goes_through_its_stages_and_its_files_are_there(serving: Serving) -> None:
    queue, worker, slide_request = serving.queue, serving.worker, serving.request
    first, second = (queue.submit(replace(slide_request, seed=seed)) for seed in (1, 2))
    stages: list[str] = []
    both_running = []

    def look(status: JobStatus) -> bool:
        both_running.append(status.state == queue.status(second).state == "running")
        stages.append(status.stage)
        return status.finished

    done = wait_until(queue, first, look)
    assert done.state == "done", done.message
    assert not any(both_running)
    order = [stage for stage in ("prepare", "survey", "predict", "write") if stage in stages]
    assert sorted(set(stages) - {""}, key=stages.index) == order
    assert done.n_spots is not None
    assert (done.started_s or 0) < (done.finished_s or 0)
    assert sorted(path.name for path in queue.result_dir(first).iterdir()) == sorted(FILE_NAMES)
    lines = (queue.result_dir(first) / "expression.csv").read_text().splitlines()
    assert len(lines) == done.n_spots + 1
    preview = queue.preview_file(first)
    assert preview is not None
    assert preview.read_bytes()[:2] == b"\xff\xd8"
    prediction = read_prediction(queue.result_dir(first) / "prediction.h5ad")
    assert prediction.slide_name == "Case 7, level 2.svs"
    assert wait_until(queue, second).state == "done"
    assert _network_sockets(worker.process.pid) == set()
    beat = json.loads(paths.heartbeat_file().read_text(encoding="utf-8"))
    assert beat["pid"] == worker.process.pid


@pytest.mark.parametrize(
    ("rows", "pitch_um"), [("450,350\n", None), ("450,350\n250,350\n", pytest.approx(200.0))]
)
def test_one_and_two_spots_are_predicted(
    serving: Serving, rows: str, pitch_um: float | None
) -> None:
    queue, file = serving.queue, uploads.store_upload(f"x_px,y_px\n{rows}".encode(), "spots.csv")
    job_id = queue.submit(
        replace(serving.request, spots_kind="file", spots_upload_id=file.id, layout=None)
    )
    done = wait_until(queue, job_id)
    assert (done.state, done.n_spots) == ("done", rows.count("\n")), done.message
    record = json.loads((queue.result_dir(job_id) / "run.json").read_text(encoding="utf-8"))
    assert record["spots"]["pitch_um"] == pitch_um
    prediction = read_prediction(queue.result_dir(job_id) / "prediction.h5ad")
    assert prediction.spots.pitch_um == pitch_um
    assert len(prediction.mean) == done.n_spots


def test_failures_have_a_sentence_and_faults_a_number(serving: Serving) -> None:
    queue, slide_request = serving.queue, serving.request
    no_image = uploads.store_upload(b"this is not an image", "x.png").id
    unknown_model = queue.submit(replace(slide_request, model="no-such-model"))
    not_an_image = queue.submit(replace(slide_request, upload_id=no_image, mpp=0.5))
    bad_spots = uploads.store_upload(b"a,b\n1,2\n", "spots.csv").id
    wrong_columns = queue.submit(
        replace(slide_request, spots_kind="file", spots_upload_id=bad_spots)
    )
    with pytest.raises(SettingsError, match="no sampler 'magic'"):
        queue.submit(replace(slide_request, sampler="magic"))
    upload_gone = queue.submit(
        replace(slide_request, upload_id=uploads.store_upload(b"x", "x.tif").id)
    )
    uploads.remove_upload(queue.status(upload_gone).request.upload_id)
    worn_out = queue.submit(slide_request)
    folder = JobFolder(worn_out)
    folder.write_progress(replace(folder.read_progress(), attempts=3))
    faulty = queue.submit(slide_request)
    JobFolder(faulty).chunks_dir.write_text("a file where a folder should be", encoding="utf-8")
    full = queue.submit(slide_request)
    if Path("/dev/full").exists():
        (JobFolder(full).path / ".spots.csv.partial").symlink_to("/dev/full")
    good = queue.submit(slide_request)
    assert wait_until(queue, good).state == "done"

    def message(job_id: str) -> str:
        status = queue.status(job_id)
        assert status.state == "failed"
        assert status.finished_s is not None
        return status.message

    assert "no-such-model" in message(unknown_model)
    assert "Case 7, level 2.svs" in message(not_an_image)
    assert "x_px" in message(wrong_columns)
    assert "upload it again" in message(upload_gone)
    assert "The worker stopped 3 times" in message(worn_out)
    if Path("/dev/full").exists():
        assert "is full" in message(full)
    reference = message(faulty).split()[-1].rstrip(".")
    assert reference.startswith("F-")
    assert "Error" not in message(faulty)
    log = paths.log_file().read_text(encoding="utf-8")
    assert reference in log
    assert "Traceback" in log
    for sentence in map(message, (unknown_model, not_an_image, wrong_columns)):
        assert str(paths.home()) not in sentence
        assert "\n" not in sentence


def test_cancelling_and_deleting_do_not_wait_for_the_piece_of_work_in_progress(
    serving: Serving,
) -> None:
    queue, slide_request = serving.queue, serving.request
    endless = replace(slide_request, steps=1000, samples=200)  # ten minutes a chunk at best
    in_pieces = replace(slide_request, steps=10, samples=8, pitch_um=36.0)
    cancelled, deleted, after = map(queue.submit, (endless, in_pieces, slide_request))
    wait_until(queue, cancelled, lambda status: status.stage == "predict")
    time.sleep(0.5)
    queue.cancel(cancelled)
    assert queue.status(cancelled).state == "cancelled"
    began_s = time.monotonic()
    while state_on_disk(cancelled) != "cancelled":
        assert time.monotonic() - began_s < STOP_LIMIT_S, "still at work"
        time.sleep(0.15)
    wait_until(queue, deleted, lambda status: status.stage == "predict")
    time.sleep(0.5)
    began_s = time.monotonic()
    queue.delete(deleted)
    assert time.monotonic() - began_s < STOP_LIMIT_S
    assert not (paths.jobs_dir() / deleted).exists()
    assert wait_until(queue, after).state == "done"
    assert not (paths.jobs_dir() / deleted).exists()
    with sqlite3.connect(paths.database_file()) as database:
        ids = {row[0] for row in database.execute("SELECT workflow_uuid FROM workflow_status")}
    assert {cancelled, after} <= ids
    assert deleted not in ids


def _network_sockets(pid: int) -> set[str]:
    """Return the internet sockets a process holds, open or listening (Linux)."""
    folder = Path(f"/proc/{pid}/fd")
    if not folder.exists():
        return set()
    held = set()
    for name in os.listdir(folder):  # noqa: PTH208
        try:
            held.add(os.readlink(folder / name))  # noqa: PTH115
        except OSError:
            continue
    found = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            if f"socket:[{line.split()[9]}]" in held:
                found.add(f"{table} {line}")
    return found
