"""Read a measured section for comparison with a prediction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stem_core.analysis.matching import Measured, match_measured
from stem_core.errors import EvaluationError
from stem_core.prediction.result import Prediction

__all__ = ["read_measured"]


def read_measured(path: Path, prediction: Prediction, source: str = "") -> Measured:
    """Read raw counts from an h5ad file and bring them into the order of a prediction.

    Parameters
    ----------
    path
        An h5ad file: raw counts in `X`, positions in `obsm["spatial"]` (level-0 pixels) where spots
        are not to be matched by name, gene symbols as `var_names`, Ensembl ids in
        `var["gene_ids"]` where they are known.
    prediction
        Of the same slide.
    source
        What errors call the file; its name by default.

    Raises
    ------
    EvaluationError
        The file cannot be read, points into other files, or does not fit the prediction.
    """
    import anndata

    source = source or path.name
    try:
        with h5py.File(path, "r") as file:
            _refuse_links(file, source)
        table = anndata.read_h5ad(path)
        spatial = table.obsm["spatial"] if "spatial" in table.obsm else None
    except EvaluationError:
        raise
    except Exception as error:
        msg = (
            f"{source} cannot be read as h5ad ({type(error).__name__}); give a file written by "
            "anndata."
        )
        raise EvaluationError(msg) from error
    x_px, y_px = (None, None) if spatial is None else np.asarray(spatial, np.float64)[:, :2].T
    ids = table.var["gene_ids"].astype(str).tolist() if "gene_ids" in table.var else None
    if table.X is None:
        msg = f"{source} has no counts in X; write the raw counts there."
        raise EvaluationError(msg)
    return match_measured(
        prediction, list(table.obs_names), x_px, y_px, list(table.var_names), ids, table.X, source
    )


def _refuse_links(group: h5py.Group, source: str) -> None:
    """Refuse a file that reaches into other files: they are not the user's to show."""
    for name in group:
        link: Any = group.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            msg = f"{source} points to data in another file; write it again as one file."
            raise EvaluationError(msg)
        if isinstance(link, h5py.HardLink) and isinstance(child := group.get(name), h5py.Group):
            _refuse_links(child, source)
