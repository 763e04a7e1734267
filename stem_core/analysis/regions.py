"""Regions of a map: which spots lie inside, and what they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stem_core.analysis.variogram import Floats
from stem_core.errors import SettingsError

__all__ = [
    "Region",
    "combine_regions",
    "describe_region",
    "spots_inside",
]

_COLOUR = "#377eb8"


@dataclass(frozen=True)
class Region:
    """A part of a slide with a name.

    Attributes
    ----------
    name
        Shown to people.
    polygons
        Closed rings in level-0 pixels, float64 (P,2) each (x, y), the last point not repeated.
        Together they follow the even-odd rule, so a ring inside another is a hole.
    spots
        Indices of spots, for a region that was chosen spot by spot; used where there is no ring.
    colour
        "#rrggbb".
    """

    name: str
    polygons: tuple[Floats, ...] = ()
    spots: tuple[int, ...] = ()
    colour: str = _COLOUR

    def inside(self, x_px: Floats, y_px: Floats) -> NDArray[np.bool_]:
        """Which of the spots at these level-0 pixels belong to the region, bool (N,)."""
        out = np.zeros(len(x_px), dtype=bool)
        for ring in self.polygons:
            out ^= spots_inside(ring, x_px, y_px)
        if not self.polygons:
            chosen = np.asarray(self.spots, dtype=np.int64)
            if len(chosen) and not (0 <= chosen.min() and chosen.max() < len(out)):
                msg = (
                    f"The region {self.name!r} names spot {int(chosen.max())}, but the map has "
                    f"{len(out):,} spots; draw the region again on this map."
                )
                raise SettingsError(msg)
            out[chosen] = True
        return out


def spots_inside(
    polygon: Floats | Sequence[tuple[float, float]], x_px: Floats, y_px: Floats
) -> NDArray[np.bool_]:
    """Which spots have their centre inside a polygon.

    The even-odd rule: a spot is inside where a ray to the right crosses the outline an odd number
    of times; where an outline crosses itself, the part that it encloses twice is outside. An edge
    counts from its upper end, included, to its lower end, excluded, and a crossing must lie
    strictly to the right: so of an upright rectangle the left and upper edges are inside, the
    right and lower ones are not, and rectangles side by side share no spot.

    Parameters
    ----------
    polygon
        (P,2) corners in level-0 pixels; closed by itself. Fewer than 3 enclose nothing.
    x_px, y_px
        Centres of the spots, (N,).

    Returns
    -------
    bool array, shape (N,)
    """
    corners = np.asarray(polygon, dtype=np.float64).reshape(-1, 2)
    x, y = np.asarray(x_px, dtype=np.float64), np.asarray(y_px, dtype=np.float64)
    inside = np.zeros(len(x), dtype=bool)
    if len(corners) < 3:
        return inside
    low, high = corners.min(0), corners.max(0)
    near = np.flatnonzero((low[0] <= x) & (x <= high[0]) & (low[1] <= y) & (y <= high[1]))
    x, y = x[near], y[near]
    odd = np.zeros(len(near), dtype=bool)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y0 != y1:
            crossing = x0 + (y - y0) * ((x1 - x0) / (y1 - y0))
            odd ^= ((y0 <= y) != (y1 <= y)) & (x < crossing)
    inside[near] = odd
    return inside


def combine_regions(regions: Sequence[Region], x_px: Floats, y_px: Floats) -> Region:
    """Return one region of the outlines of several, with the first one's name and colour.

    Raises
    ------
    SettingsError
        Outlines overlap at a spot, which the even-odd rule would leave out, or there is none.
    """
    rings = tuple(ring for region in regions for ring in region.polygons)
    out = Region(regions[0].name, rings, colour=regions[0].colour)
    together = np.any([region.inside(x_px, y_px) for region in regions], axis=0)
    lost = int((together & ~out.inside(x_px, y_px)).sum())
    if lost or not rings:
        msg = (
            f"The outlines of these regions overlap ({lost:,} spots are in more than one), so they "
            "cannot be combined; draw one outline around them instead."
        )
        raise SettingsError(msg)
    return out


def describe_region(
    values: NDArray[np.floating[Any]], inside: NDArray[np.bool_], symbols: Sequence[str]
) -> pd.DataFrame:
    """Summarise the values of a region.

    Parameters
    ----------
    values
        (N,G), log2(1 + count); spots without a value (NaN) are left out of a gene's figures.
    inside
        bool (N,).
    symbols
        The G genes.

    Returns
    -------
    DataFrame
        Indexed by gene: `n`, `mean`, `median`, `sd` (n - 1 below the line; NaN for one spot) and
        the quantiles `q05`, `q25`, `q75`, `q95` (numpy's, linear).

    Raises
    ------
    SettingsError
        No spot is inside.
    """
    if not inside.any():
        msg = "No spot lies inside the region, so there is nothing to describe; draw it larger."
        raise SettingsError(msg)
    table = pd.DataFrame(values[inside].astype(np.float64), columns=list(symbols))
    table.columns.name = "gene"
    quantiles = table.quantile([0.05, 0.25, 0.75, 0.95])
    out = pd.DataFrame(
        {"n": table.count(), "mean": table.mean(), "median": table.median(), "sd": table.std()}
    )
    for level in quantiles.index:
        out[f"q{round(100 * level):02d}"] = quantiles.loc[level]
    return out
