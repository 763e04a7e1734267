"""How alike neighbouring spots are: the variogram of every gene, and what it says of averages.

Spots of a tissue are not independent: two neighbours tell little more than one. The semivariance
γ(h), half the mean squared difference of two spots a distance h apart, holds all that is needed
to say how much averages of two regions differ by chance (Cressie 1993, chapters 2 and 5):

    var(mean A - mean B) = 2 γ(A, B) - γ(A, A) - γ(B, B)

where γ(A, B) is the mean of γ over all pairs of a spot of A and a spot of B.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.sparse import csr_array
from scipy.spatial import cKDTree

__all__ = ["LagPairs", "Variogram", "fit_variogram", "lag_pairs", "median_pitch"]

Floats = NDArray[np.float64]

_SAMPLED = 1200  # spots whose pairs are all taken; of larger maps a sample of so many
_NEAR = 4.0  # pitches; nearer pairs are few in a sample, so they are taken by themselves
_STEP = 0.25  # pitches between the entries of the table of semivariances
_RANGES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
_REPRESENTED = 150  # spots that stand for a larger region in averages over pairs


@dataclass(frozen=True)
class LagPairs:
    """Pairs of spots, sorted by their distance.

    Attributes
    ----------
    lag
        Mean distance of the pairs of each bin, in pitches, float64 (L,).
    count
        Pairs in each bin, float64 (L,).
    share
        Share of all pairs of the map at the distances of the bin, float64 (L,); sums to 1.
    matrices
        One N x N matrix for each bin: 1 where a pair is in it (upper triangle only).
    """

    lag: Floats
    count: Floats
    share: Floats
    matrices: tuple[csr_array, ...]

    def semivariance(self, values: NDArray[np.floating[Any]]) -> Floats:
        """Half the mean squared difference: (N,G) -> (L,G)."""
        z = values.astype(np.float64) - values.mean(0, dtype=np.float64)
        out = np.empty((len(self.lag), z.shape[1]))
        for row, (matrix, count) in enumerate(zip(self.matrices, self.count, strict=True)):
            ends = matrix.sum(axis=0) + matrix.sum(axis=1)
            out[row] = (ends @ z**2 / 2 - (z * (matrix @ z)).sum(0)) / count
        return np.maximum(out, 0.0)

    def covariance(self, values: NDArray[np.floating[Any]]) -> Floats:
        """Mean product of the deviations from the map's average: (N,G) -> (L,G)."""
        z = values.astype(np.float64) - values.mean(0, dtype=np.float64)
        rows = [
            (z * (matrix @ z)).sum(0) / count
            for matrix, count in zip(self.matrices, self.count, strict=True)
        ]
        return np.stack(rows)


def lag_pairs(x_um: Floats, y_um: Floats, pitch_um: float, seed: int = 0) -> LagPairs:
    """Sort pairs of spots by distance.

    All pairs up to 1,200 spots; of larger maps all pairs of 1,200 spots drawn at random, and
    all neighbours within 4 pitches of 1,200 others, so that short distances are not missing.

    Parameters
    ----------
    x_um, y_um
        Positions of the N spots, (N,), in microns (or any unit that `pitch_um` shares).
    pitch_um
        Distance between neighbouring spots.
    seed
        Of the sample.
    """
    points = np.column_stack([x_um, y_um]) / pitch_um
    n = len(points)
    random = np.random.default_rng(seed)
    chosen = np.arange(n) if n <= _SAMPLED else np.sort(random.choice(n, _SAMPLED, replace=False))
    i, j = np.triu_indices(len(chosen), 1)
    first, second = chosen[i], chosen[j]
    sampled = len(first)  # these are drawn evenly; the neighbours added below are not
    if n > _SAMPLED:
        centres = random.choice(n, _SAMPLED, replace=False)
        near = cKDTree(points).query_ball_point(points[centres], _NEAR)
        one = np.repeat(centres, [len(found) for found in near])
        other = np.concatenate([np.asarray(found, dtype=np.int64) for found in near])
        first = np.concatenate([first, one[one != other]])
        second = np.concatenate([second, other[one != other]])
    distance = np.hypot(*(points[first] - points[second]).T)
    # pitch by pitch up to 8, then ever wider
    edges = np.arange(0.5, 8.0)
    while edges[-1] <= distance.max(initial=1.0):
        edges = np.append(edges, max(edges[-1] * 1.15, edges[-1] + 1))
    place = np.clip(np.searchsorted(edges, distance, side="right") - 1, 0, len(edges) - 2)
    lags, counts, shares, matrices = [], [], [], []
    for found in range(len(edges) - 1):
        of_bin = np.flatnonzero(place == found)
        if not len(of_bin):
            continue
        lags.append(float(distance[of_bin].mean()))
        counts.append(float(len(of_bin)))
        shares.append(np.count_nonzero(of_bin < sampled) / max(sampled, 1))
        ends = (first[of_bin], second[of_bin])
        matrices.append(csr_array((np.ones(len(of_bin)), ends), shape=(n, n)))
    return LagPairs(np.array(lags), np.array(counts), np.array(shares), tuple(matrices))


@dataclass(frozen=True)
class Variogram:
    """Fitted semivariance of G genes.

    Attributes
    ----------
    table
        float64 (T,G): γ at the distances 0, 0.25, 0.5, … pitches; the first row is 0 and holds
        for a spot and itself.
    points
        float64 (N,2): positions of the spots in pitches.
    """

    table: Floats
    points: Floats

    def difference_variance(self, weights: Floats) -> Floats:
        """Variance of mean(A) - mean(B) over maps of such a variogram: (...,T) -> (...,G).

        Of the weights that `difference_weights` gives, for many pairs of regions at once.
        """
        return np.maximum(weights @ self.table, 0.0)

    def difference_weights(
        self, a: NDArray[np.int64], b: NDArray[np.int64], random: np.random.Generator
    ) -> Floats:
        """How the variance of mean(A) - mean(B) is made of semivariances, (T,).

        Parameters
        ----------
        a, b
            Indices of the spots; no spot in both. More than 150 are represented by a sample:
            the mean of γ over distinct pairs is that of the sample, the number of spots the true
            one.
        random
            Draws the sample.
        """
        weights = np.zeros(len(self.table))
        some = [
            self.points[
                region
                if len(region) <= _REPRESENTED
                else random.choice(region, _REPRESENTED, replace=False)
            ]
            for region in (a, b)
        ]
        for region, points in zip((a, b), some, strict=True):
            if len(points) > 1:
                i, j = np.triu_indices(len(points), 1)
                share = (len(region) - 1) / len(region)
                weights -= self._shares(points[i] - points[j]) * share
        shifts = (some[0][:, None] - some[1][None]).reshape(-1, 2)
        weights += 2 * self._shares(shifts)
        return weights

    def _shares(self, shifts: Floats) -> Floats:
        """Share of the pairs at each distance of the table, (T,); at least one step apart."""
        place = np.rint(np.hypot(shifts[:, 0], shifts[:, 1]) / _STEP).astype(np.int64)
        place = np.clip(place, 1, len(self.table) - 1)
        return np.bincount(place, minlength=len(self.table)) / len(place)


def fit_variogram(
    values: NDArray[np.floating[Any]], x_um: Floats, y_um: Floats, pitch_um: float, seed: int = 0
) -> Variogram:
    """Fit a valid variogram to every gene of a map.

    A sum, with weights that are not negative, of a nugget, exponential models of ranges from 1 to
    64 pitches, and a linear one: whatever the weights, no variance comes out negative. The weights
    are those of least squares, where a bin counts by the fourth root of its pairs.

    Parameters
    ----------
    values
        (N,G), finite.
    x_um, y_um, pitch_um
        Positions and the distance between neighbours, in one unit.
    seed
        Of the sample of pairs of large maps.
    """
    pairs = lag_pairs(x_um, y_um, pitch_um, seed)
    found = pairs.semivariance(values)
    weight = pairs.count**0.25
    farthest = float(np.hypot(np.ptp(x_um), np.ptp(y_um))) / pitch_um + 1
    distances = np.arange(0.0, farthest + _STEP, _STEP)
    model, curve = (_models(h, farthest) for h in (pairs.lag, distances))
    table = np.empty((len(distances), found.shape[1]))
    for gene in range(found.shape[1]):
        shares, _ = nnls(model * weight[:, None], found[:, gene] * weight)
        table[:, gene] = curve @ shares
    points = np.column_stack([x_um, y_um]) / pitch_um
    return Variogram(table, points)


def _models(h: Floats, farthest: float) -> Floats:
    """Each model at the distances h, in pitches: (H, models)."""
    columns = [(h > 0).astype(np.float64), h / farthest]
    columns += [1 - np.exp(-h / reach) for reach in _RANGES]
    return np.stack(columns, axis=1)


def median_pitch(x: Floats, y: Floats) -> float | None:
    """Return the median distance of a spot to its nearest neighbour.

    None for a single spot, and where all spots lie in one place.
    """
    points = np.unique(np.column_stack([x, y]), axis=0)
    if len(points) < 2:
        return None
    distance, _ = cKDTree(points).query(points, k=2)
    return float(np.median(distance[:, 1]))
