"""Read a measured section for comparison with a prediction."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from scipy.sparse import issparse

from stem_core.analysis.matching import (
    ImageSize,
    Measured,
    MeasuredTable,
    are_counts,
    doubts_of,
    match_measured,
    refuse_other_image,
    section_name,
)
from stem_core.analysis.measured_archives import unpack_space_ranger
from stem_core.analysis.variogram import Floats
from stem_core.errors import EvaluationError, SectionError, SpotsError
from stem_core.prediction.result import Prediction
from stem_core.slides.counts_files import MATRIX_NAME, read_counts_h5ad, read_counts_matrix
from stem_core.slides.spots_files import read_table

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["match_table", "read_measured", "space_ranger_outs"]

_COUNT_LAYERS = ("counts", "raw_counts")
_ZIP_MAGIC = b"PK\x03\x04"
_UNNAMED = "The measured section"
_EXPECTED = "give an h5ad, or a zip of Space Ranger's outs folder"


def read_measured(path: Path, prediction: Prediction, source: str = "") -> Measured:
    """Read raw counts of a measured section and bring them into the order of a prediction.

    Parameters
    ----------
    path
        One of

        - an h5ad file: raw counts in `X` (or in `layers["counts"]` where `X` is none), positions in
          `obsm["spatial"]` (level-0 pixels) where spots are not to be matched by name, gene symbols
          as `var_names`, Ensembl ids in `var["gene_ids"]` where they are known;
        - Space Ranger's folder, with `outs` or what lies in it: `filtered_feature_bc_matrix.h5` and
          `spatial/tissue_positions.csv` (or `tissue_positions_list.csv`);
        - a zip of such a folder.
    prediction
        Of the same slide.
    source
        What errors call the file; its name by default.

    Raises
    ------
    EvaluationError
        The file is missing, cannot be read, points into other files, or does not fit the
        prediction. Where it has a picture of its tissue, the picture has to be of an image as large
        as the slide, within 1 %.
    """
    if not source:  # of Space Ranger's folder, the one that it lies in tells the section
        source = f"{path.absolute().parent.name}/outs" if path.name == "outs" else path.name
    try:
        if not path.exists():
            msg = f"There is no file {source}; name the measured section: {_EXPECTED}."
            raise EvaluationError(msg)
        if path.is_dir():
            return _read_space_ranger(path, prediction, source)
        with path.open("rb") as file:
            head = file.read(4)
        if head == _ZIP_MAGIC:
            with tempfile.TemporaryDirectory() as folder:
                unpack_space_ranger(path, Path(folder), source)
                return _read_space_ranger(Path(folder), prediction, source)
        return _read_h5ad(path, prediction, source)
    except (SectionError, SpotsError) as error:
        raise EvaluationError(str(error)) from error
    except OSError as error:
        msg = f"{source} cannot be read ({error.strerror or error}); {_EXPECTED}."
        raise EvaluationError(msg) from error


def space_ranger_outs(folder: Path) -> Path | None:
    """Return where a folder has Space Ranger's matrix: in itself or in its `outs`; else None."""
    for place in (folder, folder / "outs"):
        if (place / MATRIX_NAME).is_file():
            return place
    return None


def _read_space_ranger(folder: Path, prediction: Prediction, source: str) -> Measured:
    outs = space_ranger_outs(folder)
    if outs is None:
        msg = f"{source} holds no {MATRIX_NAME}; {_EXPECTED}."
        raise EvaluationError(msg)
    table = read_counts_matrix(outs / MATRIX_NAME, f"{MATRIX_NAME} of {source}")
    positions = read_table(outs)
    rows = {name: row for row, name in enumerate(positions.ids)}
    places = np.array([rows.get(name, -1) for name in table.obs_names], dtype=np.int64)
    known = places >= 0
    if not known.any():
        msg = (
            f"The matrix and the positions of {source} have no barcode in common; give both from "
            "one outs folder."
        )
        raise EvaluationError(msg)
    x_px, y_px = (part[places[known]] for part in (positions.x_px, positions.y_px))
    return _match(prediction, table[known], x_px, y_px, _image_of_outs(outs), source)


def _read_h5ad(path: Path, prediction: Prediction, source: str) -> Measured:
    _check_h5ad(path, source)
    return match_table(read_counts_h5ad(path, source), prediction, source)


def match_table(table: AnnData, prediction: Prediction, source: str = "") -> Measured:
    """Bring a table of raw counts into the order of a prediction.

    Parameters
    ----------
    table
        As `read_measured` reads it from an h5ad file.
    prediction
        Prediction to compare with.
    source
        Name of the file it was read from; "" where it comes from none.

    Raises
    ------
    EvaluationError
        The table cannot be compared.
    """
    spatial = table.obsm["spatial"] if "spatial" in table.obsm else None
    x_px = y_px = None
    if spatial is not None:
        places = np.asarray(spatial)
        if places.ndim != 2 or places.shape[1] < 2 or places.dtype.kind not in "iuf":
            msg = (
                f"{source or _UNNAMED} has positions that are not numbers (x, y); write "
                "obsm['spatial'] again."
            )
            raise EvaluationError(msg)
        x_px, y_px = places[:, :2].astype(np.float64).T
    return _match(prediction, table, x_px, y_px, _image_of_table(table), source)


def _check_h5ad(path: Path, source: str) -> None:
    """Refuse Space Ranger's matrix alone; what is damaged or too large the reader tells."""
    try:
        with h5py.File(path, "r") as file:
            matrix_alone = "matrix" in file and "X" not in file
    except (OSError, RuntimeError, ValueError):
        return
    if matrix_alone:
        msg = (
            f"{source} is Space Ranger's matrix, which does not say where its spots lie; give a "
            "zip of the outs folder, with spatial/tissue_positions.csv in it."
        )
        raise EvaluationError(msg)


def _match(
    prediction: Prediction,
    table: AnnData,
    x_px: Floats | None,
    y_px: Floats | None,
    image: ImageSize | None,
    source: str,
) -> Measured:
    accessions = table.var["gene_ids"].astype(str).tolist() if "gene_ids" in table.var else None
    measured = MeasuredTable(
        list(table.obs_names), list(table.var_names), _counts(table), accessions, x_px, y_px
    )
    found = match_measured(prediction, measured, source or _UNNAMED)
    if image is not None:
        refuse_other_image(image, prediction, source or _UNNAMED)
    name = section_name(source.removesuffix("/outs"))
    found = replace(found, name="" if name == "outs" else name)
    return replace(found, doubts=doubts_of(prediction, found, image))


def _image_of_table(table: AnnData) -> ImageSize | None:
    """Return the image that the spots of an h5ad lie on."""
    sections = table.uns.get("spatial")
    if not isinstance(sections, Mapping) or len(sections) != 1:
        return None
    [section] = sections.values()
    images, scales = (
        section.get(key, {}) if isinstance(section, Mapping) else {}
        for key in ("images", "scalefactors")
    )
    for name, image in images.items() if isinstance(images, Mapping) else ():
        scale = scales.get(f"tissue_{name}_scalef") if isinstance(scales, Mapping) else None
        if np.ndim(image) >= 2 and (size := _full_size(np.shape(image)[1::-1], scale)) is not None:
            return size
    return None


def _image_of_outs(outs: Path) -> ImageSize | None:
    """Return the image that Space Ranger was given, as its small picture tells."""
    from PIL import Image

    for folder in (outs / "spatial", outs):
        try:
            scales = json.loads((folder / "scalefactors_json.json").read_bytes())
            with Image.open(folder / "tissue_lowres_image.png") as picture:
                return _full_size(picture.size, scales.get("tissue_lowres_scalef"))
        except (OSError, ValueError, AttributeError, Image.DecompressionBombError):
            continue
    return None


def _full_size(shown_px: tuple[int, ...], scale: Any) -> ImageSize | None:
    try:
        size, rounding_px = np.asarray(shown_px, np.float64) / float(scale), 1 / float(scale)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    known = np.isfinite(size).all() and (size > 0).all()
    return ImageSize(size, rounding_px) if known else None


def _counts(table: AnnData) -> Any:
    """Return `X`, or where that holds no counts, a layer that does."""
    if not are_counts(_some(table.X)):
        for name in _COUNT_LAYERS:
            if name in table.layers and are_counts(_some(table.layers[name])):
                return table.layers[name]
    return table.X


def _some(values: Any) -> Any:
    """Return the values of a table, or of a long one the first rows'."""
    part = values[:2000]
    return part.data if issparse(part) else np.asarray(part)
