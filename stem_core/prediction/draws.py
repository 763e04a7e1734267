"""What the draws of some spots say, summed up and, for maps, a few of them one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from stem_core.notebook import record_repr
from stem_core.prediction.settings import SamplingSettings

__all__ = ["MOST_SINGLES", "Draws", "singles_to_keep"]

MOST_SINGLES = 8
_MOST_SINGLES_BYTES = 128_000_000


@dataclass(frozen=True)
class Draws:
    """What K draws of n spots say, float32 unless said otherwise.

    Attributes
    ----------
    mean, std, q05, q95
        (n,G).
    domain_distance
        (n,); None for a model without a reference.
    singles
        float16 (n,k,G): some of the draws themselves, not clipped at 0; None where none was asked
        for.
    baseline
        float16 (n,G): what the ridge baseline predicts from the same condition, not clipped at 0;
        None for a model without one.
    """

    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    q05: NDArray[np.float32]
    q95: NDArray[np.float32]
    domain_distance: NDArray[np.float32] | None = None
    singles: NDArray[np.float16] | None = None
    baseline: NDArray[np.float16] | None = None

    __repr__ = record_repr

    def save(self, path: Path) -> None:
        """Write as safetensors."""
        save_file({name: np.ascontiguousarray(value) for name, value in self._held()}, path)

    def _held(self) -> list[tuple[str, NDArray[Any]]]:
        values = [(f.name, getattr(self, f.name)) for f in fields(self)]
        return [(name, value) for name, value in values if value is not None]

    @classmethod
    def load(cls, path: Path) -> Draws:
        """Read what `save` wrote."""
        return cls(**load_file(path))

    @classmethod
    def join(cls, parts: Sequence[Draws]) -> Draws:
        """Put chunks together in order."""
        return cls(
            **{
                name: np.concatenate([getattr(part, name) for part in parts])
                for name, _ in parts[0]._held()
            }
        )


def singles_to_keep(settings: SamplingSettings, n_spots: int, n_genes: int) -> tuple[int, ...]:
    """Return which of the K draws of each spot to keep one by one, in the order to show them.

    As many as fit, at most `MOST_SINGLES` and 128 MB as float16 for the whole run, but always one.
    Paired draws 2i and 2i + 1 mirror each other around the mean, so a map of the second tells
    nothing after one of the first: the first ones of all pairs come first, and the mirrored ones
    only where all K draws fit. So no draw is followed by its mirror image unless K is 2.
    """
    fit = _MOST_SINGLES_BYTES // max(1, n_spots * n_genes * np.dtype(np.float16).itemsize)
    most = min(MOST_SINGLES, max(1, fit))
    order = list(range(settings.samples))
    if settings.paired:
        order = order[::2] + (order[1::2] if settings.samples <= most else [])
    return tuple(order[:most])
