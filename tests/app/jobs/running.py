"""What several tests of the jobs need: a request, a real worker process, waiting."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from app import paths
from app.jobs.folder import JobFolder
from app.jobs.model import JobRequest, JobStatus
from app.jobs.queue import JobQueue, worker_alive
from app.jobs.speed import ModelSpeed
from app.jobs.worker import NUMBER_VARIABLE
from stem_core.files import folder_state, write_atomically
from tests.forked import Forked
from zoo.registry import list_models

REPOSITORY = Path(__file__).resolve().parents[3]
LIMIT_S = 240.0  # far beyond what anything here takes, for machines that do other work as well


def make_request(upload_id: str, **changes: object) -> JobRequest:
    values: dict[str, object] = {
        "upload_id": upload_id,
        "slide_name": "Case 7, level 2.svs",
        "model": "tiny",
        "mpp": None,
        "preset": "preview",
        "sampler": "ddim",
        "steps": 2,
        "samples": 2,
        "seed": 1,
        "spots_kind": "layout",
        "layout": None,
        "pitch_um": None,
        "spots_upload_id": None,
        "device": "cpu",
    }
    return JobRequest(**{**values, **changes})  # type: ignore[arg-type]


class Worker:
    """A worker in a process of its own, forked as `tests.forked` says.

    How the app and the command line start a worker is tested in `tests/app/test_server.py` and
    `tests/test_packaging.py`.
    """

    def __init__(self, log: Path, number: int = 0) -> None:
        environment = {
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "OMP_NUM_THREADS": "1",
            NUMBER_VARIABLE: str(number),
        }
        self.process = Forked("app.jobs.worker:main", [], environment, log.parent, log, log)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(LIMIT_S)


def know_speeds() -> None:
    """Write a speed of every model down, so that a new worker does not spend seconds measuring."""
    known = {
        entry.name: {
            "state": folder_state(entry.folder),
            "speed": asdict(ModelSpeed(0.01, 0.001, 0.001, "fp32")),
        }
        for entry in list_models()
    }
    write_atomically(paths.speed_file(), json.dumps(known))


def wait_until(
    queue: JobQueue,
    job_id: str,
    reached: Callable[[JobStatus], bool] = lambda status: status.finished,
    limit_s: float = LIMIT_S,
) -> JobStatus:
    give_up_s = time.monotonic() + limit_s
    while time.monotonic() < give_up_s:
        status = queue.status(job_id)
        if reached(status):
            return status
        assert not status.finished, f"{status.state}: {status.message}"
        time.sleep(0.15)  # each look asks the database; the worker needs the core as well
    msg = f"not reached in {limit_s} s: {queue.status(job_id)}"
    raise AssertionError(msg)


def wait_for_worker(limit_s: float = LIMIT_S) -> None:
    give_up_s = time.monotonic() + limit_s
    while not worker_alive():
        assert time.monotonic() < give_up_s, "no heartbeat"
        time.sleep(0.15)


def state_on_disk(job_id: str) -> str:
    return JobFolder(job_id).read_progress().state
