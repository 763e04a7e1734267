"""How well predictions separate spots without a count of a gene from the others."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from stem_core.analysis.comparison import uncut_lower
from stem_core.evaluation.structure import roc_auc

__all__ = ["ZERO_BELOW", "no_count_probability", "zero_figures"]

Values = NDArray[np.floating[Any]]
Floats = NDArray[np.float64]

ZERO_BELOW = float(np.log2(1.5))  # log2(1 + count) of half a count: below it, 0 is nearer than 1
_AT_LEAST = 5  # spots with and without a count, for an AUC of a gene
_Z_90 = float(norm.ppf(0.95))


def no_count_probability(
    predicted: Values, samples: Values | None, band: tuple[Values, Values] | None
) -> Floats | None:
    """Return the predicted probability that a spot counts nothing of a gene, (N,G).

    The share of draws below half a count; without draws what the 90 % band says, taken as a normal
    distribution of that width on the lower side; without either None.

    Parameters
    ----------
    predicted
        (N,G), log2(1 + count).
    samples
        (N,K,G) or None.
    band
        Bounds of the 90 % band, (N,G) each, or None.
    """
    if samples is not None:
        share: Floats = (samples < ZERO_BELOW).mean(1)
        return share
    if band is None:
        return None
    away = ZERO_BELOW - predicted.astype(np.float64)
    low = uncut_lower(predicted, *band)
    side = np.where(away < 0, predicted - low, band[1] - predicted) / _Z_90
    # a band of no width says yes or no
    out: Floats = norm.cdf(away / np.maximum(side, 1e-9))
    return out


def zero_figures(
    predicted: Values, measured: Values, probability: Floats | None
) -> dict[str, float]:
    """Compare predicted with measured zeros.

    Parameters
    ----------
    predicted, measured
        (N,G), log2(1 + count).
    probability
        From `no_count_probability`, or None: a value below half a count then means no count.

    Returns
    -------
    dict
        `zero_auc` (NaN where no gene has 5 spots of either kind), `zero_share_error`,
        `zero_brier` (NaN without probabilities).
    """
    zero = measured < ZERO_BELOW
    count = zero.sum(0)
    enough = (count >= _AT_LEAST) & (len(zero) - count >= _AT_LEAST)
    said = predicted < ZERO_BELOW if probability is None else probability
    return {
        "zero_auc": float(roc_auc(-predicted[:, enough], zero[:, enough]).mean())
        if enough.any()
        else float("nan"),
        "zero_share_error": float(np.abs(said.mean(0) - zero.mean(0)).mean()),
        "zero_brier": float("nan")
        if probability is None
        else float(((probability - zero) ** 2).mean()),
    }
