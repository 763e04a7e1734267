"""A plain spread around a baseline's value: a normal distribution cut at 0, as predictions are.

What of the normal distribution lies below 0 counts as 0, so 0 has a probability of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from stem_core.evaluation.zeros import ZERO_BELOW

__all__ = ["CensoredNormal"]

Values = NDArray[np.floating[Any]]
Floats = NDArray[np.float64]

_Z_90 = 1.645
_NARROWEST = 1e-9


@dataclass(frozen=True)
class CensoredNormal:
    """max(0, X) of a normal X.

    Attributes
    ----------
    centre
        (N,G): mean of X, log2(1 + count).
    sd
        (G,): standard deviation of X.
    """

    centre: Values
    sd: Values

    def crps(self, measured: Values) -> Floats:
        """Continuous ranked probability score, (N,G), of measured values that are not below 0.

        That of the normal distribution in closed form (Gneiting & Raftery 2007, section 4.2), less
        its part below 0, ∫ Φ² from -∞ to 0, where the cut distribution has the measured 0.
        """
        sd = self._sd()
        z, cut = self._scaled(measured), self._scaled(0.0)
        whole = z * (2 * ndtr(z) - 1) + 2 * _density(z) - 1 / np.sqrt(np.pi)
        below = (
            cut * ndtr(cut) ** 2
            + 2 * _density(cut) * ndtr(cut)
            - ndtr(np.sqrt(2) * cut) / np.sqrt(np.pi)
        )
        return np.asarray(sd * (whole - below))

    def inside_90(self, measured: Values) -> NDArray[np.bool_]:
        """Whether values lie between the 5 % and 95 % quantiles, bounds included, (N,G)."""
        half = _Z_90 * self._sd()
        low, high = (np.maximum(self.centre + side * half, 0.0) for side in (-1, 1))
        return np.asarray((measured >= low) & (measured <= high))

    def no_count(self) -> Floats:
        """Return the probability of less than half a count, (N,G)."""
        return np.asarray(ndtr(self._scaled(ZERO_BELOW)))

    def _sd(self) -> Floats:
        return np.maximum(np.asarray(self.sd, dtype=np.float64), _NARROWEST)

    def _scaled(self, value: Values | float) -> Floats:
        return np.asarray((value - self.centre.astype(np.float64)) / self._sd())


def _density(z: Floats) -> Floats:
    return np.asarray(np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi))
