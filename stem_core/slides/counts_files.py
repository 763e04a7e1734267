"""Read measured counts from the files that the field uses: h5ad, and Space Ranger's matrix.

Files come from outside: links to other files are refused, nothing is executed, and how much a file
unpacks to is checked before anything large is read.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from stem_core.errors import SectionError

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["MATRIX_NAME", "read_counts_h5ad", "read_counts_matrix"]

MATRIX_NAME = "filtered_feature_bc_matrix.h5"
_MOST_BYTES = 8_000_000_000  # of an h5ad, unpacked
_MOST_MATRIX_BYTES = 24_000_000_000  # two billion counts with their places
_GENES = b"Gene Expression"


def read_counts_h5ad(path: Path, source: str = "") -> AnnData:
    """Read an h5ad file.

    Parameters
    ----------
    path
        The file.
    source
        What errors call it; its name by default.

    Raises
    ------
    SectionError
        The file cannot be read, points into other files, is too large, or has no matrix.
    """
    import anndata

    source = source or path.name
    try:
        with h5py.File(path, "r") as file:
            _refuse_links(file, source)
            _refuse_large(file, source, _MOST_BYTES)
        table = anndata.read_h5ad(path)
    except SectionError:
        raise
    except Exception as error:
        msg = (
            f"{source} cannot be read as h5ad ({type(error).__name__}); give a file written by "
            "anndata."
        )
        raise SectionError(msg) from error
    if table.X is None:
        msg = f"{source} has no counts in X; write the raw counts there."
        raise SectionError(msg)
    return table


def read_counts_matrix(path: Path, source: str = "") -> AnnData:
    """Read Space Ranger's feature-barcode matrix (HDF5, version 3 of the format).

    Parameters
    ----------
    path
        `filtered_feature_bc_matrix.h5` of an outs folder.
    source
        What errors call it; its name by default.

    Returns
    -------
    AnnData
        Barcodes × genes, float32, sparse; symbols as `var_names` (not made unique), Ensembl ids in
        `var["gene_ids"]`. Features that are not genes are left out.

    Raises
    ------
    SectionError
        The file cannot be read, points into other files, is too large, or is of another kind.
    """
    import anndata
    import pandas as pd
    from scipy.sparse import csr_matrix

    source = source or path.name
    try:
        with h5py.File(path, "r") as file:
            _refuse_links(file, source)
            _refuse_large(file, source, _MOST_MATRIX_BYTES)
            matrix = file["matrix"]
            features, spots = map(int, matrix["shape"][:2])
            # columns are barcodes: read as rows, the matrix is turned
            parts = (matrix[name][:] for name in ("data", "indices", "indptr"))
            values = csr_matrix(tuple(parts), shape=(spots, features), dtype=np.float32)
            barcodes = _texts(matrix["barcodes"])
            names, ids = (_texts(matrix["features"][key]) for key in ("name", "id"))
            kinds = matrix["features"]["feature_type"][:]
    except SectionError:
        raise
    except Exception as error:
        msg = (
            f"{source} cannot be read as Space Ranger's matrix ({type(error).__name__}); give "
            f"{MATRIX_NAME} as Space Ranger wrote it."
        )
        raise SectionError(msg) from error
    genes = np.flatnonzero(np.asarray(kinds) == _GENES)
    table = anndata.AnnData(values[:, genes])
    table.obs_names = barcodes
    table.var = pd.DataFrame({"gene_ids": np.asarray(ids)[genes]}, index=np.asarray(names)[genes])
    return table


def _texts(values: h5py.Dataset) -> list[str]:
    return [v.decode() if isinstance(v, bytes) else str(v) for v in values[:]]


def _refuse_links(group: h5py.Group, source: str) -> None:
    """Refuse a file that reaches into other files: they are not the user's to show."""
    for name in group:
        link: Any = group.get(name, getlink=True)
        child = group.get(name) if isinstance(link, h5py.HardLink) else None
        outside = isinstance(child, h5py.Dataset) and (child.external or child.is_virtual)
        if isinstance(link, h5py.ExternalLink) or outside:
            msg = f"{source} points to data in another file; write it again as one file."
            raise SectionError(msg)
        if isinstance(child, h5py.Group):
            _refuse_links(child, source)


def _refuse_large(file: h5py.File, source: str, most_bytes: int) -> None:
    """Refuse a file that unpacks to more than a section has; links are refused before."""
    size = _unpacked_bytes(file)
    if size > most_bytes:
        msg = (
            f"{source} unpacks to {size / 1e9:.0f} GB, and at most {most_bytes / 1e9:g} are read; "
            "write it sparse, with the counts of this one section."
        )
        raise SectionError(msg)


def _unpacked_bytes(group: h5py.Group) -> int:
    """Return the size of all data of a file, as it is in memory."""
    total = 0
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            continue
        child = group.get(name)
        if isinstance(child, h5py.Group):
            total += _unpacked_bytes(child)
        elif isinstance(child, h5py.Dataset) and child.size is not None:
            total += int(child.size) * child.dtype.itemsize
    return total
