"""Workers that are killed, stopped and doubled: no run is lost, no value changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from app.jobs.folder import JobFolder
from app.jobs.model import JobRequest
from app.jobs.queue import JobQueue
from app.jobs.run import CHUNK_SPOTS
from stem_core.prediction.result import read_prediction

from .running import Worker, state_on_disk, wait_for_worker, wait_until

StartWorker = Callable[[], Worker]


def test_a_killed_or_stopped_worker_costs_no_finished_chunk_and_changes_no_value(
    queue: JobQueue, start_worker: StartWorker, slide_request: JobRequest
) -> None:
    slow = replace(slide_request, steps=50, samples=8)
    undisturbed = queue.submit(slow)
    worker = start_worker()
    assert wait_until(queue, undisturbed).state == "done"

    disturbed = queue.submit(slow)
    folder = JobFolder(disturbed)
    wait_until(queue, disturbed, lambda status: status.stage == "predict" and status.done > 0)
    worker.kill()
    kept = {path: path.stat().st_mtime_ns for path in folder.chunks_dir.glob("0*.safetensors")}
    assert kept
    assert state_on_disk(disturbed) == "running"
    damaged = folder.chunk_file(len(kept))
    damaged.write_bytes(b"half a chunk")

    seen: dict[Path, int] = {}
    second = start_worker()

    def look(status: object) -> bool:
        seen.update({path: path.stat().st_mtime_ns for path in kept if path.exists()})
        return queue.status(disturbed).finished

    assert wait_until(queue, disturbed, look).state == "done"
    assert seen == kept
    for name in ("expression.csv", "uncertainty.csv", "genes.csv"):
        one, other = (queue.result_dir(run) / name for run in (undisturbed, disturbed))
        assert one.read_bytes() == other.read_bytes(), name
    one, other = (
        read_prediction(queue.result_dir(run) / "prediction.h5ad")
        for run in (undisturbed, disturbed)
    )
    for name in ("mean", "std", "q05", "q95", "domain_distance"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert len(one.spots) > 2 * CHUNK_SPOTS

    stopped = queue.submit(slow)
    wait_until(queue, stopped, lambda status: status.stage == "predict")
    assert second.stop() == 0
    assert not queue.worker_alive()
    assert queue.status(stopped).state == "running"
    assert "The worker stopped" in queue.status(stopped).message
    assert JobFolder(stopped).read_progress().attempts == 0
    third = start_worker()
    wait_for_worker()
    rival = start_worker()
    assert wait_until(queue, stopped).state == "done"
    expected = (queue.result_dir(undisturbed) / "expression.csv").read_bytes()
    assert (queue.result_dir(stopped) / "expression.csv").read_bytes() == expected
    assert rival.process.wait(30) == 2
    assert third.process.poll() is None
