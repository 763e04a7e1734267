"""A prediction in its file: spots and genes are read at once, values gene by gene when asked for.

The file's values lie in compressed blocks of a few genes, so one gene of 100,000 spots is read in
some hundredths of a second, where all values take seconds and hundreds of megabytes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from stem_core.errors import OutputError
from stem_core.prediction.result import Prediction, prediction_facts, unreadable

__all__ = ["StoredPrediction", "open_prediction"]

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


class StoredPrediction(Prediction):
    """A prediction whose (N, G) arrays stay in the file until they are needed.

    `column` reads one gene; `mean`, `std`, `q05`, `q95` and `ridge` read all genes, and keep them.
    Safe to share between threads. Reading raises OutputError where the file is gone or damaged by
    then.
    """

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        for name, value in facts.items():
            object.__setattr__(self, name, value)  # of a frozen dataclass
        object.__setattr__(self, "_path", path)
        kept = lru_cache(maxsize=_KEPT_COLUMNS)(self._read)
        object.__setattr__(self, "_read_kept", kept)

    @cached_property
    def mean(self) -> Values:
        """Mean over the draws, (N, G)."""
        return self._read("mean")

    @cached_property
    def std(self) -> Values:
        """Standard deviation over the draws, (N, G)."""
        return self._read("std")

    @cached_property
    def q05(self) -> Values:
        """Lower bound of the 90 % band, (N, G)."""
        return self._read("q05")

    @cached_property
    def q95(self) -> Values:
        """Upper bound of the 90 % band, (N, G)."""
        return self._read("q95")

    @cached_property
    def ridge(self) -> Values:
        """Prediction of the ridge baseline, (N, G); None, a fact of the file, where it has none."""
        return self._read("ridge")

    def column(self, name: str, place: int) -> Values:
        """Return one gene of `mean`, `std`, `q05` or `q95`, (N,); it cannot be written to."""
        if name in self.__dict__:
            return super().column(name, place)
        values: Values = self._read_kept(name, place)  # type: ignore[attr-defined]
        return values

    def _read(self, name: str, place: int | None = None) -> Values:
        def read(file: h5py.File) -> Values:
            dataset = file[_ELEMENTS[name]]
            values = dataset[...] if place is None else dataset[:, place]
            return np.asarray(values, dtype=np.float32)

        values = _reading(self._path, read)  # type: ignore[attr-defined]
        values.flags.writeable = False
        return values


def open_prediction(path: Path) -> StoredPrediction:
    """Open a `prediction.h5ad`; its values are read when they are asked for.

    Parameters
    ----------
    path
        A file that `write_prediction` made.

    Raises
    ------
    OutputError
        The file is missing, damaged, or no prediction of this program.
    """
    return StoredPrediction(path, _reading(path, _facts))


def _facts(file: h5py.File) -> dict[str, Any]:
    from anndata.io import read_elem

    obs, var, uns = (read_elem(file[name]) for name in ("obs", "var", "uns"))
    shape = len(obs), len(var)
    facts = prediction_facts(obs, var, uns)
    for name, element in _ELEMENTS.items():
        if name == "ridge" and element not in file:
            facts[name] = None
            continue
        found = file[element]
        if not isinstance(found, h5py.Dataset) or found.shape != shape:
            msg = f"{name} is not an array of {shape[0]:,} spots and {shape[1]:,} genes"
            raise ValueError(msg)
    return facts


def _reading(path: Path, read: Callable[[h5py.File], Read]) -> Read:
    try:
        with h5py.File(path, "r") as file:
            return read(file)
    except FileNotFoundError as error:
        msg = f"There is no file {path}; run the prediction again or name the right folder."
        raise OutputError(msg) from error
    except (OSError, KeyError, ValueError, TypeError, StopIteration, AttributeError) as error:
        raise unreadable(path, error) from error
