"""Find where tissue lies on a slide."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from skimage import filters, measure

from stem_core.errors import NoTissueError
from stem_core.slides.reading import Slide

__all__ = ["TissueMask", "find_tissue"]

MASK_PX = 1536
MIN_FRACTION = 0.001
_MIN_PART = 2e-4  # smallest piece and largest hole, as shares of the squared longer side
_MAX_HOLE = 5e-4
_MIN_SHARE = 0.004  # of the largest piece; smaller ones are crumbs and bubbles
_MIN_GRAIN = 2.0  # grey levels; empty glass has 0.5 to 1.5, tissue 10 and more
_BLACK = 60
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

    def __repr__(self) -> str:
        height, width = self.mask.shape
        return f"TissueMask({width} × {height} px, {self.fraction():.0%} tissue)"

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

    Haematoxylin and eosin both absorb green most; grey dirt and shadows absorb all colours alike.
    The optical density of green, measured against the slide's own glass, and its excess over red
    and blue are split by Otsu's threshold. Gaps are closed, specks dropped and small holes filled.
    Parts without the fine grain of tissue (smears, frames out of focus, shadows), black borders and
    blue or green pen are left out.

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
    nothing = np.zeros((height, width), dtype=bool)
    smooth = ndimage.gaussian_filter(image.astype(np.float32), sigma=(side / 1500, side / 1500, 0))
    usable = smooth.max(axis=2) >= _BLACK
    if not usable.any():
        return nothing
    glass = np.maximum(np.percentile(smooth[usable], 98, axis=0), 190.0)
    density = np.log((glass + 1.0) / (smooth + 1.0)).clip(-0.2, 2.5)
    red, green, blue = (density[:, :, channel] for channel in range(3))
    usable &= ~((red > 0.25) & (red > 1.35 * green))  # pen
    if not usable.any():
        return nothing
    signal = (green - np.minimum(red, blue)).clip(0.0, None) + 0.5 * green.clip(0.0, None)
    threshold = filters.threshold_otsu(np.minimum(signal[usable], 0.8))
    found = _closed((signal > np.clip(threshold * 0.75, 0.04, 0.17)) & usable, side / 400)
    found = _with_grain(found, _grain(image, side), side * side * _MIN_PART)
    return ~_without_small(~found, side * side * _MAX_HOLE)


def _grain(image: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
    """How much the green channel varies from one nucleus or fibre to the next, in grey levels."""
    green = image[:, :, 1].astype(np.float32)
    fine = green - ndimage.gaussian_filter(green, max(1.5, side / 800))
    fine = ndimage.gaussian_filter(fine, side / 3000)
    power = ndimage.gaussian_filter(fine * fine, side / 256)
    return np.asarray(np.sqrt(power), dtype=np.float32)


def _with_grain(
    found: NDArray[np.bool_], grain: NDArray[np.float32], min_px: float
) -> NDArray[np.bool_]:
    """Keep what has the grain of tissue; smears, shadows and frames out of focus have none."""
    large = _without_small(found, min_px)
    if not large.any():
        return large
    usual = float(grain[large].mean())
    large &= grain >= 0.2 * usual
    labels = measure.label(large, connectivity=1)
    area = np.bincount(labels.ravel())
    area[0] = 0
    of_part = np.bincount(labels.ravel(), weights=grain.ravel()) / np.maximum(area, 1)
    keep = of_part >= max(_MIN_GRAIN, 0.5 * usual)
    keep &= area >= max(min_px, _MIN_SHARE * area.max())
    return np.asarray(keep[labels], dtype=bool)


def _closed(mask: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
    """Close gaps up to twice the radius wide."""
    margin = math.ceil(radius) + 1
    near = ndimage.distance_transform_edt(~np.pad(mask, margin)) <= radius
    closed = ndimage.distance_transform_edt(near) > radius
    return np.asarray(closed[margin:-margin, margin:-margin] | mask, dtype=bool)


def _without_small(mask: NDArray[np.bool_], min_px: float) -> NDArray[np.bool_]:
    """Drop connected parts of fewer than `min_px` pixels."""
    labels = measure.label(mask, connectivity=1)
    keep = np.bincount(labels.ravel()) >= min_px
    keep[0] = False
    return np.asarray(keep[labels], dtype=bool)
