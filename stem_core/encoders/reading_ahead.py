"""Embed places on a slide, reading and preparing the next patches while the encoder works."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stem_core.encoders.patch_reader import PatchReader
from stem_core.encoders.preparation import Prepared
from stem_core.encoders.reading_process import ReadingProcess
from stem_core.slides.reading import Slide

if TYPE_CHECKING:
    from stem_core.encoders.condition import Encoder

__all__ = ["ReadingWorkers", "embed_places", "workers_for"]

_CHUNK = 64
_MOST_WORKERS = 8
_MOST_BYTES = 1 << 30  # of prepared patches that wait for the encoder
_FEWEST_CORES, _FEWEST_PATCHES = 4, 500
_DECODED_WHOLE = ("png", "jpeg", "tiff")


@dataclass(frozen=True)
class ReadingWorkers:
    """Who reads patches ahead.

    Attributes
    ----------
    count
        How many at a time, at least 1.
    processes
        Whether each is a process with a handle of the slide of its own, instead of a thread.
    """

    count: int
    processes: bool = False


def workers_for(slide: Slide, patches: int) -> ReadingWorkers:
    """Choose who reads: at most 8 workers, and not more than this process has cores.

    Processes from 4 cores and 500 patches on. With fewer, threads are as fast and cost less: most
    of reading a patch is done without Python's lock. An image that is decoded whole is in memory
    once, so it is read by threads always.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    worth = cores >= _FEWEST_CORES and patches >= _FEWEST_PATCHES
    processes = worth and slide.format not in _DECODED_WHOLE
    return ReadingWorkers(min(_MOST_WORKERS, cores), processes)


def embed_places(
    slide: Slide,
    x_px: NDArray[np.float64],
    y_px: NDArray[np.float64],
    encoder: Encoder,
    *,
    size_px: int,
    side_um: float | None = None,
    side_px: float | None = None,
    progress: Callable[[int, int], None] | None = None,
    workers: ReadingWorkers | None = None,
) -> NDArray[np.float32]:
    """Embed the patches around places, 64 at a time, the next ones prepared ahead.

    The embeddings are the same, to the bit, whoever reads.

    Parameters
    ----------
    slide, x_px, y_px, size_px, side_um, side_px
        As for `read_patches`.
    encoder
        That embeds.
    progress
        Told of places done and in all, from this thread.
    workers
        Who reads; chosen by `workers_for` by default.

    Returns
    -------
    float32 array, shape (N, width)
    """
    reader = PatchReader(slide, size_px, side_um, side_px, encoder.preparation)
    if len(x_px) == 0:
        return encoder.encode_prepared(reader(x_px, y_px))
    parts = []
    with contextlib.closing(
        _prepared(reader, x_px, y_px, workers or workers_for(slide, len(x_px)))
    ) as groups:
        for number, prepared in enumerate(groups, 1):
            parts.append(encoder.encode_prepared(prepared))
            if progress is not None:
                progress(min(number * _CHUNK, len(x_px)), len(x_px))
    return np.concatenate(parts)


def _prepared(
    reader: PatchReader,
    x_px: NDArray[np.float64],
    y_px: NDArray[np.float64],
    workers: ReadingWorkers,
) -> Generator[Prepared, None, None]:
    """Give prepared patches group by group, in order; ends its workers when it is closed."""
    starts = deque(range(0, len(x_px), _CHUNK))
    count = min(workers.count, len(starts))
    waiting: deque[Future[Prepared]] = deque()
    with contextlib.ExitStack() as stack:
        idle: SimpleQueue[Callable[..., Prepared]] = SimpleQueue()
        pool = stack.enter_context(ThreadPoolExecutor(count))
        for _ in range(count):
            if workers.processes:
                process = ReadingProcess(reader)
                stack.callback(process.close)
                idle.put(process)
            else:
                idle.put(reader)
        # First of all when it ends: what was not begun is left, then the processes end, and with
        # them the threads that wait for them.
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)

        def read(start: int) -> Prepared:
            own = idle.get()
            try:
                return own(x_px[start : start + _CHUNK], y_px[start : start + _CHUNK])
            finally:
                idle.put(own)

        def submit(most: int) -> None:
            while starts and len(waiting) < most:
                waiting.append(pool.submit(read, starts.popleft()))

        submit(count)
        while waiting:
            prepared = waiting.popleft().result()
            # One more than are read at a time, so that nobody waits for the encoder.
            submit(max(1, min(count + 1, _MOST_BYTES // max(1, _size(prepared)))))
            yield prepared


def _size(prepared: Prepared) -> int:
    """Bytes of prepared patches."""
    if isinstance(prepared, tuple):
        return sum(_size(part) for part in prepared)
    return prepared.nbytes
