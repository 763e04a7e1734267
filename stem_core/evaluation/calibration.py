"""Whether draws are spread as the measured values are around them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["half_sample_mode", "sample_calibration"]

Values = NDArray[np.floating[Any]]


def sample_calibration(samples: Values, measured: Values) -> pd.DataFrame:
    """Count how many measured values lie between order statistics of the draws.

    Of K independent draws and a measurement alike in distribution, the measurement lies between the
    k-th smallest and the k-th largest draw with probability 1 - 2k / (K + 1), exactly: levels that
    K draws can speak of, without interpolation.

    Parameters
    ----------
    samples
        (N,K,G), independent draws, K at least 2.
    measured
        (N,G).

    Returns
    -------
    DataFrame
        A row for each k, widest last: `nominal`, `observed` (share inside, bounds included), and
        `low` and `high`, the 5 % and 95 % quantiles of the share over genes. Bounds included means
        that a measured 0 is inside where draws are 0, so genes with many zeros are covered more
        often than nominal.
    """
    count = samples.shape[1]
    ordered = np.sort(samples, axis=1)
    table = []
    for k in range(count // 2, 0, -1):
        inside = (measured >= ordered[:, k - 1]) & (measured <= ordered[:, count - k])
        by_gene = inside.mean(0)
        table.append(
            (1 - 2 * k / (count + 1), float(by_gene.mean()), *np.quantile(by_gene, [0.05, 0.95]))
        )
    return pd.DataFrame(table, columns=["nominal", "observed", "low", "high"])


def half_sample_mode(samples: Values) -> NDArray[np.float64]:
    """Mode of the draws by halving the sample (Bickel & Frühwirth 2006), (N,K,G) -> (N,G).

    Again and again the half of the draws that lie closest together is kept, the lower one of
    equals; of three, the closer two; the mode is the mean of the last two.
    """
    kept = np.sort(samples.astype(np.float64), axis=1)
    while (count := kept.shape[1]) > 2:
        half = 2 if count == 3 else -(-count // 2)
        width = kept[:, half - 1 :] - kept[:, : count - half + 1]
        start = width.argmin(1)[:, None]
        kept = np.take_along_axis(kept, start + np.arange(half)[None, :, None], axis=1)
    return np.asarray(kept.mean(1))
