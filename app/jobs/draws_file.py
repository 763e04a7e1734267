"""Single draws and the ridge baseline of a run, in `draws.safetensors` beside its result.

    draws      float16 (k, G, N): draws of every spot, one by one; see `singles_to_keep`
    baseline   float16 (G, N): the ridge baseline's prediction; not there for a model without one

Both in log2(1 + count) and not clipped at 0. A map lies in one piece, so that it is read alone;
the file is not a part of the download.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from stem_core.errors import OutputError
from stem_core.files import atomic_write
from stem_core.prediction.draws import Draws

__all__ = ["KeptDraws", "find_draws", "save_draws"]

Values = NDArray[np.float32]


@dataclass(frozen=True)
class KeptDraws:
    """What a run kept besides its result; read from the file map by map.

    Attributes
    ----------
    path
        The file.
    count
        Single draws kept, k.
    made
        Draws that the run made of each spot, K.
    has_baseline
        Whether there is the ridge baseline's prediction.
    shape
        (N, G) of the run.
    """

    path: Path
    count: int
    made: int
    has_baseline: bool
    shape: tuple[int, int]

    def draw(self, number: int, gene: int) -> Values:
        """Return draw `number` (1 to `count`) of the gene at place `gene`, float32 (N,).

        Raises
        ------
        OutputError
            The file cannot be read.
        """
        return self._read("draws", (number - 1, gene))

    def baseline(self, gene: int | None = None) -> Values:
        """Return the baseline of a gene, float32 (N,), or of all genes, float32 (N, G).

        Raises
        ------
        OutputError
            The file cannot be read.
        """
        place = slice(None) if gene is None else gene
        return self._read("baseline", place).T

    def _read(self, name: str, place: Any) -> Values:
        try:
            with safe_open(self.path, framework="numpy") as file:
                values: NDArray[np.float16] = file.get_slice(name)[place]
        except (OSError, SafetensorError) as error:
            msg = (
                "The file with the single draws of this run cannot be read; choose another layer, "
                "or start the run again."
            )
            raise OutputError(msg) from error
        return values.astype(np.float32)


def save_draws(draws: Draws, made: int, path: Path) -> None:
    """Write the single draws and the baseline of a whole run.

    `made` is the number of draws of each spot.
    """
    assert draws.singles is not None
    arrays = {"draws": np.ascontiguousarray(draws.singles.transpose(1, 2, 0))}
    if draws.baseline is not None:
        arrays["baseline"] = np.ascontiguousarray(draws.baseline.T)
    with atomic_write(path, only_writer=True) as temporary:
        save_file(arrays, temporary, metadata={"made": str(made)})


def find_draws(path: Path) -> KeptDraws | None:
    """Return what a run kept, None where it is from before runs kept draws.

    Raises
    ------
    OutputError
        The file is damaged.
    """
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            count, genes, spots = file.get_slice("draws").get_shape()
            has_baseline = "baseline" in file.keys()
            if has_baseline and file.get_slice("baseline").get_shape() != [genes, spots]:
                msg = "the baseline is of another shape"
                raise ValueError(msg)
            made = int(file.metadata()["made"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        msg = f"{path.name} is damaged ({error}); start the run again to have its single draws."
        raise OutputError(msg) from error
    return KeptDraws(path, count, made, has_baseline, (spots, genes))
