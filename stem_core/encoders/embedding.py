"""Encoders, and embedding places on a slide: the next patches are read while the encoder works."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from stem_core.encoders.preparation import Preparation, Prepared
from stem_core.slides.patches import PatchSpec, read_patches
from stem_core.slides.reading import Slide

__all__ = ["Embed", "Encoder", "embed_places", "encoder_repr"]

_CHUNK = 64
_MOST_THREADS = 8
_MOST_BYTES = 1 << 30  # of prepared patches that wait for the encoder


class Encoder(Protocol):
    """What makes embeddings: (N,3,P,P) uint8 -> (N,width) float32."""

    @property
    def name(self) -> str:
        """By which manifests refer to it."""
        ...

    @property
    def width(self) -> int:
        """Values per patch."""
        ...

    @property
    def sha256(self) -> str:
        """Of the weights file."""
        ...

    @property
    def arithmetic(self) -> str:
        """Precision and kind of device, such as `fp16 cuda`: what values depend on, besides."""
        ...

    @property
    def preparation(self) -> Preparation:
        """What is done to patches first, ahead and maybe in another process."""
        ...

    def encode(self, patches: NDArray[np.uint8], *, batch: int = 64) -> NDArray[np.float32]:
        """Embed patches."""
        ...

    def encode_prepared(self, prepared: Prepared) -> NDArray[np.float32]:
        """Embed what `preparation` made of patches, all at once."""
        ...

    def to(self, device: torch.device) -> None:
        """Move the weights."""
        ...


def encoder_repr(encoder: Encoder) -> str:
    """Describe an encoder on one line: its name, width and weights, but no network."""
    weights = f"sha256 {encoder.sha256[:12]}…" if encoder.sha256 else "weights not identified"
    return f"{type(encoder).__name__}({encoder.name}, {encoder.width} values a patch, {weights})"


class Embed(Protocol):
    """What finds the embeddings of the patches around places: `embed_places`, or what kept them."""

    def __call__(
        self,
        slide: Slide,
        x_px: NDArray[np.float64],
        y_px: NDArray[np.float64],
        encoder: Encoder,
        patch: PatchSpec,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.float32]:
        """Embed places, (N,) each: float32 (N,width)."""
        ...


def embed_places(
    slide: Slide,
    x_px: NDArray[np.float64],
    y_px: NDArray[np.float64],
    encoder: Encoder,
    patch: PatchSpec,
    *,
    progress: Callable[[int, int], None] | None = None,
    threads: int = 0,
) -> NDArray[np.float32]:
    """Embed the patches around places, 64 at a time, the next ones prepared ahead by threads.

    Decoding and resampling run outside Python's lock, so threads are quicker than processes (see
    docs/encoders.md). The embeddings are the same, to the bit, with any number of threads.

    Parameters
    ----------
    slide, x_px, y_px, patch
        As for `read_patches`.
    encoder
        That embeds.
    progress
        Told of places done and in all, from this thread.
    threads
        How many read; 0 for as many as this process has cores, at most 8.

    Returns
    -------
    float32 array, shape (N, width)
    """

    def prepare(start: int) -> Prepared:
        chunk = slice(start, start + _CHUNK)
        return encoder.preparation(read_patches(slide, x_px[chunk], y_px[chunk], patch))

    if len(x_px) == 0:
        return encoder.encode_prepared(prepare(0))
    parts = []
    starts = range(0, len(x_px), _CHUNK)
    with contextlib.closing(_ahead(prepare, starts, threads or _threads())) as groups:
        for prepared in groups:
            parts.append(encoder.encode_prepared(prepared))
            if progress is not None:
                progress(min(len(parts) * _CHUNK, len(x_px)), len(x_px))
    return np.concatenate(parts)


def _threads() -> int:
    if hasattr(os, "sched_getaffinity"):
        return min(_MOST_THREADS, len(os.sched_getaffinity(0)))
    return min(_MOST_THREADS, os.cpu_count() or 1)


def _ahead(
    prepare: Callable[[int], Prepared], starts: range, threads: int
) -> Generator[Prepared, None, None]:
    """Give prepared patches group by group, in order, a few groups ahead."""
    left = deque(starts)
    waiting: deque[Future[Prepared]] = deque()
    pool = ThreadPoolExecutor(min(threads, len(starts)), "patches")

    def submit(most: int) -> None:
        while left and len(waiting) < most:
            waiting.append(pool.submit(prepare, left.popleft()))

    try:
        submit(threads)
        while waiting:
            prepared = waiting.popleft().result()
            # One more than are read at a time, so that nobody waits for the encoder.
            submit(max(1, min(threads + 1, _MOST_BYTES // max(1, _size(prepared)))))
            yield prepared
    finally:
        pool.shutdown(cancel_futures=True)


def _size(prepared: Prepared) -> int:
    """Bytes of prepared patches."""
    if isinstance(prepared, tuple):
        return sum(_size(part) for part in prepared)
    return prepared.nbytes
