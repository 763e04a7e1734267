"""Embed places on a slide, reading the next patches while the encoder works on the last ones."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stem_core.slides.patches import read_patches
from stem_core.slides.reading import Slide

if TYPE_CHECKING:
    from stem_core.encoders.condition import Encoder

__all__ = ["embed_places"]

_CHUNK = 64


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
) -> NDArray[np.float32]:
    """Embed the patches around places, 64 at a time and one such group ahead.

    Decoding and the encoder's arithmetic both let other threads run, so one thread that reads is
    enough to keep the encoder busy where it is the slower of the two.

    Parameters
    ----------
    slide, x_px, y_px, size_px, side_um, side_px
        As for `read_patches`.
    encoder
        That embeds.
    progress
        Told of places done and in all, from this thread.

    Returns
    -------
    float32 array, shape (N, width)
    """

    def read(start: int) -> NDArray[np.uint8]:
        return read_patches(
            slide,
            x_px[start : start + _CHUNK],
            y_px[start : start + _CHUNK],
            size_px=size_px,
            side_um=side_um,
            side_px=side_px,
        )

    if len(x_px) == 0:
        return encoder.encode(read(0))
    parts = []
    with ThreadPoolExecutor(1) as reader:
        ahead = reader.submit(read, 0)
        for start in range(0, len(x_px), _CHUNK):
            patches = ahead.result()
            if start + _CHUNK < len(x_px):
                ahead = reader.submit(read, start + _CHUNK)
            parts.append(encoder.encode(patches))
            if progress is not None:
                progress(min(start + _CHUNK, len(x_px)), len(x_px))
    return np.concatenate(parts)
