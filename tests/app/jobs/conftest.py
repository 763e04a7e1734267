"""A home of its own for every test, and real worker processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.jobs.queue import JobQueue

from .running import Worker


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
def start_worker(home: Path, tmp_path: Path) -> Iterator[Callable[[], Worker]]:
    workers: list[Worker] = []

    def start() -> Worker:
        workers.append(Worker(tmp_path / "worker.out"))
        return workers[-1]

    yield start
    for worker in workers:
        if worker.process.poll() is None:
            worker.kill()
