"""Find where tissue lies on a slide."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from skimage import filters, measure, morphology

from stem_core.errors import NoTissueError
from stem_core.slides.reading import Slide

__all__ = ["TissueMask", "find_tissue"]

MASK_PX = 2048
MIN_FRACTION = 0.001
_DISC_POINTS = 89
_CHUNK = 20_000


@dataclass(frozen=True)
class TissueMask:
    """Where tissue lies.

    Attributes
    ----------
    mask
        bool, shape (h, w); true on tissue.
    scale_px
        Level-0 pixels per mask pixel.
    """

    mask: NDArray[np.bool_]
    scale_px: float

    def fraction(self) -> float:
        """Return the share of the slide that is tissue, 0 to 1."""
        return float(self.mask.mean())

    def fraction_at(
        self, x_px: ArrayLike, y_px: ArrayLike, diameter_px: float
    ) -> NDArray[np.float32]:
        """Return the share of each disc that is tissue; outside the slide is none.

        Parameters
        ----------
        x_px, y_px
            Centres in level-0 pixels, shape (N,).
        diameter_px
            Diameter of the discs in level-0 pixels.

        Returns
        -------
        float32, shape (N,), 0 to 1
        """
        x = np.atleast_1d(np.asarray(x_px, dtype=np.float64)) / self.scale_px
        y = np.atleast_1d(np.asarray(y_px, dtype=np.float64)) / self.scale_px
        # points of equal area each (a sunflower), so their mean is the share of the disc
        turn = np.pi * (3.0 - np.sqrt(5.0))
        point = np.arange(_DISC_POINTS)
        radius = np.sqrt((point + 0.5) / _DISC_POINTS) * diameter_px / 2 / self.scale_px
        dx, dy = radius * np.cos(point * turn), radius * np.sin(point * turn)
        height, width = self.mask.shape
        shares = np.empty(len(x), dtype=np.float32)
        for first in range(0, len(x), _CHUNK):
            part = slice(first, first + _CHUNK)
            columns = np.floor(x[part, None] + dx).astype(np.int64)
            rows = np.floor(y[part, None] + dy).astype(np.int64)
            inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
            hit = self.mask[rows.clip(0, height - 1), columns.clip(0, width - 1)] & inside
            shares[part] = hit.mean(axis=1)
        return shares


def find_tissue(slide: Slide) -> TissueMask:
    """Separate tissue from the empty glass by its stain.

    The optical density of the green channel, where both haematoxylin and eosin absorb, is measured
    against the slide's own glass colour, together with how much it exceeds the weaker of red and
    blue (grey dirt and shadows do not). Otsu's threshold is followed by closing, removal of specks
    and filling of small holes. Black borders and green or blue pen are left out.

    Raises
    ------
    NoTissueError
        Less than 0.1 % of the slide looks like tissue.
    """
    image = slide.thumbnail(MASK_PX)
    scale_px = slide.width_px / image.shape[1]
    mask = _mask(image)
    if mask.mean() < MIN_FRACTION:
        msg = (
            f"No tissue was found on {slide.path.name}: nothing on it has the colours of an H&E "
            "stain; check that the right image was given."
        )
        raise NoTissueError(msg)
    return TissueMask(mask=mask, scale_px=scale_px)


def _mask(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    height, width, _ = image.shape
    side = max(height, width)
    smooth = ndimage.gaussian_filter(image.astype(np.float32), sigma=(side / 1500, side / 1500, 0))
    dark = smooth.max(axis=2) < 60
    usable = ~dark
    if not usable.any():
        return np.zeros((height, width), dtype=bool)
    glass = np.maximum(np.percentile(smooth[usable], 98, axis=0), 150.0)
    density = np.log((glass + 1.0) / (smooth + 1.0)).clip(-0.2, 2.5)
    red, green, blue = (density[:, :, channel] for channel in range(3))
    pen = (red > 0.25) & (red > 1.35 * green)
    stain = (green - np.minimum(red, blue)).clip(0.0, None)
    signal = stain + 0.5 * green.clip(0.0, None)
    usable &= ~pen
    if not usable.any():
        return np.zeros((height, width), dtype=bool)
    threshold = filters.threshold_otsu(np.minimum(signal[usable], 0.8))
    found = (signal > np.clip(threshold * 0.75, 0.04, 0.2)) & usable
    unit = max(1, round(side / 700))
    found = ndimage.binary_closing(
        np.pad(found, 2 * unit), morphology.disk(unit), iterations=1
    )[2 * unit : -2 * unit, 2 * unit : -2 * unit]
    found = _without_small(found, side * side * 2e-4)
    return ~_without_small(~found, side * side * 1e-4)


def _without_small(mask: NDArray[np.bool_], min_px: float) -> NDArray[np.bool_]:
    """Drop connected parts of fewer than `min_px` pixels."""
    labels = measure.label(mask, connectivity=1)
    keep = np.bincount(labels.ravel()) >= min_px
    keep[0] = False
    return np.asarray(keep[labels], dtype=bool)
