"""Genes that differ between two regions of a map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial import cKDTree

from stem_core.analysis.variogram import Floats, fit_variogram, median_pitch
from stem_core.errors import SettingsError

__all__ = ["LEAST_P", "MIN_SPOTS", "adjusted_p", "compare_regions", "place_regions"]

MIN_SPOTS = 5
_PLACEMENTS = 999
_FEWEST_PLACEMENTS = 199
LEAST_P = 1 / (_PLACEMENTS + 1)
"""The smallest p there is with the usual number of placements."""


def compare_regions(
    values: NDArray[np.floating[Any]],
    inside_a: NDArray[np.bool_],
    inside_b: NDArray[np.bool_] | None,
    x_um: Floats,
    y_um: Floats,
    symbols: Sequence[str],
    *,
    std: NDArray[np.floating[Any]] | None = None,
    draws: int = 1,
    placements: int = _PLACEMENTS,
    seed: int = 0,
    on_progress: Callable[[float], None] | None = None,
) -> pd.DataFrame:
    """Find the genes that differ between two regions by more than any two places of the map do.

    Spots of a tissue resemble their neighbours, so any two places differ, and a t test over spots
    finds that half of all genes do. Here the difference of the two averages is divided by its
    standard error under the gene's own variogram (see `variogram`), which holds the sampling
    error of the draws; where the spread of the draws is given, spots count by their own. Then the
    two shapes, turned, mirrored and moved together, are laid elsewhere on the tissue many times,
    and p is the share of all places (the chosen one among them) where the difference is at least
    as large in standard errors (Monte Carlo test of Barnard 1963). So p is the answer to: would
    regions of these shapes, drawn without looking, differ as much? Where the regions are so large
    that they fit nowhere else, p is that of the standard error and a normal distribution.

    Parameters
    ----------
    values
        (N,G), log2(1 + count). Spots without any value (a row of NaN) are left out; a gene that
        lacks some of the rest has NaN figures.
    inside_a, inside_b
        bool (N,). Without b, region a is compared with all the rest.
    x_um, y_um
        Positions of the spots, (N,), in microns.
    symbols
        The G genes.
    std, draws
        (N,G) spread of the draws of each spot and their number K.
    placements
        How often the shapes are laid elsewhere; p is never below 1 / (placements + 1).
    seed
        Of the placements.
    on_progress
        Called with the share that is done, 0 to 1.

    Returns
    -------
    DataFrame
        Indexed by gene, the smallest p first: `mean_a`, `mean_b`, `difference` (a - b, in log2),
        `standard_error`, `effect` (difference over the pooled standard deviation of the spots,
        Cohen's d), `p`, `p_adjusted` (Benjamini and Hochberg 1995) and `method` ("placements" or
        "variogram").

    Raises
    ------
    SettingsError
        A region has fewer than 5 spots, or a spot is in both.
    """
    present = ~np.isnan(values).all(axis=1)
    if not present.all():
        values, x_um, y_um = values[present], x_um[present], y_um[present]
        inside_a = inside_a[present]
        inside_b = None if inside_b is None else inside_b[present]
        std = None if std is None else std[present]
    rest = inside_b is None
    in_b = ~inside_a if inside_b is None else inside_b
    _check_regions(inside_a, in_b, rest)
    kept = np.isfinite(values).all(axis=0)
    y = values[:, kept].astype(np.float64)
    a, b = np.flatnonzero(inside_a), np.flatnonzero(in_b)
    pitch_um = median_pitch(x_um, y_um)
    if pitch_um is None:
        msg = "All spots lie in one place, so no region can be compared; check the positions."
        raise SettingsError(msg)
    random = np.random.default_rng(seed)
    variogram = fit_variogram(y, x_um, y_um, pitch_um, seed)
    places = place_regions(variogram.points, a, None if rest else b, placements, random)
    enough = len(places) >= min(_FEWEST_PLACEMENTS, placements)
    pairs = [(a, b), *(places if enough else ())]
    sums, weights, own = _Sums(y), np.empty((len(pairs), len(variogram.table))), None
    found = np.empty((len(pairs), y.shape[1]))
    if std is not None:
        sampling = _Sums(std[:, kept].astype(np.float64) ** 2 / max(draws, 1))
        own, usual = np.empty_like(found), np.empty_like(found)
    for number, (one, other) in enumerate(pairs):
        n_one, n_other = len(one), len(other)
        weights[number] = variogram.difference_weights(one, other, random)
        sum_one, sum_other = sums.of_pair(one, other, rest)
        found[number] = sum_one / n_one - sum_other / n_other
        if own is not None:
            sum_one, sum_other = sampling.of_pair(one, other, rest)
            own[number] = sum_one / n_one**2 + sum_other / n_other**2
            usual[number] = sampling.whole / len(y) * (1 / n_one + 1 / n_other)
        if on_progress is not None:
            on_progress((number + 1) / len(pairs))
    variance = variogram.difference_variance(weights)
    if own is not None:  # the variogram holds the usual sampling error of a spot already
        variance = np.maximum(variance + own - usual, own)
    z = np.abs(_ratio(found, variance))
    if enough:
        p, method = (z >= z[0] * (1 - 1e-9)).mean(0), "placements"
    else:
        p, method = 2 * stats.norm.sf(z[0]), "variogram"
    table = pd.DataFrame(
        {"mean_a": y[a].mean(0), "mean_b": y[b].mean(0), "difference": found[0]},
        index=pd.Index(np.asarray(symbols, dtype=object)[kept], name="gene", dtype=object),
    )
    table["standard_error"] = np.sqrt(variance[0])
    table["effect"] = _effect(found[0], y[a], y[b])
    table["p"] = p
    table["p_adjusted"] = adjusted_p(p)
    # of equal p the largest in standard errors first
    table = table.iloc[np.lexsort((-z[0], p))]
    missing = [symbol for symbol, there in zip(symbols, kept, strict=True) if not there]
    table = table.reindex([*table.index, *missing])
    table.index.name = "gene"
    table["method"] = method
    return table


def adjusted_p(p: Floats) -> Floats:
    """Adjust for the number of tests so that the false discovery rate is held, (G,) -> (G,).

    Benjamini & Hochberg 1995, step-up.
    """
    n = len(p)
    order = np.argsort(p)[::-1]
    steps = p[order] * n / np.arange(n, 0, -1)
    out = np.empty(n)
    out[order] = np.minimum(np.minimum.accumulate(steps), 1.0)
    return out


class _Sums:
    """A table (N,G) and its sum over all spots."""

    def __init__(self, table: Floats) -> None:
        self.table = table
        self.whole: Floats = table.sum(0)

    def of_pair(
        self, one: NDArray[np.int64], other: NDArray[np.int64], rest: bool
    ) -> tuple[Floats, Floats]:
        """Over each of two sides, (G,); if they are all, one from what the other leaves."""
        if rest and len(one) > len(other):
            less: Floats = self.table[other].sum(0)
            return self.whole - less, less
        first: Floats = self.table[one].sum(0)
        return first, self.whole - first if rest else self.table[other].sum(0)


def _check_regions(a: NDArray[np.bool_], b: NDArray[np.bool_], rest: bool) -> None:
    other = "the rest of the map" if rest else "the second region"
    for name, inside in (("The first region", a), (other[0].upper() + other[1:], b)):
        n = int(inside.sum())
        if n < MIN_SPOTS:
            number = "no spot" if n == 0 else "1 spot" if n == 1 else f"{n} spots"
            msg = (
                f"{name} holds {number} with values, and at least {MIN_SPOTS} are needed to "
                "compare regions; draw it differently."
            )
            raise SettingsError(msg)
    shared = int((a & b).sum())
    if shared:
        msg = (
            f"The regions share {shared:,} spots, so they cannot be compared; draw them apart or "
            "compare one with the rest."
        )
        raise SettingsError(msg)


def _ratio(difference: Floats, variance: Floats) -> Floats:
    """Difference in standard errors; 0 where nothing differs."""
    out = np.zeros_like(difference)
    scale = np.sqrt(variance)
    np.divide(difference, scale, out=out, where=scale > 1e-9)
    return out


def _effect(difference: Floats, a: Floats, b: Floats) -> Floats:
    squares = ((a - a.mean(0)) ** 2).sum(0) + ((b - b.mean(0)) ** 2).sum(0)
    return _ratio(difference, squares / (len(a) + len(b) - 2))


Indices = NDArray[np.int64]

_REACH = 0.75  # pitches from a point of the shape to the spot that takes its place
_SHARES = (0.7, 0.6, 0.5)  # of each shape that must fall on tissue; the first that gives enough
_TRIED_AT_ONCE = 500
_ROUNDS = 60
_PROBES = 60  # points of a shape that are looked at first
_SHAPE = 1500  # points that stand for a larger region


def place_regions(
    points: NDArray[np.float64],
    a: Indices,
    b: Indices | None,
    number: int,
    random: np.random.Generator,
) -> list[tuple[Indices, Indices]]:
    """Lay two regions, as one rigid piece, on other places of the map.

    The piece is turned by any angle, mirrored half of the time, and moved so that one of its
    spots, drawn at random, falls on a spot of the map, drawn at random. Each of its points takes
    the nearest spot within 0.75 pitches. A placement counts if at least 70 % of each region fall
    on tissue (60 or 50 % if there are too few such places).

    Parameters
    ----------
    points
        (N,2) positions of all spots in pitches.
    a, b
        Indices of the two regions. Without b, the other side is all the rest, and the smaller
        of the two sides is what is moved.
    number
        Placements wanted.
    random
        Where the placements come from.

    Returns
    -------
    list of pairs of index arrays
        What takes the place of a and of b; no spot in both; at most `number`.
    """
    n = len(points)
    swapped = b is None and len(a) > n / 2
    if b is None:
        moved = [np.setdiff1d(np.arange(n), a) if swapped else a]
    else:
        moved = [a, b]
    shapes = [_some(points[part], _SHAPE, random) for part in moved]
    piece = np.concatenate(shapes)
    tree = cKDTree(points)
    probes = [_some(shape, _PROBES, random) for shape in shapes]
    frames, scores = [], []
    for _ in range(_ROUNDS):
        turn, shift = _rigid(piece, points, random)
        score = np.ones(len(shift))
        for probe in probes:
            laid = probe @ turn + shift[:, None]
            distance, _ = tree.query(laid, distance_upper_bound=_REACH)
            score = np.minimum(score, np.isfinite(distance).mean(1))
        kept = score >= _SHARES[-1]
        frames += list(zip(turn[kept], shift[kept], strict=True))
        scores += list(score[kept])
        if (np.array(scores) >= _SHARES[0]).sum() >= number:
            break
    ranked = np.array(scores)
    for share in _SHARES:
        chosen = np.flatnonzero(ranked >= share)[:number]
        if len(chosen) >= number:
            break
    found = []
    for index in chosen:
        turn_one, shift_one = frames[index]
        taken = [_nearest(tree, shape @ turn_one + shift_one) for shape in shapes]
        if b is None:
            inside = np.zeros(n, dtype=bool)
            inside[taken[0]] = True
            sides = (taken[0], np.flatnonzero(~inside))
            found.append(sides[::-1] if swapped else sides)
        else:
            other = np.setdiff1d(taken[1], taken[0])
            if len(taken[0]) and len(other):
                found.append((taken[0], other))
    return found


def _rigid(
    piece: NDArray[np.float64], points: NDArray[np.float64], random: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rotations with or without a mirror (T,2,2), and shifts (T,2)."""
    angle = random.uniform(0, 2 * np.pi, _TRIED_AT_ONCE)
    mirror = random.choice([-1.0, 1.0], _TRIED_AT_ONCE)
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.stack([np.stack([cos, sin], 1), np.stack([-sin * mirror, cos * mirror], 1)], 1)
    pivot = piece[random.integers(len(piece), size=_TRIED_AT_ONCE)]
    goal = points[random.integers(len(points), size=_TRIED_AT_ONCE)]
    return turn, goal - np.einsum("ti,tij->tj", pivot, turn)


def _nearest(tree: cKDTree, laid: NDArray[np.float64]) -> Indices:
    distance, index = tree.query(laid, distance_upper_bound=_REACH)
    out: Indices = np.unique(index[np.isfinite(distance)])
    return out


def _some(
    points: NDArray[np.float64], most: int, random: np.random.Generator
) -> NDArray[np.float64]:
    if len(points) <= most:
        return points
    return points[random.choice(len(points), most, replace=False)]
