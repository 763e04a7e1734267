"""Cut square patches around spots, resampled to the size that the encoder expects."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stem_core.errors import SettingsError
from stem_core.slides.reading import Slide

__all__ = ["PAPER_MIN_PX", "paper_side_px", "read_patches"]

PAPER_MIN_PX = 224
_REGION_PX = 2048


def read_patches(
    slide: Slide,
    x_px: ArrayLike,
    y_px: ArrayLike,
    *,
    size_px: int,
    side_um: float | None = None,
    side_px: float | None = None,
) -> NDArray[np.uint8]:
    """Read a square patch around each spot, region by region of the slide.

    A patch depends on its own spot alone: any chunking of the spots gives the same pixels.

    Parameters
    ----------
    slide
        The slide; `side_um` needs its microns per pixel.
    x_px, y_px
        Spot centres in level-0 pixels, shape (N,).
    size_px
        Side of a returned patch in pixels.
    side_um
        Side of the patch on the tissue in microns.
    side_px
        Side in level-0 pixels instead (`paper` mode); the patch then begins on a whole pixel.

    Returns
    -------
    uint8, shape (N, 3, size_px, size_px), RGB
        White where a patch reaches beyond the slide.

    Raises
    ------
    SettingsError
        Not exactly one of `side_um` and `side_px`, or a side or size that is not positive.
    MppError
        `side_um` is asked for and the slide's microns per pixel are not known.
    """
    if (side_um is None) == (side_px is None):
        msg = "A patch needs its side either in microns (side_um) or in level-0 pixels (side_px)."
        raise SettingsError(msg)
    side = side_px if side_um is None else side_um / slide.require_mpp()
    if side is None or not (np.isfinite(side) and side > 0 and size_px > 0):
        msg = f"A patch of side {side_um or side_px} read as {size_px} px has no area."
        raise SettingsError(msg)
    left = np.atleast_1d(np.asarray(x_px, dtype=np.float64)) - side / 2
    top = np.atleast_1d(np.asarray(y_px, dtype=np.float64)) - side / 2
    if side_px is not None:
        left, top = np.rint(left), np.rint(top)
    patches = np.empty((len(left), 3, size_px, size_px), dtype=np.uint8)
    for index in _region_order(left, top, side):
        patch = slide.read_box(left[index], top[index], side, side, size_px, size_px)
        patches[index] = patch.transpose(2, 0, 1)
    return patches


def paper_side_px(slide: Slide, diameter_um: float) -> int:
    """Return the patch side of the publication: the spot diameter in pixels, at least 224.

    Raises
    ------
    MppError
        The slide's microns per pixel are not known.
    """
    return max(PAPER_MIN_PX, round(diameter_um / slide.require_mpp()))


def _region_order(left: NDArray[np.float64], top: NDArray[np.float64], side: float) -> list[int]:
    """Order in which neighbours follow each other, so that decoded tiles are used again."""
    region = max(_REGION_PX, 2 * side)
    rows, columns = np.floor(top / region), np.floor(left / region)
    return [int(index) for index in np.lexsort((left, top, columns, rows))]
