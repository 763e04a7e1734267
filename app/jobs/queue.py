"""The pages' side of the jobs: submit, look, cancel, delete. Nothing is computed here.

Runs wait in a DBOS queue on embedded SQLite and are carried out by the worker process
(`app.jobs.worker`). Progress is read from the run's folder, the place in the queue from DBOS.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from app import paths, uploads
from app.jobs.database import QUEUE_NAME, database_error, open_client
from app.jobs.folder import JobFolder, Progress, all_job_ids, find_folder
from app.jobs.model import FINAL_STATES, JobRequest, JobState, JobStatus, new_job_id
from stem_core.errors import JobError, OutputError
from stem_core.files import unwritable_as

if TYPE_CHECKING:
    from dbos import DBOSClient

__all__ = [
    "MOST_WAITING",
    "WORKFLOW_NAME",
    "JobQueue",
    "uploads_in_use",
    "worker_alive",
]

WORKFLOW_NAME = "predict_slide"
MOST_WAITING = 100
_HEARTBEAT_LIMIT_S = 6.0
_STOP_WAIT_S = 10.0
_SUBMIT_LIMIT_S = 60.0
_WAITING = frozenset({"ENQUEUED", "DELAYED"})


class JobQueue:
    """All runs of this installation; safe to share between threads (`st.cache_resource`)."""

    def __init__(self) -> None:
        self._client: DBOSClient | None = None
        self._lock = threading.Lock()

    def submit(self, request: JobRequest) -> str:
        """Queue a run and return its id.

        Raises
        ------
        JobError
            An upload is gone, or too many runs wait already.
        OutputError
            The app's folder cannot be written.
        """
        uploads.upload_path(request.upload_id)
        if request.spots_upload_id is not None:
            uploads.upload_path(request.spots_upload_id)
        with self._database() as client:
            waiting = client.list_queued_workflows(
                queue_name=QUEUE_NAME, status="ENQUEUED", load_input=False, limit=MOST_WAITING
            )
            if len(waiting) >= MOST_WAITING:
                msg = (
                    f"{MOST_WAITING} runs are waiting already; start this one when some of "
                    "them are done."
                )
                raise JobError(msg)
            folder = JobFolder(new_job_id())
            try:
                with unwritable_as(folder.path, f"Free space in {paths.home()}."):
                    folder.make(request)
                client.enqueue(
                    {
                        "queue_name": QUEUE_NAME,
                        "workflow_name": WORKFLOW_NAME,
                        "workflow_id": folder.id,
                    },
                    folder.id,
                )
            except (OutputError, SQLAlchemyError):
                folder.remove()
                raise
        return folder.id

    def status(self, job_id: str) -> JobStatus:
        """Return how a run stands.

        Raises
        ------
        JobError
            The id is malformed or unknown.
        """
        return self._statuses([find_folder(job_id)])[0]

    def list(self) -> list[JobStatus]:
        """Return all runs, newest first; a run whose request is damaged is left out."""
        folders = [JobFolder(job_id) for job_id in all_job_ids()]
        return sorted(
            self._statuses(folders, skip_damaged=True),
            key=lambda status: -(status.created_s or 0.0),
        )

    def cancel(self, job_id: str) -> None:
        """Stop a run: a waiting one never starts, a running one stops within about two seconds.

        A finished run stays as it is.

        Raises
        ------
        JobError
            The id is malformed or unknown.
        """
        folder = find_folder(job_id)
        if folder.read_progress().state in FINAL_STATES:
            return
        folder.ask_to_cancel()
        with self._database() as client:
            rows = client.list_workflows(
                workflow_ids=[folder.id], load_input=False, load_output=False
            )
            if rows and rows[0].status in _WAITING:
                client.cancel_workflow(folder.id)

    def delete(self, job_id: str) -> None:
        """Remove a run with all its files, its uploads that no other run uses, and its queue entry.

        A running run is cancelled first; the call waits until the worker has let go of it.

        Raises
        ------
        JobError
            The id is malformed or unknown.
        """
        folder = find_folder(job_id)
        self.cancel(job_id)
        give_up = time.monotonic() + _STOP_WAIT_S
        while _held_by_worker(folder) and time.monotonic() < give_up:
            time.sleep(0.1)
        request = _request_or_none(folder)
        folder.remove()
        with self._database() as client:
            client.delete_workflow(folder.id)
        if request is not None:
            kept = uploads_in_use()
            for upload_id in {request.upload_id, request.spots_upload_id} - {None} - kept:
                uploads.remove_upload(str(upload_id))

    def result_dir(self, job_id: str) -> Path:
        """Return the folder with the result of a finished run.

        Raises
        ------
        JobError
            The id is malformed or unknown, or the run has no result (yet).
        """
        folder = find_folder(job_id)
        if folder.read_progress().state != "done" or not folder.result_dir.is_dir():
            msg = "This run has no result yet; wait until it is done."
            raise JobError(msg)
        return folder.result_dir

    def preview_file(self, job_id: str) -> Path | None:
        """Return the run's small picture of the slide (JPEG), or None where there is none yet."""
        path = find_folder(job_id).preview_file
        return path if path.is_file() else None

    def worker_alive(self) -> bool:
        """Whether a worker is there to carry runs out."""
        return worker_alive()

    def close(self) -> None:
        """Let go of the database."""
        with self._lock:
            if self._client is not None:
                self._client.destroy()
                self._client = None

    @contextmanager
    def _database(self) -> Iterator[DBOSClient]:
        try:
            yield self._connected()
        except SQLAlchemyError as error:
            raise database_error(paths.database_file(), error) from error

    def _connected(self) -> DBOSClient:
        with self._lock:
            if self._client is None:
                self._client = open_client(paths.database_file())
            return self._client

    def _statuses(
        self, folders: Sequence[JobFolder], *, skip_damaged: bool = False
    ) -> Sequence[JobStatus]:
        found: list[tuple[JobFolder, JobRequest, Progress]] = []
        for folder in folders:
            try:
                found.append((folder, folder.read_request(), folder.read_progress()))
            except JobError:
                if not skip_damaged:
                    raise
        rows: dict[str, str] = {}
        positions: dict[str, int] = {}
        open_ids = [
            folder.id for folder, _, progress in found if progress.state not in FINAL_STATES
        ]
        if open_ids:
            with self._database() as client:
                listed = client.list_workflows(
                    workflow_ids=open_ids, load_input=False, load_output=False
                )
                rows = {row.workflow_id: row.status for row in listed}
                queue = client.list_queued_workflows(
                    queue_name=QUEUE_NAME, status="ENQUEUED", load_input=False, load_output=False
                )
                positions = {row.workflow_id: place for place, row in enumerate(queue, start=1)}
        alive = worker_alive()
        return [
            _status(folder, request, progress, rows.get(folder.id), positions.get(folder.id), alive)
            for folder, request, progress in found
        ]


def _status(
    folder: JobFolder,
    request: JobRequest,
    progress: Progress,
    row: str | None,
    position: int | None,
    alive: bool,
) -> JobStatus:
    state: JobState = progress.state
    message = progress.message
    if state not in FINAL_STATES:
        progress_again = None
        if row is None or row not in (*_WAITING, "PENDING"):
            # DBOS is through with the run: its last status may have been written meanwhile.
            progress_again = folder.read_progress() if folder.exists() else None
            if row is None and time.time() - progress.created_s < _SUBMIT_LIMIT_S:
                progress_again = None  # being submitted right now
        if progress_again is not None and progress_again.state in FINAL_STATES:
            progress, state, message = progress_again, progress_again.state, progress_again.message
        elif folder.cancel_asked():
            state = "cancelled"
        elif progress_again is not None:
            state = "failed"
            message = "The run ended without a result; the log says more. Start it again."
        elif not alive:
            message = (
                "Waiting: no worker is running; it is started by `stem app` or `stem worker`."
                if state == "queued"
                else "The worker stopped; the run goes on at its last chunk when it is back."
            )
    return JobStatus(
        id=folder.id,
        state=state,
        stage=progress.stage,
        done=progress.done,
        total=progress.total,
        unit=progress.unit,
        queue_position=position if state == "queued" else None,
        created_s=progress.created_s,
        started_s=progress.started_s,
        finished_s=progress.finished_s,
        updated_s=progress.updated_s,
        eta_s=progress.eta_s if state == "running" else None,
        message=message,
        request=request,
        n_spots=progress.n_spots,
    )


def worker_alive() -> bool:
    """Whether a worker's heartbeat is fresh; a dead worker is noticed after six seconds."""
    return any(_beats(path) for path in paths.heartbeat_files())


def _beats(path: Path) -> bool:
    try:
        beat_s = float(json.loads(path.read_text(encoding="utf-8"))["time_s"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return abs(time.time() - beat_s) < _HEARTBEAT_LIMIT_S


def uploads_in_use() -> set[str]:
    """Return the ids of the uploads that runs refer to."""
    used: set[str] = set()
    for job_id in all_job_ids():
        request = _request_or_none(JobFolder(job_id))
        if request is not None:
            used.add(request.upload_id)
            if request.spots_upload_id is not None:
                used.add(request.spots_upload_id)
    return used


def _request_or_none(folder: JobFolder) -> JobRequest | None:
    try:
        return folder.read_request()
    except (JobError, ValueError):
        return None


def _held_by_worker(folder: JobFolder) -> bool:
    """Whether a worker may still be writing into the folder."""
    try:
        return folder.read_progress().state == "running" and worker_alive()
    except JobError:
        return False
