"""Small measured sections on disk, made up, in the layouts of the field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import tifffile

GENES = [*(f"GENE{i:03d}" for i in range(40)), "MT-CO1", "RPS3"]
SIDE_PX, MPP, PITCH_UM = 600, 2.0, 200.0


def write_picture(path: Path, mpp: float = MPP, *, seed: int = 0) -> None:
    """Pink tissue in the middle of glass."""
    rng = np.random.default_rng(seed)
    picture = np.full((SIDE_PX, SIDE_PX, 3), 240, np.uint8)
    inside = slice(40, SIDE_PX - 40)
    picture[inside, inside] = np.array([200, 120, 170]) + rng.integers(
        -30, 30, (SIDE_PX - 80, SIDE_PX - 80, 1)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    scale = (1e4 / mpp, 1e4 / mpp)
    tifffile.imwrite(path, picture, photometric="rgb", resolution=scale, resolutionunit=3)


def positions() -> np.ndarray:
    """Centres of 25 spots of a square grid, x and y in pixels."""
    step = PITCH_UM / MPP
    across, down = np.meshgrid(np.arange(5), np.arange(5))
    return np.stack([100 + across.ravel() * step, 100 + down.ravel() * step], 1)


def made_counts(seed: int, genes: list[str] = GENES) -> anndata.AnnData:
    """Counts of 25 spots, levels rising with the gene."""
    rng = np.random.default_rng(seed)
    level = np.linspace(1, 40, len(genes))
    table = anndata.AnnData(rng.poisson(level, (25, len(genes))).astype(np.float32))
    table.var_names = genes
    table.obs_names = [f"s{i}" for i in range(25)]
    table.obsm["spatial"] = positions()
    return table


def write_section(
    folder: Path, name: str, counts: anndata.AnnData | None = None, *, mpp: float = MPP,
    metadata: dict[str, Any] | None = None,
) -> None:  # fmt: skip
    """Write a section in the layout of HEST-1k."""
    write_picture(folder / "wsis" / f"{name}.tif", mpp)
    (folder / "st").mkdir(exist_ok=True)
    (made_counts(0) if counts is None else counts).write_h5ad(folder / "st" / f"{name}.h5ad")
    if metadata is not None:
        (folder / "metadata").mkdir(exist_ok=True)
        text = json.dumps({"inter_spot_dist": PITCH_UM} | metadata)
        (folder / "metadata" / f"{name}.json").write_text(text)


def write_space_ranger(folder: Path, name: str) -> None:
    """Write a Space Ranger folder with its image; its matrix has another order than its spots."""
    outs = folder / name / "outs"
    (outs / "spatial").mkdir(parents=True)
    write_picture(folder / name / "slide.tif")
    table = made_counts(3)[::-1]
    with h5py.File(outs / "filtered_feature_bc_matrix.h5", "w") as file:
        from scipy.sparse import csr_matrix

        values = csr_matrix(table.X)
        matrix = file.create_group("matrix")
        for key in ("data", "indices", "indptr"):
            matrix[key] = getattr(values, key)
        matrix["shape"] = [table.n_vars + 1, table.n_obs]
        matrix["barcodes"] = np.array(list(table.obs_names), "S")
        features = matrix.create_group("features")
        features["name"] = np.array([*table.var_names, "CD4-TotalC"], "S")
        features["id"] = np.array([f"ENSG{i:011d}" for i in range(table.n_vars + 1)], "S")
        features["feature_type"] = np.array(
            [*["Gene Expression"] * table.n_vars, "Antibody Capture"], "S"
        )
    xy = positions()
    pd.DataFrame({
        "barcode": [*(f"s{i}" for i in range(25)), "off"], "in_tissue": [1] * 25 + [0],
        "array_row": 0, "array_col": 0,
        "pxl_row_in_fullres": [*xy[:, 1], 5.0], "pxl_col_in_fullres": [*xy[:, 0], 5.0],
    }).to_csv(outs / "spatial" / "tissue_positions.csv", index=False)  # fmt: skip
