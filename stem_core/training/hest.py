"""Read measured sections in the layout of HEST-1k.

That is `wsis/<id>.tif`, `st/<id>.h5ad`, `metadata/<id>.json`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["MeasuredSection", "log_counts", "read_section"]


@dataclass(frozen=True)
class MeasuredSection:
    """One section with its image and counts.

    Attributes
    ----------
    name
        HEST id.
    image, table
        Paths of the image and of the h5ad (spots in level-0 pixels).
    counts
        Raw counts, spots × genes, dense float32.
    metadata
        The JSON as it is.
    """

    name: str
    image: Path
    table: Path
    counts: AnnData
    metadata: dict[str, Any]


def read_section(folder: Path, name: str) -> MeasuredSection:
    """Read a section of a folder in HEST layout."""
    import anndata

    table = folder / "st" / f"{name}.h5ad"
    counts = anndata.read_h5ad(table)
    dense = counts.X.toarray() if hasattr(counts.X, "toarray") else np.asarray(counts.X)
    counts.X = dense.astype(np.float32)
    counts.var_names_make_unique()
    metadata = json.loads((folder / "metadata" / f"{name}.json").read_text(encoding="utf-8"))
    return MeasuredSection(name, folder / "wsis" / f"{name}.tif", table, counts, metadata)


def log_counts(section: MeasuredSection, panel: list[str]) -> NDArray[np.float32]:
    """log2(1 + raw count) of the panel, (N,G)."""
    values: NDArray[np.float32] = np.log2(1 + np.asarray(section.counts[:, panel].X)).astype(
        np.float32
    )
    return values
