"""Workers that are killed, stopped and doubled: no run is lost, no value changes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.jobs.draws_file import find_draws
from app.jobs.folder import JobFolder
from app.jobs.model import JobRequest, JobStatus
from app.jobs.queue import JobQueue
from app.jobs.run import CHUNK_SPOTS, Run, load_predictor
from stem_core.prediction.draws import singles_to_keep
from stem_core.prediction.result import read_prediction

from .running import LIMIT_S, Worker, state_on_disk, wait_for_worker, wait_until

StartWorker = Callable[[], Worker]


def test_a_killed_or_stopped_worker_costs_no_finished_chunk_and_changes_no_value(
    queue: JobQueue, start_worker: StartWorker, slide_request: JobRequest
) -> None:
    slow = replace(slide_request, steps=8, samples=8)
    undisturbed = queue.submit(slow)
    first = start_worker()
    assert wait_until(queue, undisturbed).state == "done"

    disturbed = queue.submit(slow)
    folder = JobFolder(disturbed)
    wait_until(queue, disturbed, lambda status: status.stage == "predict" and status.done > 0)
    first.kill()
    kept = _chunk_times(folder)
    assert kept
    assert state_on_disk(disturbed) == "running"
    damaged = folder.chunk_file(len(kept))
    damaged.write_bytes(b"half a chunk")

    second = start_worker()
    further = (len(kept) + 1) * CHUNK_SPOTS
    wait_until(queue, disturbed, lambda status: status.done >= further and _whole(damaged))
    assert second.stop() == 0
    assert not queue.worker_alive()
    assert queue.status(disturbed).state == "running"
    assert "The worker stopped" in queue.status(disturbed).message
    assert folder.read_progress().attempts == 0
    kept_longer = _chunk_times(folder)
    assert kept.items() <= kept_longer.items()
    assert damaged in kept_longer

    third = start_worker()
    wait_for_worker()
    rival = start_worker()
    seen: dict[Path, int] = {}

    def look(status: JobStatus) -> bool:
        seen.update(_chunk_times(folder))
        return status.finished

    assert wait_until(queue, disturbed, look).state == "done"
    assert kept_longer.items() <= seen.items()
    assert rival.process.wait(LIMIT_S) == 2
    assert third.process.poll() is None

    for name in ("expression.csv", "uncertainty.csv", "genes.csv"):
        one, other = (queue.result_dir(run) / name for run in (undisturbed, disturbed))
        assert one.read_bytes() == other.read_bytes(), name
    one, other = (
        read_prediction(queue.result_dir(run) / "prediction.h5ad")
        for run in (undisturbed, disturbed)
    )
    for name in ("mean", "std", "q05", "q95", "domain_distance"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert len(one.spots) > 4 * CHUNK_SPOTS
    files = [JobFolder(run).draws_file for run in (undisturbed, disturbed)]
    assert files[0].read_bytes() == files[1].read_bytes()
    _holds_single_draws(folder, one.mean)
    kept = find_draws(folder.draws_file)
    assert kept is not None
    np.testing.assert_array_equal(one.ridge, kept.baseline().clip(0))


def _holds_single_draws(folder: JobFolder, mean: NDArray[np.float32]) -> None:
    """The file holds the predictor's own samples, in half the digits, and the ridge baseline."""
    kept = find_draws(folder.draws_file)
    assert kept is not None and kept.has_baseline
    assert (kept.count, kept.made, kept.shape) == (8, 8, mean.shape)
    run = Run(folder, load_predictor)
    first = np.arange(CHUNK_SPOTS)
    spots = run.spots.take(first)
    condition = run.predictor.condition(run.slide, spots, run.survey)
    settings = run.request.settings
    samples = run.predictor.samples(condition, run.slide_level, spots.ids, settings)
    order = singles_to_keep(settings, *mean.shape)
    half = {"rtol": 1e-3, "atol": 2e-3}
    drawn = np.zeros(mean.shape)
    for gene in range(mean.shape[1]):
        for place, number in enumerate(order, start=1):
            draw = kept.draw(place, gene)
            np.testing.assert_allclose(draw[first], samples[:, number, gene], **half)
            drawn[:, gene] += draw / len(order)
    np.testing.assert_allclose(drawn.clip(0), mean, **half)  # all 8 were kept
    ridge = run.predictor.model.ridge
    assert ridge is not None
    np.testing.assert_allclose(kept.baseline()[first], ridge.predict(condition), **half)
    run.close()


def _chunk_times(folder: JobFolder) -> dict[Path, int]:
    """Return when each finished chunk was written; chunks go once the result is there."""
    times = {}
    for path in folder.chunks_dir.glob("0*.safetensors"):
        with contextlib.suppress(FileNotFoundError):
            times[path] = path.stat().st_mtime_ns
    return times


def _whole(chunk: Path) -> bool:
    return chunk.stat().st_size > 1000
