"""Several workers on one home: runs at the same time, and none lost with its worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from app import paths
from app.jobs.model import JobRequest
from app.jobs.queue import JobQueue
from app.jobs.worker import NUMBER_VARIABLE, worker_name
from app.launch import Supervisor

from .running import Worker, state_on_disk, wait_until


def test_two_workers_share_the_queue_and_the_living_takes_over(
    queue: JobQueue, start_worker: Callable[..., Worker], slide_request: JobRequest
) -> None:
    slow = replace(slide_request, steps=8, samples=8)
    runs = [queue.submit(slow) for _ in range(2)]
    workers = [start_worker(number) for number in (0, 1)]
    for run in runs:  # both at work, which one worker never is
        wait_until(queue, run, lambda status: status.state == "running" and status.done > 0)
    assert [state_on_disk(run) for run in runs] == ["running", "running"]
    assert {path.name for path in paths.heartbeat_files()} == {"worker.json", "worker-1.json"}
    workers[1].kill()
    for run in runs:
        assert wait_until(queue, run).state == "done"
    assert workers[0].stop() == 0


@pytest.mark.parametrize(("visible", "expected"), [("", ["0", "1", "2"]), ("4,7", ["4", "7", "4"])])
def test_each_worker_gets_a_gpu(
    visible: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    chosen = [Supervisor(number, 3)._environment for number in range(3)]
    assert [c["CUDA_VISIBLE_DEVICES"] for c in chosen] == expected
    assert [c[NUMBER_VARIABLE] for c in chosen] == ["0", "1", "2"]
    assert "CUDA_VISIBLE_DEVICES" not in Supervisor()._environment  # a single one sees them all


@pytest.mark.parametrize(
    ("number", "name"), [("0", "worker"), ("3", "worker-3"), ("../x", "worker")]
)
def test_names_of_workers(number: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NUMBER_VARIABLE, number)
    assert worker_name() == name
