"""Whether predicted maps have the pattern of measured ones: in space, and between genes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from stem_core.evaluation.metrics import MIN_SPOTS

__all__ = [
    "PAIR_EDGES",
    "gene_correlations",
    "pair_counts",
    "pair_figures",
    "pattern_figures",
    "roc_auc",
]

Floats = NDArray[np.float64]

_MOST_PATTERNED = 50
PAIR_EDGES = np.linspace(-1.0, 1.0, 41)


def roc_auc(scores: NDArray[np.floating[Any]], positive: NDArray[np.bool_]) -> Floats:
    """Area under the ROC curve of each column, ties counted half (Mann & Whitney 1947).

    Parameters
    ----------
    scores, positive
        (N,G).

    Returns
    -------
    float64 array, shape (G,)
        NaN where all or none are positive.
    """
    n = len(scores)
    ranks = rankdata(scores, axis=0)
    count = positive.sum(0).astype(np.float64)
    above = (ranks * positive).sum(0) - count * (count + 1) / 2
    out = np.full(positive.shape[1], np.nan)
    np.divide(above, count * (n - count), out=out, where=(count > 0) & (count < n))
    return out


def pattern_figures(predicted: Floats, measured: Floats) -> dict[str, float]:
    """Compare Moran's I of genes, and how the most patterned genes are found again.

    Parameters
    ----------
    predicted, measured
        Moran's I of G genes, (G,); NaN where a gene is constant. A gene constant in the prediction
        alone counts as without pattern, 0.

    Returns
    -------
    dict
        `moran_error`, `moran_shift`, `svg_overlap`, `svg_auc`; NaN with fewer than 4 genes.
    """
    known = np.isfinite(measured)
    m, p = measured[known], np.nan_to_num(predicted[known])
    if len(m) < 4:
        return dict.fromkeys(("moran_error", "moran_shift", "svg_overlap", "svg_auc"), np.nan)
    top = min(_MOST_PATTERNED, len(m) // 4)
    wanted = np.zeros(len(m), dtype=bool)
    wanted[np.argsort(-m, kind="stable")[:top]] = True
    # Expected share where the prediction ties, as a constant one does: what a blind choice gives.
    cut = np.sort(p)[::-1][top - 1]
    above, at = p > cut, p == cut
    found = wanted[above].sum() + wanted[at].mean() * (top - above.sum())
    return {
        "moran_error": float(np.abs(p - m).mean()),
        "moran_shift": float((p - m).mean()),
        "svg_overlap": float(found / top),
        "svg_auc": float(roc_auc(p[:, None], wanted[:, None])[0]),
    }


def gene_correlations(values: NDArray[np.floating[Any]]) -> Floats:
    """Pearson correlation over spots of every pair of genes, (N,G) -> (G,G).

    NaN where a gene is constant; all NaN with fewer than 3 spots.
    """
    if len(values) < MIN_SPOTS:
        return np.full((values.shape[1],) * 2, np.nan)
    z = values.astype(np.float64) - values.mean(0, dtype=np.float64)
    norm = np.linalg.norm(z, axis=0)
    with np.errstate(divide="ignore"):
        scale = np.where(norm > 1e-8 * np.sqrt(len(z)), 1 / norm, np.nan)
    z *= scale
    out: Floats = np.clip(z.T @ z, -1.0, 1.0)
    return out


def pair_figures(predicted: Floats, measured: Floats) -> dict[str, float]:
    """Compare the correlations of gene pairs.

    Parameters
    ----------
    predicted, measured
        (G,G), from `gene_correlations`. A gene constant in the prediction alone counts as
        uncorrelated with all others; pairs with a gene constant in the measurement are left out.

    Returns
    -------
    dict
        `pairs_r`, `pairs_rmse` and `pairs_shift` over the upper triangles; NaN with fewer than 3
        genes, and `pairs_r` also where the prediction is the same for all pairs.
    """
    p, m = _upper(predicted, measured)
    if len(m) < 3:
        return dict.fromkeys(("pairs_r", "pairs_rmse", "pairs_shift"), np.nan)
    varies = p.std() > 1e-12 and m.std() > 1e-12
    return {
        "pairs_r": float(np.corrcoef(p, m)[0, 1]) if varies else float("nan"),
        "pairs_rmse": float(np.sqrt(((p - m) ** 2).mean())),
        "pairs_shift": float(np.median(p) - np.median(m)),
    }


def pair_counts(predicted: Floats, measured: Floats) -> NDArray[np.int64]:
    """Count gene pairs by their correlation measured × predicted, in cells of 0.05."""
    p, m = _upper(predicted, measured)
    counts, _, _ = np.histogram2d(m, p, bins=(PAIR_EDGES, PAIR_EDGES))
    return counts.astype(np.int64)


def _upper(predicted: Floats, measured: Floats) -> tuple[Floats, Floats]:
    rows, columns = np.triu_indices(len(measured), 1)
    p, m = predicted[rows, columns], measured[rows, columns]
    known = np.isfinite(m)
    return np.nan_to_num(p[known]), m[known]
