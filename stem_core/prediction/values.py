"""The (N, G) values of a prediction, in memory or in its file.

A file's values lie in compressed blocks of a few genes, so one gene of 100,000 spots is read in
some hundredths of a second, where all values take seconds and hundreds of megabytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Protocol, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from stem_core.errors import ModelError, OutputError

__all__ = [
    "FileValues",
    "PredictedArrays",
    "PredictedValues",
    "reading",
    "require_finite",
    "unreadable",
]

Values = NDArray[np.float32]
_ELEMENTS = {
    "mean": "X",
    "std": "layers/std",
    "q05": "layers/q05",
    "q95": "layers/q95",
    "ridge": "layers/ridge",
}
_KEPT_COLUMNS = 32
Read = TypeVar("Read")


class PredictedValues(Protocol):
    """Mean, standard deviation, 90 % band and ridge baseline of N spots and G genes."""

    @property
    def has_ridge(self) -> bool:
        """Whether there is the ridge baseline."""

    def all(self, name: str) -> Values:
        """Return all genes, float32 (N, G)."""

    def column(self, name: str, place: int) -> Values:
        """Return the gene at a place of the panel, float32 (N,)."""

    def check(self, ids: Sequence[str], n_genes: int) -> None:
        """Require values of these spots and that many genes.

        Raises
        ------
        ValueError
            An array has another shape.
        ModelError
            A value is not a finite number.
        """


@dataclass(frozen=True, eq=False)
class PredictedArrays:
    """Values in memory, each float32 (N, G); without the ridge baseline where a model has none."""

    mean: Values
    std: Values
    q05: Values
    q95: Values
    ridge: Values | None = None

    def __post_init__(self) -> None:
        """Make all of them float32."""
        for name, values in self._named().items():
            object.__setattr__(self, name, values.astype(np.float32, copy=False))

    @property
    def has_ridge(self) -> bool:
        """Whether there is the ridge baseline."""
        return self.ridge is not None

    def all(self, name: str) -> Values:
        """Return all genes, float32 (N, G)."""
        return self._named()[name]

    def column(self, name: str, place: int) -> Values:
        """Return the gene at a place of the panel, float32 (N,)."""
        return self._named()[name][:, place]

    def check(self, ids: Sequence[str], n_genes: int) -> None:
        """Require finite values of these spots and that many genes, as the protocol says."""
        for name, values in self._named().items():
            if values.shape != (len(ids), n_genes):
                msg = (
                    f"{name} has shape {values.shape}, expected {(len(ids), n_genes)} (spots, "
                    "genes)"
                )
                raise ValueError(msg)
            require_finite(name, values, ids)

    def _named(self) -> dict[str, Values]:
        named = {name: getattr(self, name) for name in _ELEMENTS}
        return {name: values for name, values in named.items() if values is not None}


class FileValues:
    """Values in a `prediction.h5ad`, read when they are asked for, and then kept.

    Safe to share between threads. Reading raises OutputError where the file is gone or damaged by
    then.

    Raises
    ------
    OutputError
        The file is missing, damaged, or no prediction of this program.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._shapes = reading(path, _shapes)
        self._all = cache(self._read)
        self._columns = lru_cache(maxsize=_KEPT_COLUMNS)(self._read)

    @property
    def has_ridge(self) -> bool:
        """Whether there is the ridge baseline."""
        return "ridge" in self._shapes

    def all(self, name: str) -> Values:
        """Return all genes, float32 (N, G); they cannot be written to."""
        return self._all(name)

    def column(self, name: str, place: int) -> Values:
        """Return the gene at a place of the panel, float32 (N,); it cannot be written to."""
        return self._columns(name, place)

    def check(self, ids: Sequence[str], n_genes: int) -> None:
        """Require values of these spots and that many genes; they were finite when written."""
        for name, shape in self._shapes.items():
            if shape != (len(ids), n_genes):
                msg = f"{name} is not an array of {len(ids):,} spots and {n_genes:,} genes"
                raise ValueError(msg)

    def _read(self, name: str, place: int | None = None) -> Values:
        def read(file: h5py.File) -> Values:
            dataset = file[_ELEMENTS[name]]
            values = dataset[...] if place is None else dataset[:, place]
            return np.asarray(values, dtype=np.float32)

        values = reading(self.path, read)
        values.flags.writeable = False
        return values


def _shapes(file: h5py.File) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the values there are; the ridge baseline alone may be missing."""
    wanted = {n: e for n, e in _ELEMENTS.items() if n != "ridge" or e in file}
    return {name: getattr(file[element], "shape", ()) for name, element in wanted.items()}


def require_finite(name: str, values: Values, ids: Sequence[str]) -> None:
    """Refuse values, one row a spot, that are not finite numbers."""
    finite = np.isfinite(values)
    if not finite.all():
        row = int(np.argwhere(~finite)[0][0])
        msg = (
            f"The model gave {int((~finite).sum())} values that are not finite numbers (array "
            f"{name}, first at spot {ids[row]}), so nothing was written; try another sampler or "
            "more steps."
        )
        raise ModelError(msg)


def reading(path: Path, read: Callable[[h5py.File], Read]) -> Read:
    """Read something of a `prediction.h5ad`.

    Raises
    ------
    OutputError
        The file is missing, damaged, or no prediction of this program.
    """
    try:
        with h5py.File(path, "r") as file:
            return read(file)
    except FileNotFoundError as error:
        msg = f"There is no file {path}; run the prediction again or name the right folder."
        raise OutputError(msg) from error
    except (OSError, KeyError, ValueError, TypeError, StopIteration, AttributeError) as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> OutputError:
    """Return the error for a file that cannot be read as a prediction."""
    reason = " ".join(str(error).split())[:160] or type(error).__name__
    msg = (
        f"{path.name} is damaged or was not written by `stem predict` ({reason}); "
        "run the prediction again or name another file."
    )
    return OutputError(msg)
