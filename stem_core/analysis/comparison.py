"""A prediction beside a measured section: figures with intervals, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from stem_core.analysis.variogram import Floats, lag_pairs, median_pitch
from stem_core.errors import EvaluationError
from stem_core.evaluation.metrics import (
    MIN_SPOTS,
    evaluate_arrays,
    mean_or_none,
    pearson_by_gene,
    relative_variance_difference,
    spearman_by_gene,
)

__all__ = [
    "LEVELS",
    "calibration",
    "compare_genes",
    "compare_panel",
    "effective_number",
    "gene_variation",
    "uncut_lower",
]

LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)

_Z_90 = float(stats.norm.ppf(0.95))  # the 90 % band reaches from the 5 % to the 95 % quantile


def compare_genes(
    predicted: NDArray[np.floating[Any]],
    measured: NDArray[np.floating[Any]],
    x_um: Floats,
    y_um: Floats,
    symbols: Sequence[str],
) -> pd.DataFrame:
    """Compare a prediction with a measurement gene by gene.

    The interval of the correlation is Fisher's (z ± 1.96 / √(n - 3)), where n is not the number
    of spots but the effective number of independent ones: neighbours resemble each other, and an
    interval from the number of spots would be much too narrow (see `effective_number`).

    Parameters
    ----------
    predicted, measured
        (N,G), log2(1 + count). A spot counts if it was measured in any gene; a gene that some of
        these lack has NaN figures.
    x_um, y_um
        Positions of the spots, (N,), in microns.
    symbols
        The G genes.

    Returns
    -------
    DataFrame
        Indexed by gene in the order given: `pcc`, `pcc_low`, `pcc_high` (95 % interval),
        `spearman`, `n_effective`, `rvd`, `mse`, `predicted_mean`, `measured_mean`.

    Raises
    ------
    EvaluationError
        Fewer than 3 spots were measured.
    """
    rows, genes = _shared(measured)
    p = predicted[rows][:, genes].astype(np.float64)
    m = measured[rows][:, genes].astype(np.float64)
    pcc = pearson_by_gene(p, m)
    n = effective_number(p, m, x_um[rows], y_um[rows])
    clipped = np.clip(pcc, -1 + 1e-9, 1 - 1e-9)
    with np.errstate(divide="ignore"):
        half = float(stats.norm.ppf(0.975)) / np.sqrt(np.maximum(n - 3, 0.0))
    table = pd.DataFrame(
        {
            "pcc": pcc,
            "pcc_low": np.tanh(np.arctanh(clipped) - half),
            "pcc_high": np.tanh(np.arctanh(clipped) + half),
            "spearman": spearman_by_gene(p, m),
            "n_effective": n,
            "rvd": relative_variance_difference(p, m),
            "mse": ((p - m) ** 2).mean(0),
            "predicted_mean": p.mean(0),
            "measured_mean": m.mean(0),
        },
        index=np.asarray(symbols, dtype=object)[genes],
    )
    table = table.reindex(pd.Index(symbols, dtype=object))
    table.index.name = "gene"
    return table


def compare_panel(
    predicted: NDArray[np.floating[Any]],
    q05: NDArray[np.floating[Any]],
    q95: NDArray[np.floating[Any]],
    measured: NDArray[np.floating[Any]],
) -> dict[str, float | int | None]:
    """Summarise a prediction over all genes of the panel that were measured.

    Parameters
    ----------
    predicted, q05, q95
        (N,G): mean and the bounds of the 90 % band.
    measured
        (N,G); NaN where nothing was measured.

    Returns
    -------
    dict
        The figures of `stem_core.evaluation.metrics.evaluate_arrays`, over the spots and genes
        that were measured, and `spearman_all`, the mean of Spearman's correlation.

    Raises
    ------
    EvaluationError
        Fewer than 3 spots were measured, or no gene varies.
    """
    rows, genes = _shared(measured)
    p, low, high, m = (
        part[rows][:, genes].astype(np.float64) for part in (predicted, q05, q95, measured)
    )
    figures = evaluate_arrays(p, m, low, high)
    if figures["pcc_all"] is None:
        msg = (
            "Every gene is constant in the measured section, so nothing can be correlated; "
            "choose another section."
        )
        raise EvaluationError(msg)
    return figures | {"spearman_all": mean_or_none(spearman_by_gene(p, m))}


def effective_number(
    one: NDArray[np.floating[Any]], other: NDArray[np.floating[Any]], x_um: Floats, y_um: Floats
) -> Floats:
    """Independent spots that would tell as much of a correlation as these do.

    Clifford, Richardson & Hémon 1989: the correlation of two unrelated maps has the variance
    Σ C₁(h) C₂(h) / (N² C₁(0) C₂(0)) over all pairs of spots, where C(h) is the covariance of spots
    a distance h apart; the effective number is 1 + 1 / variance. Strictly this holds for
    correlations near 0.

    Parameters
    ----------
    one, other
        Two maps of G genes, (N,G).
    x_um, y_um
        Positions of the spots, (N,).

    Returns
    -------
    float64 array, shape (G,)
        From 3 to N; NaN where a gene is constant, and where all spots lie in one place.
    """
    n = len(one)
    pitch_um = median_pitch(x_um, y_um)
    if pitch_um is None:
        return np.full(one.shape[1], np.nan)
    pairs = lag_pairs(x_um, y_um, pitch_um)
    product = pairs.covariance(one) * pairs.covariance(other)
    share = pairs.share @ product * (n - 1) / n
    own = one.var(0, dtype=np.float64) * other.var(0, dtype=np.float64)
    variance = np.full(one.shape[1], np.nan)
    np.divide(own / n + share, own, out=variance, where=own > 1e-16)
    with np.errstate(divide="ignore"):
        number = 1 + 1 / variance
    return np.where(np.isnan(variance), np.nan, np.where(variance > 0, np.clip(number, 3, n), n))


def calibration(
    predicted: NDArray[np.floating[Any]],
    q05: NDArray[np.floating[Any]],
    q95: NDArray[np.floating[Any]],
    measured: NDArray[np.floating[Any]],
    levels: Sequence[float] = LEVELS,
) -> pd.DataFrame:
    """Count how many measured values lie in the bands of several nominal levels.

    A prediction holds its 90 % band; that of another level is taken as a normal distribution has
    it, each side of the 90 % band scaled by z(level) / 1.645; of a lower side that was cut off at
    0, see `uncut_lower`.

    Parameters
    ----------
    predicted, q05, q95
        (N,G).
    measured
        (N,G); NaN where nothing was measured.
    levels
        Between 0 and 1.

    Returns
    -------
    DataFrame
        A row for each level: `nominal`, `observed` (share inside, bounds included), and `low` and
        `high`, the 5 % and 95 % quantiles of the share over genes.
    """
    rows, genes = _shared(measured, at_least=1)
    mean, below, above, truth = (
        part[rows][:, genes].astype(np.float64)
        for part in (predicted, uncut_lower(predicted, q05, q95), q95, measured)
    )
    table = []
    for level in levels:
        scale = float(stats.norm.ppf(0.5 + level / 2)) / _Z_90
        inside = (truth >= mean - scale * (mean - below)) & (truth <= mean + scale * (above - mean))
        by_gene = inside.mean(0)
        table.append((level, float(by_gene.mean()), *np.quantile(by_gene, [0.05, 0.95])))
    return pd.DataFrame(table, columns=["nominal", "observed", "low", "high"])


def uncut_lower(
    predicted: NDArray[np.floating[Any]],
    q05: NDArray[np.floating[Any]],
    q95: NDArray[np.floating[Any]],
) -> NDArray[np.floating[Any]]:
    """Lower bound of a 90 % band before it was cut off at 0, as far as can be told, (N,G).

    Scaled down, a bound cut off at 0 would leave out measured zeros that the band holds. So where
    it is 0, the lower side is taken to be at least as wide as the upper one. A band that reaches
    below 0 anywhere was not cut off, and stays as it is.
    """
    if (q05 < 0).any():
        return q05
    return np.where(q05 == 0, np.minimum(q05, 2 * predicted - q95), q05)


def gene_variation(
    predicted: NDArray[np.floating[Any]],
    std: NDArray[np.floating[Any]],
    measured: NDArray[np.floating[Any]],
    symbols: Sequence[str],
) -> pd.DataFrame:
    """Variance over spots of every gene, the gene variation curve of Stem.

    Parameters
    ----------
    predicted, std
        (N,G): mean and standard deviation of the draws of each spot.
    measured
        (N,G); NaN where nothing was measured.
    symbols
        The G genes.

    Returns
    -------
    DataFrame
        Indexed by gene, the least varying measured gene first: `measured`, `predicted` (of the
        mean) and `drawn` (of single draws: that of the mean and what each spot's draws add).
    """
    rows, genes = _shared(measured)
    of_mean = predicted[rows][:, genes].var(0, dtype=np.float64)
    added = (std[rows][:, genes].astype(np.float64) ** 2).mean(0)
    table = pd.DataFrame(
        {
            "measured": measured[rows][:, genes].var(0, dtype=np.float64),
            "predicted": of_mean,
            "drawn": of_mean + added,
        },
        index=pd.Index(np.asarray(symbols, dtype=object)[genes], name="gene"),
    )
    return table.sort_values("measured", kind="stable")


def _shared(
    measured: NDArray[np.floating[Any]], at_least: int = MIN_SPOTS
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Spots with any measurement, and genes measured in all of these."""
    rows = ~np.isnan(measured).all(axis=1)
    if (n := int(rows.sum())) < at_least:
        were = "1 spot was" if n == 1 else f"{n} spots were"
        msg = (
            f"{were} measured, and at least {at_least} are needed to compare; give the measured "
            "section of this slide."
        )
        raise EvaluationError(msg)
    return rows, ~np.isnan(measured[rows]).any(axis=0)
