"""What Space Ranger writes of a section, made from a table of counts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.sparse import csc_matrix

from stem_core.slides.counts_files import MATRIX_NAME
from stem_core.slides.spots_files import SPACE_RANGER


def write_outs(
    outs: Path,
    ids: Sequence[str],
    x_px: np.ndarray,
    y_px: np.ndarray,
    counts: Any,
    symbols: Sequence[str],
    *,
    in_tissue: np.ndarray | None = None,
    header: bool = True,
) -> Path:
    """Write matrix and positions; the matrix has the spots in tissue, the last one first.

    Beside the genes, (N,G) counts, it has an antibody.
    """
    inside = np.ones(len(ids), bool) if in_tissue is None else in_tissue
    kept = np.flatnonzero(inside)[::-1]
    dense = np.asarray(counts.todense() if hasattr(counts, "todense") else counts)
    matrix = csc_matrix(np.column_stack([dense, dense[:, :1]])[kept].T.astype(np.int32))
    (outs / "spatial").mkdir(parents=True)
    with h5py.File(outs / MATRIX_NAME, "w") as file:
        group = file.create_group("matrix")
        for name in ("data", "indices", "indptr"):
            group[name] = getattr(matrix, name)
        group["shape"] = matrix.shape
        group["barcodes"] = [ids[n].encode() for n in kept]
        accessions = [b"ENSG%011d" % n for n in range(len(symbols))]
        group["features/id"] = [*accessions, b"CD3"]
        group["features/name"] = [*(symbol.encode() for symbol in symbols), b"CD3"]
        group["features/feature_type"] = [b"Gene Expression"] * len(symbols) + [b"Antibody Capture"]
    lines = [
        f"{name},{int(inside[n])},{n},{n},{y:.0f},{x:.0f}"
        for n, (name, x, y) in enumerate(zip(ids, x_px, y_px, strict=True))
    ]
    name = "tissue_positions.csv" if header else "tissue_positions_list.csv"
    text = "\n".join([",".join(SPACE_RANGER), *lines] if header else lines)
    (outs / "spatial" / name).write_text(text, encoding="utf-8")
    (outs / "spatial" / "scalefactors_json.json").write_text("{}", encoding="utf-8")
    return outs
