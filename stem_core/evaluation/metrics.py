"""How good a prediction is: correlation, error, variance, calibration.

Definitions are those of Stem, section 5; of CRPS that of Gneiting & Raftery 2007.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stem_core.errors import EvaluationError

__all__ = [
    "crps",
    "crps_by_spot",
    "evaluate_arrays",
    "evaluate_files",
    "pearson_by_gene",
    "relative_variance_difference",
    "spearman_by_gene",
]

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
        0 where the prediction is constant, NaN where the measurement is.
    """
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

    0 where the prediction is constant, NaN where the measurement is.
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


def evaluate_arrays(
    predicted: NDArray[np.floating[Any]],
    measured: NDArray[np.floating[Any]],
    lower: NDArray[np.floating[Any]] | None = None,
    upper: NDArray[np.floating[Any]] | None = None,
) -> dict[str, float | int | None]:
    """All figures of a prediction, arrays (N,G) in log2(1 + count).

    PCC-10 and PCC-50 are means over the genes that correlate best *on this section*; `pcc_all` is
    over the fixed panel. A gene constant in the prediction counts as 0, one constant in the
    measurement is left out of PCC and RVD and counted.
    """
    r = pearson_by_gene(predicted, measured)
    kept = np.isfinite(r)
    if not kept.any():
        msg = (
            "Every gene is constant in the measured section, so nothing can be correlated; "
            "choose another section."
        )
        raise EvaluationError(msg)
    ordered = np.sort(r[kept])[::-1]
    difference = predicted.astype(np.float64) - measured
    coverage = None
    if lower is not None and upper is not None:
        coverage = float(((measured >= lower) & (measured <= upper)).mean())
    return {
        "pcc_10": float(ordered[:10].mean()),
        "pcc_50": float(ordered[:50].mean()),
        "pcc_all": float(ordered.mean()),
        "mse": float((difference**2).mean()),
        "mae": float(np.abs(difference).mean()),
        "rvd": float(np.nanmean(relative_variance_difference(predicted, measured))),
        "coverage_90": coverage,
        "n_spots": len(predicted),
        "n_genes": predicted.shape[1],
        "n_constant_genes": int((~kept).sum()),
    }


def evaluate_files(prediction: Path, truth: Path) -> dict[str, float | int | None]:
    """Compare a `prediction.h5ad` with a measured section of raw counts.

    Spots are matched by name, genes by symbol; the measurement is taken as log2(1 + raw count).

    Raises
    ------
    EvaluationError
        A file cannot be read, or there are no common spots (at least 2) or genes.
    """
    import pandas as pd

    p, t = _read(prediction), _read(truth)
    for table, path in ((p, prediction), (t, truth)):
        for what, names in (("spot", table.obs_names), ("gene", table.var_names)):
            # A measured table may name a gene twice (two ids, one symbol): the first counts.
            if not names.is_unique and (what == "spot" or path == prediction):
                msg = f"{path.name} names a {what} twice; give every {what} one row or column."
                raise EvaluationError(msg)
    spots = [name for name in p.obs_names if name in set(t.obs_names)]
    first = ~pd.Index(t.var_names).duplicated()
    genes = [name for name in p.var_names if name in set(t.var_names)]
    if len(spots) < 2:
        msg = (
            f"{prediction.name} and {truth.name} have {len(spots)} spots in common, at least 2 are "
            "needed; predict with --spots and the measured file, so that the spots keep their "
            "names."
        )
        raise EvaluationError(msg)
    if not genes:
        msg = (
            f"{prediction.name} and {truth.name} have no gene symbol in common; "
            "check that both are one species."
        )
        raise EvaluationError(msg)
    t = t[:, first]
    counts = _dense(t[spots, genes].X)
    if not np.isfinite(counts).all() or (counts < 0).any():
        msg = (
            f"{truth.name} holds values below 0 or not finite, so X is not raw counts; "
            "give the raw counts."
        )
        raise EvaluationError(msg)
    chosen = p[spots, genes]
    layers = [
        np.asarray(chosen.layers[name]) if name in chosen.layers else None
        for name in ("q05", "q95")
    ]
    return evaluate_arrays(_dense(chosen.X), np.log2(1 + counts), *layers)


def _dense(values: Any) -> NDArray[np.float64]:
    return np.asarray(values.toarray() if hasattr(values, "toarray") else values, dtype=np.float64)


def _read(path: Path) -> Any:
    import anndata

    try:
        return anndata.read_h5ad(path)
    except Exception as error:  # anndata raises many kinds for a damaged file
        msg = (
            f"{path.name} cannot be read as h5ad ({type(error).__name__}); "
            "give a file written by anndata."
        )
        raise EvaluationError(msg) from error
