"""Cut square patches around spots, resampled to the size that the encoder expects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stem_core.errors import SettingsError
from stem_core.slides.reading import Slide

__all__ = ["PAPER_MIN_PX", "PatchSpec", "paper_side_px", "read_patches"]

PAPER_MIN_PX = 224
_REGION_PX = 2048


@dataclass(frozen=True)
class PatchSpec:
    """Which square is read around a place, and as how many pixels.

    Attributes
    ----------
    size_px
        Side of the patch that is returned, in pixels.
    side_um
        Side on the tissue in microns …
    side_px
        … or in level-0 pixels (`paper` mode); such a patch begins on a whole pixel.

    Raises
    ------
    SettingsError
        Not exactly one of `side_um` and `side_px`, or a side or size that is not positive.
    """

    size_px: int
    side_um: float | None = None
    side_px: float | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        if (self.side_um is None) == (self.side_px is None):
            msg = (
                "A patch needs its side either in microns (side_um) or in level-0 pixels (side_px)."
            )
            raise SettingsError(msg)
        side = self.side_um or self.side_px
        if not side or not (np.isfinite(side) and side > 0 and self.size_px > 0):
            msg = f"A patch of side {side} read as {self.size_px} px has no area."
            raise SettingsError(msg)

    def level0_px(self, slide: Slide) -> float:
        """Return its side in level-0 pixels of a slide.

        Raises
        ------
        MppError
            The side is in microns and the slide's microns per pixel are not known.
        """
        if self.side_px is not None:
            return self.side_px
        assert self.side_um is not None
        return self.side_um / slide.require_mpp()


def read_patches(
    slide: Slide, x_px: ArrayLike, y_px: ArrayLike, patch: PatchSpec
) -> NDArray[np.uint8]:
    """Read a square patch around each spot, region by region of the slide.

    A patch depends on its own spot alone: any chunking of the spots gives the same pixels.

    Parameters
    ----------
    slide
        The slide.
    x_px, y_px
        Spot centres in level-0 pixels, shape (N,).
    patch
        What is read.

    Returns
    -------
    uint8, shape (N, 3, size_px, size_px), RGB
        White where a patch reaches beyond the slide.

    Raises
    ------
    MppError
        The side is in microns and the slide's microns per pixel are not known.
    """
    side, size_px = patch.level0_px(slide), patch.size_px
    left = np.atleast_1d(np.asarray(x_px, dtype=np.float64)) - side / 2
    top = np.atleast_1d(np.asarray(y_px, dtype=np.float64)) - side / 2
    if patch.side_px is not None:
        left, top = np.rint(left), np.rint(top)
    patches = np.empty((len(left), 3, size_px, size_px), dtype=np.uint8)
    for index in _region_order(left, top, side):
        box = slide.read_box(left[index], top[index], side, side, size_px, size_px)
        patches[index] = box.transpose(2, 0, 1)
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
