"""Two predictions of one slide beside each other: how far they say the same.

Agreement is not accuracy: two models trained on the same sections share their mistakes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial import cKDTree

from stem_core.analysis.comparison import compare_genes
from stem_core.analysis.variogram import Floats
from stem_core.errors import EvaluationError
from stem_core.prediction.result import Prediction

__all__ = [
    "agreement_by_gene",
    "common_spots",
    "concordance",
    "joint_difference",
    "pcc_against",
    "shared_genes",
]

_Array = NDArray[np.floating[Any]]
_Z_95 = float(stats.norm.ppf(0.975))
_FAR = 2.0
_MIN_SPOTS = 3


def shared_genes(one: Prediction, other: Prediction) -> tuple[str, ...]:
    """Return the symbols that both panels have, in the order of the first."""
    known = set(other.symbols)
    return tuple(symbol for symbol in one.symbols if symbol in known)


def common_spots(places: _Array, other_places: _Array, reach: float) -> NDArray[np.int64]:
    """Find the other run's spot at each spot of the first: the nearest one within reach.

    Where the other run's spots are fewer, one of them may stand at several.

    Parameters
    ----------
    places, other_places
        Centres x, y, (N,2) and (M,2), in any unit that `reach` shares. Half the pitch of the first
        run is a reach that no two of its neighbours compete for.

    Returns
    -------
    int64 array, shape (N,)
        Row of the other run; -1 where it has no spot.
    """
    _, found = cKDTree(other_places).query(places, distance_upper_bound=reach)
    return np.where(found < len(other_places), found, -1).astype(np.int64)


def joint_difference(mean: _Array, std: _Array, other_mean: _Array, other_std: _Array) -> _Array:
    """First less second mean in units of the joint spread, √(std² + other std²).

    Beyond ±2 the means are further apart than single draws of the two usually are.

    Parameters
    ----------
    mean, std, other_mean, other_std
        Of one shape, log2(1 + count).

    Returns
    -------
    Array of that shape
        NaN where neither has any spread.
    """
    spread = np.hypot(std, other_std)
    out = np.full(np.shape(spread), np.nan, dtype=spread.dtype)
    np.divide(mean - other_mean, spread, out=out, where=spread > 0)
    return out


def concordance(one: _Array, other: _Array, n: Floats) -> tuple[Floats, Floats, Floats]:
    """Concordance correlation coefficient with its 95 % interval.

    2 cov / (var₁ + var₂ + (mean₁ - mean₂)²): 1 only where both are equal, not where one is merely
    in proportion to the other. The interval is that of Lin (Biometrics 1989, 45: 255-268, with the
    correction of 2000, 56: 324-325) by Fisher's z, with the effective number of independent spots
    in the place of the number of spots.

    Parameters
    ----------
    one, other
        (N,G).
    n
        Effective number of independent spots (`stem_core.analysis.comparison.effective_number`),
        (G,).

    Returns
    -------
    ccc, low, high
        float64 (G,); NaN where a gene is the same at all spots of one of the two.
    """
    a, b = one.astype(np.float64), other.astype(np.float64)
    product = a.var(0) * b.var(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        covariance = ((a - a.mean(0)) * (b - b.mean(0))).mean(0)
        shift = a.mean(0) - b.mean(0)
        r = np.where(product > 1e-16, covariance / np.sqrt(product), np.nan)
        ccc = 2 * covariance / (a.var(0) + b.var(0) + shift**2)
        ccc = np.where(np.isnan(r), np.nan, ccc)
        u2 = shift**2 / np.sqrt(product)
        inside = 1 - ccc**2
        variance = (
            (1 - r**2) * ccc**2 / (inside * r**2)
            + 2 * ccc**3 * (1 - ccc) * u2 / (r * inside**2)
            - ccc**4 * u2**2 / (2 * r**2 * inside**2)
        ) / np.maximum(n - 2, 1)
        half = _Z_95 * np.sqrt(np.maximum(variance, 0))
        # Equal maps leave nothing to doubt; where there is no correlation, z has no variance.
        half = np.where(inside < 1e-12, 0.0, np.where(r == 0, np.inf, half))
        z = np.arctanh(np.clip(ccc, -1 + 1e-12, 1 - 1e-12))
        return ccc, np.tanh(z - half), np.tanh(z + half)


def pcc_against(
    measured: _Array, maps: Mapping[str, _Array], x_um: Floats, y_um: Floats, symbols: Sequence[str]
) -> pd.DataFrame:
    """Correlate several predictions with one measurement.

    Parameters
    ----------
    measured
        (N,G), log2(1 + count); NaN where nothing was measured.
    maps
        Predictions by name, (N,G) each.
    x_um, y_um
        Positions of the spots, (N,).
    symbols
        The G genes.

    Returns
    -------
    DataFrame
        Indexed by gene in the order given, those without a measurement left out: for each name
        the columns `NAME_pcc`, `NAME_pcc_low`, `NAME_pcc_high`
        (`stem_core.analysis.comparison.compare_genes`).

    Raises
    ------
    EvaluationError
        Fewer than 3 spots were measured.
    """
    columns = ["pcc", "pcc_low", "pcc_high"]
    parts = [
        compare_genes(values, measured, x_um, y_um, symbols)[columns].add_prefix(f"{name}_")
        for name, values in maps.items()
    ]
    return pd.concat(parts, axis=1).dropna(how="all")


def agreement_by_gene(
    one: Prediction, other: Prediction, at: NDArray[np.int64], symbols: Sequence[str]
) -> pd.DataFrame:
    """Compare two predictions gene by gene at the spots they have in common.

    Parameters
    ----------
    one, other
        Of one slide.
    at
        Row of the second at each spot of the first, (N,), -1 for none (`common_spots`).
    symbols
        From `shared_genes`.

    Returns
    -------
    DataFrame
        Indexed by gene, the one of the highest concordance first: `pcc` and `ccc` with `_low` and
        `_high` (95 % intervals that count independent spots), `n_effective`, `mean_difference`
        (first less second, log2(1 + count)), `median_distance` (half of the spots are at most so
        many joint spreads apart), `far` (share of spots more than 2 joint spreads apart) and
        `overlap` (share of spots whose 90 % bands overlap).

    Raises
    ------
    EvaluationError
        Fewer than 3 spots or no gene in common.
    """
    rows = at >= 0
    if (common := int(rows.sum())) < _MIN_SPOTS or not symbols:
        spots = "1 spot" if common == 1 else f"{common:,} spots"
        genes = "1 gene" if len(symbols) == 1 else f"{len(symbols):,} genes"
        msg = (
            f"The two runs have {spots} and {genes} in common, "
            f"and at least {_MIN_SPOTS} spots and one gene are needed to compare; choose another "
            "run."
        )
        raise EvaluationError(msg)

    def taken(prediction: Prediction, name: str, where: NDArray[Any]) -> NDArray[np.float32]:
        places = {symbol: place for place, symbol in enumerate(prediction.symbols)}
        values: NDArray[np.float32] = getattr(prediction, name)
        columns = [places[symbol] for symbol in symbols]
        return np.ascontiguousarray(values[where][:, columns])

    mean, std, low, high = (taken(one, name, rows) for name in ("mean", "std", "q05", "q95"))
    other_mean, other_std, other_low, other_high = (
        taken(other, name, at[rows]) for name in ("mean", "std", "q05", "q95")
    )
    x_um, y_um = (part[rows] * one.mpp for part in (one.spots.x_px, one.spots.y_px))
    table = compare_genes(mean, other_mean, x_um, y_um, symbols)
    ccc, ccc_low, ccc_high = concordance(mean, other_mean, table["n_effective"].to_numpy())
    distance = np.abs(joint_difference(mean, std, other_mean, other_std))
    spreads = ~np.isnan(distance).any(0)  # a single draw has none
    found = table[["pcc", "pcc_low", "pcc_high"]].assign(
        ccc=ccc,
        ccc_low=ccc_low,
        ccc_high=ccc_high,
        n_effective=table["n_effective"],
        mean_difference=table["predicted_mean"] - table["measured_mean"],
        median_distance=np.median(distance, axis=0),
        far=np.where(spreads, (distance > _FAR).mean(0), np.nan),
        overlap=((low <= other_high) & (other_low <= high)).mean(0),
    )
    found.loc[np.isnan(ccc), ["pcc", "pcc_low", "pcc_high"]] = np.nan
    return found.sort_values("ccc", ascending=False, kind="stable")
