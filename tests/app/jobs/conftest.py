"""A home of its own for every test, and real worker processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app import uploads
from app.jobs.model import JobRequest
from app.jobs.queue import JobQueue
from stem_core.model.manifest import read_manifest

from .running import Worker, know_speeds, make_request


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    monkeypatch.setenv("STEM_HOME", str(home))
    monkeypatch.delenv("STEM_SLIDE_DIR", raising=False)
    return home


@pytest.fixture
def queue(home: Path) -> Iterator[JobQueue]:
    queue = JobQueue()
    yield queue
    queue.close()


@pytest.fixture
def start_worker(home: Path, tiny_model: Path, tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []
    know_speeds()

    def start(number: int = 0) -> Worker:
        workers.append(Worker(tmp_path / "worker.out", number))
        return workers[-1]

    yield start
    for worker in workers:
        if worker.process.poll() is None:
            worker.kill()


@pytest.fixture(scope="session")
def small_slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stained square on white, 900 × 700 px."""
    random = np.random.default_rng(0)
    pixels = np.full((700, 900, 3), 244, dtype=np.uint8)
    stain = np.array([186, 106, 168]) + random.integers(-40, 40, (560, 720, 1))
    pixels[70:630, 90:810] = np.clip(stain + random.integers(-12, 12, (560, 720, 3)), 0, 255)
    path = tmp_path_factory.mktemp("slide") / "slide.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="session")
def tiny_in_registry(tiny_model: Path) -> str:
    """The name under which the registry, in a worker process too, knows the tiny model."""
    return read_manifest(tiny_model / "config.json").name


@pytest.fixture
def slide_request(home: Path, small_slide: Path, tiny_in_registry: str) -> JobRequest:
    """Some 300 spots on the small slide: five chunks."""
    upload = uploads.store_upload(small_slide.read_bytes(), "slide.png")
    return make_request(upload.id, model=tiny_in_registry, mpp=1.0, layout="grid", pitch_um=36.0)
