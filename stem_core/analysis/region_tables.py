"""The tables behind the charts of regions: values spot by spot, densities, mean z-scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stem_core.analysis.variogram import Floats
from stem_core.errors import SettingsError

__all__ = ["density", "differing_most", "mean_z_scores", "region_values", "unique_names"]

_BINS = 512  # values are counted in so many bins first, so that 100,000 spots cost what 500 do
_REACH = 3.0  # bandwidths that a density is drawn beyond the lowest and the highest value


def unique_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names, those that repeat with a number: A, B, A -> A (1), B, A (2)."""
    seen: dict[str, int] = {}
    out = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        out.append(f"{name} ({seen[name]})" if names.count(name) > 1 else name)
    taken = set(out)
    if len(taken) < len(out):  # somebody called a region "A (1)"
        out = [f"{place} · {name}" for place, name in enumerate(names, start=1)]
    return tuple(out)


def region_values(
    values: NDArray[np.floating[Any]],
    inside: Sequence[NDArray[np.bool_]],
    names: Sequence[str],
    ids: Sequence[str],
    x_px: Floats,
    y_px: Floats,
) -> pd.DataFrame:
    """List the values of a layer region by region, a row for each spot in each region.

    Parameters
    ----------
    values
        (N,); spots without a value (NaN) are left out.
    inside
        bool (N,) for each of the R regions.
    names
        Of the regions.
    ids, x_px, y_px
        Names and level-0 pixels of the spots, (N,).

    Returns
    -------
    DataFrame
        `region`, `spot`, `x_px`, `y_px`, `value`, in the order of the regions and spots; a region
        without spots has no row.
    """
    there = np.isfinite(values)
    rows = [np.flatnonzero(chosen & there) for chosen in inside]
    places = np.concatenate([*rows, np.empty(0, np.int64)]).astype(np.int64)
    return pd.DataFrame(
        {
            "region": np.repeat(np.asarray(names, dtype=object), [len(row) for row in rows]),
            "spot": np.asarray(ids, dtype=object)[places],
            "x_px": np.asarray(x_px)[places],
            "y_px": np.asarray(y_px)[places],
            "value": np.asarray(values)[places],
        }
    )


def density(values: NDArray[np.floating[Any]], points: int = 96) -> tuple[Floats, Floats]:
    """Estimate how the values of a region are spread: the outline of a violin.

    A Gaussian kernel of Scott's bandwidth (Scott 1992, s.d. × n^-1/5) over the values, which are
    counted in 512 bins first.

    Parameters
    ----------
    values
        (N,), finite.
    points
        Of the curve.

    Returns
    -------
    float64 arrays, shape (points,)
        Places, from 3 bandwidths below the lowest value to 3 above the highest, and the density
        there; its area is 1. Where all values are equal, one narrow peak.

    Raises
    ------
    SettingsError
        There is no value.
    """
    if not len(values):
        msg = "No value lies in the region, so nothing can be drawn; draw it larger."
        raise SettingsError(msg)
    y = values.astype(np.float64)
    low, high = float(y.min()), float(y.max())
    scale = float(y.std(ddof=1)) if len(y) > 1 else 0.0
    width = max(scale * len(y) ** -0.2, 1e-3 * max(1.0, abs(high)))
    places = np.linspace(low - _REACH * width, high + _REACH * width, points)
    if high > low:
        weight, edges = np.histogram(y, _BINS, (low, high))
        centres = (edges[:-1] + edges[1:]) / 2
    else:
        weight, centres = np.array([len(y)]), np.array([low])
    kernel = np.exp(-0.5 * ((places[:, None] - centres) / width) ** 2)
    return places, kernel @ weight / (len(y) * width * np.sqrt(2 * np.pi))


def mean_z_scores(
    values: NDArray[np.floating[Any]],
    inside: Sequence[NDArray[np.bool_]],
    names: Sequence[str],
    symbols: Sequence[str],
) -> pd.DataFrame:
    """Average the z-scores of every gene over the spots of each region.

    A gene's z-score is (value - mean) / standard deviation over all spots of the map.

    Parameters
    ----------
    values
        (N,G), finite.
    inside
        bool (N,) for each of the R regions; those without spots are left out.
    names
        Of the regions.
    symbols
        The G genes.

    Returns
    -------
    DataFrame
        Genes × regions; 0 for a gene that is the same everywhere.
    """
    mean = values.mean(0, dtype=np.float64)
    sd = values.std(0, dtype=np.float64)
    varies = sd > 1e-6 * np.maximum(1.0, np.abs(mean))
    columns = {}
    for name, chosen in zip(names, inside, strict=True):
        if chosen.any():
            difference = values[chosen].mean(0, dtype=np.float64) - mean
            columns[name] = np.where(varies, difference / np.where(varies, sd, 1.0), 0.0)
    index = pd.Index(list(symbols), name="gene", dtype=object)
    return pd.DataFrame(columns, index=index)


def differing_most(z: pd.DataFrame, number: int) -> list[str]:
    """Return the genes that differ most between regions, in the order of the table's regions.

    By the highest less the lowest mean z-score; with one region, by its distance from 0. Those
    that are highest in the first region come first, then those of the second, and so on, each by
    how high they are, so that a heat map shows blocks.

    Parameters
    ----------
    z
        Genes × regions, as `mean_z_scores` gives them, at least one region.
    number
        Most genes.
    """
    table = z.to_numpy(np.float64)
    span = np.abs(table[:, 0]) if table.shape[1] == 1 else np.ptp(table, axis=1)
    chosen = np.argsort(-span, kind="stable")[:number]
    top = table[chosen].argmax(axis=1)
    order = np.lexsort((-table[chosen, top], top))
    return [str(z.index[place]) for place in chosen[order]]
