"""How good a prediction is: correlation, error, variance, calibration.

Definitions are those of Stem, section 5; of CRPS that of Gneiting & Raftery 2007.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "MIN_SPOTS",
    "crps",
    "crps_by_spot",
    "evaluate_arrays",
    "mean_or_none",
    "pearson_by_gene",
    "relative_variance_difference",
    "spearman_by_gene",
]

MIN_SPOTS = 3  # two spots always correlate by 1 or -1
_CONSTANT = 1e-8


def pearson_by_gene(
    predicted: NDArray[np.floating[Any]], measured: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """Pearson correlation over spots.

    Parameters
    ----------
    predicted, measured
        (N,G).

    Returns
    -------
    float64 array, shape (G,)
        0 where the prediction is constant, NaN where the measurement is. All NaN with fewer than 3
        spots.
    """
    if len(predicted) < MIN_SPOTS:
        return np.full(predicted.shape[1], np.nan)
    p = predicted.astype(np.float64) - predicted.mean(0, dtype=np.float64)
    m = measured.astype(np.float64) - measured.mean(0, dtype=np.float64)
    p_norm, m_norm = np.linalg.norm(p, axis=0), np.linalg.norm(m, axis=0)
    size = np.sqrt(len(p))
    flat = p_norm <= _CONSTANT * size
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (p * m).sum(0) / (p_norm * m_norm)
    r = np.where(flat, 0.0, r)
    return np.where(m_norm <= _CONSTANT * size, np.nan, r)


def spearman_by_gene(
    predicted: NDArray[np.floating[Any]], measured: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """Spearman's rank correlation over spots, ties sharing their mean rank; (N,G) -> (G,).

    0 where the prediction is constant, NaN where the measurement is. All NaN with fewer than 3
    spots.
    """
    from scipy.stats import rankdata

    return pearson_by_gene(rankdata(predicted, axis=0), rankdata(measured, axis=0))


def relative_variance_difference(
    predicted: NDArray[np.floating[Any]], measured: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """((var_pred - var_true) / var_true)² per gene; (N,G) -> (G,).

    NaN where the measurement is constant.
    """
    p, m = predicted.var(0, dtype=np.float64), measured.var(0, dtype=np.float64)
    out = np.full(len(m), np.nan)
    np.divide(p - m, m, out=out, where=m > _CONSTANT**2)
    return out**2


def crps(samples: NDArray[np.floating[Any]], measured: NDArray[np.floating[Any]]) -> float:
    """Continuous ranked probability score, mean over spots and genes; see `crps_by_spot`."""
    return float(crps_by_spot(samples, measured).mean())


def crps_by_spot(
    samples: NDArray[np.floating[Any]], measured: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """Continuous ranked probability score of each spot, mean over genes, in units of the values.

    The fair estimator E|X - y| - ½ E|X - X'| over distinct pairs; needs at least 2 samples.

    Parameters
    ----------
    samples
        (N,K,G).
    measured
        (N,G).

    Returns
    -------
    float64 array, shape (N,)
    """
    k = samples.shape[1]
    error = np.abs(samples - measured[:, None]).mean((1, 2), dtype=np.float64)
    ordered = np.sort(samples, axis=1)
    rank = 2 * np.arange(1, k + 1) - k - 1
    spread = (ordered * rank[:, None]).sum(1) / (k * (k - 1))  # ½ E|X - X'|
    out: NDArray[np.float64] = error - spread.mean(1, dtype=np.float64)
    return out


def mean_or_none(values: NDArray[np.floating[Any]]) -> float | None:
    """Average the values that are finite; None where there is none."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def evaluate_arrays(
    predicted: NDArray[np.floating[Any]],
    measured: NDArray[np.floating[Any]],
    lower: NDArray[np.floating[Any]] | None = None,
    upper: NDArray[np.floating[Any]] | None = None,
) -> dict[str, float | int | None]:
    """All figures of a prediction, arrays (N,G) in log2(1 + count).

    PCC-10 and PCC-50 are means over the genes that correlate best *on this section*; `pcc_all` is
    over the fixed panel. A gene constant in the prediction counts as 0, one constant in the
    measurement is left out of PCC and RVD and counted. A figure that cannot be computed is None:
    PCC with fewer than 3 spots, PCC and RVD where every gene is constant in the measurement,
    coverage without bounds.
    """
    r = pearson_by_gene(predicted, measured)
    ordered = np.sort(r[np.isfinite(r)])[::-1]
    rvd = relative_variance_difference(predicted, measured)
    difference = predicted.astype(np.float64) - measured
    coverage = None
    if lower is not None and upper is not None:
        coverage = float(((measured >= lower) & (measured <= upper)).mean())
    return {
        "pcc_10": mean_or_none(ordered[:10]),
        "pcc_50": mean_or_none(ordered[:50]),
        "pcc_all": mean_or_none(ordered),
        "mse": float((difference**2).mean()),
        "mae": float(np.abs(difference).mean()),
        "rvd": mean_or_none(rvd),
        "coverage_90": coverage,
        "n_spots": len(predicted),
        "n_genes": predicted.shape[1],
        "n_constant_genes": int(np.isnan(rvd).sum()),
    }
