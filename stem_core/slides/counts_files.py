"""Read measured counts from the files that the field uses: h5ad, and Space Ranger's matrix.

Files come from outside: links to other files are refused, nothing is executed, and sizes are
checked before anything large is read.
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
_MOST_VALUES = 2_000_000_000
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
        The file cannot be read, points into other files, or has no matrix.
    """
    import anndata

    source = source or path.name
    try:
        with h5py.File(path, "r") as file:
            _refuse_links(file, source)
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
        The file cannot be read, points into other files, or is of another kind.
    """
    import anndata
    import pandas as pd
    from scipy.sparse import csr_matrix

    source = source or path.name
    try:
        with h5py.File(path, "r") as file:
            _refuse_links(file, source)
            matrix = file["matrix"]
            features, spots = map(int, matrix["shape"][:2])
            if matrix["data"].size > _MOST_VALUES:
                msg = f"{source} has {matrix['data'].size:,} values, too many for one section."
                raise SectionError(msg)
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
