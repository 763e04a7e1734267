"""A prediction for other programs: QuPath (GeoJSON), TissUUmaps (a project), SpatialData (zarr).

All are written aside and renamed, so that what exists is whole.
"""

from __future__ import annotations

import json
import math
import tempfile
import uuid
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stem_core.constants import NOTICE, UNITS
from stem_core.errors import OutputError, SettingsError, missing_extra
from stem_core.files import atomic_directory, atomic_write
from stem_core.prediction.result import Prediction, clean_text, run_record_json, to_anndata

__all__ = ["chosen_genes", "write_qupath", "write_spatialdata", "write_tissuumaps"]

_CORNERS = 16
_IDS = uuid.UUID("6f0f4c1e-8c5a-4f43-9a0e-4a1f2c7c54d1")


def chosen_genes(prediction: Prediction, genes: Sequence[str] | None) -> tuple[str, ...]:
    """Return genes to write, each once, in panel order; all of the panel for None.

    Raises
    ------
    SettingsError
        None was named, or one is not in the panel.
    """
    if genes is None:
        return prediction.symbols
    wanted = set(genes)
    if missing := sorted(wanted - set(prediction.symbols)):
        msg = (
            f"This result has no gene {missing[0]!r}"
            f"{f' (nor {len(missing) - 1} more of those named)' if len(missing) > 1 else ''}; "
            "name genes of its panel."
        )
        raise SettingsError(msg)
    if not wanted:
        msg = "No gene was named to write; name at least one, or none of the option for all."
        raise SettingsError(msg)
    return tuple(symbol for symbol in prediction.symbols if symbol in wanted)


def write_qupath(prediction: Prediction, path: Path, *, genes: Sequence[str] | None = None) -> Path:
    """Write the spots as detections that QuPath 0.4 and newer import, with a number for each gene.

    Coordinates are level-0 pixels, as QuPath has them. A detection carries the prediction and the
    spread of each gene, the share of tissue and the domain distance as measurements.

    Parameters
    ----------
    prediction
        What to write.
    path
        The GeoJSON file; replaced where it exists.
    genes
        Which genes; all for None. All 200 of a model make about 8 kB a spot.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    SettingsError
        A gene is not in the panel.
    OutputError
        The file cannot be written.

    Notes
    -----
    The structure is that of QuPath's own export: `objectType`, `measurements` as an object,
    an ellipse as a polygon of which `isEllipse` says what it was.
    """
    shown = chosen_genes(prediction, genes)
    places = [prediction.symbols.index(gene) for gene in shown]
    spots = prediction.spots
    angles = np.linspace(0, 2 * math.pi, _CORNERS, endpoint=False)
    radius = spots.diameter_um / prediction.mpp / 2
    circle = radius * np.column_stack([np.cos(angles), np.sin(angles)])
    names = [f"{gene}: {what}, {UNITS}" for gene in shown for what in ("prediction", "spread")]
    values = np.stack([prediction.mean[:, places], prediction.std[:, places]], axis=2)
    columns = [values.reshape(len(spots), -1), spots.tissue_fraction[:, None]]
    names.append("Tissue fraction")
    if prediction.domain_distance is not None:
        columns.append(prediction.domain_distance[:, None])
        names.append("Domain distance, edges of training")
    keys = [json.dumps(name, ensure_ascii=False, allow_nan=False) for name in names]
    table = np.concatenate(columns, axis=1)
    with (
        atomic_write(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="\n") as file,
    ):
        file.write('{"type":"FeatureCollection","features":[')
        for row, name in enumerate(spots.ids):
            centre = np.array([spots.x_px[row], spots.y_px[row]])
            ring = np.round(circle + centre, 2).tolist()
            feature = {
                "type": "Feature",
                "id": str(uuid.uuid5(_IDS, f"{clean_text(prediction.slide_name)} {row} {name}")),
                "geometry": {
                    "type": "Polygon",
                    "coordinates": [[*ring, ring[0]]],
                    "isEllipse": True,
                },
                "properties": {"objectType": "detection", "name": clean_text(name)},
            }
            start = json.dumps(feature, ensure_ascii=False, separators=(",", ":"), allow_nan=False)[
                :-2
            ]
            # Six digits are what a float32 has; text of our own is many times as fast here.
            pairs = (f"{k}:{v:.6g}" for k, v in zip(keys, table[row].tolist(), strict=True))
            file.write((",\n" if row else "\n") + start)
            file.write(f',"measurements":{{{",".join(pairs)}}}}}}}')
        file.write("\n]}\n")
    return path


def write_tissuumaps(
    prediction: Prediction,
    path: Path,
    *,
    genes: Sequence[str] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a project that TissUUmaps 3 opens: `stem.tmap`, `spots.csv`, `slide.tif`, `run.json`.

    Parameters
    ----------
    prediction
        What to write.
    path
        A folder to make, or a file to end in `.zip` that holds the same.
    genes
        Which genes can be chosen in the project; all for None.
    overwrite
        Replace a folder that holds anything, with all that it holds.

    Returns
    -------
    Path
        The folder or file.

    Raises
    ------
    SettingsError
        A gene is not in the panel.
    OutputError
        The folder is there already, or nothing can be written.
    """
    shown = chosen_genes(prediction, genes)
    if path.suffix.lower() == ".zip":
        with atomic_write(path) as temporary, tempfile.TemporaryDirectory() as held:
            folder = Path(held)
            _write_project(prediction, shown, folder)
            with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
                for file in sorted(folder.iterdir()):
                    archive.write(file, file.name)
        return path
    with atomic_directory(path, replace=overwrite) as temporary:
        _write_project(prediction, shown, temporary)
    return path


def _write_project(prediction: Prediction, genes: tuple[str, ...], folder: Path) -> None:
    import tifffile

    spots, scale = prediction.spots, prediction.thumbnail_scale
    columns: dict[str, Any] = {
        "spot": [clean_text(name) for name in spots.ids],
        "x": spots.x_px * scale,
        "y": spots.y_px * scale,
        "x_um": spots.x_px * prediction.mpp,
        "y_um": spots.y_px * prediction.mpp,
    }
    choices = []
    if prediction.domain_distance is not None:
        columns["domain distance"] = prediction.domain_distance
        choices.append(("Domain distance, edges of training", "domain distance"))
    for gene in genes:
        place = prediction.symbols.index(gene)
        columns[f"gene {gene}"] = prediction.mean[:, place]
        columns[f"spread {gene}"] = prediction.std[:, place]
        choices.append((f"{gene}, {UNITS}", f"gene {gene}"))
    choices += [(f"{gene}, spread, {UNITS}", f"spread {gene}") for gene in genes]
    pd.DataFrame(columns).to_csv(folder / "spots.csv", index=False, lineterminator="\n")
    tifffile.imwrite(
        folder / "slide.tif", prediction.thumbnail, photometric="rgb", tile=(256, 256),
        compression="zlib",
    )  # fmt: skip
    (folder / "run.json").write_text(
        run_record_json(prediction, indent=2) + "\n", encoding="utf-8", newline="\n"
    )
    project = _project(prediction, choices)
    (folder / "stem.tmap").write_text(
        json.dumps(project, indent=1, ensure_ascii=False, allow_nan=False),
        encoding="utf-8",
        newline="\n",
    )


def _project(prediction: Prediction, choices: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return the project file; one drop-down list chooses what colours the spots."""
    name = clean_text(prediction.slide_name)
    first = next(column for _, column in choices if column.startswith("gene "))
    return {
        "filename": name,
        "layers": [{"name": name, "tileSource": "slide.tif.dzi"}],
        "layerOpacities": {"0": 1},
        "layerVisibilities": {"0": True},
        "layerFilters": {"0": []},
        "filters": ["Brightness", "Contrast"],
        "compositeMode": "source-over",
        "mpp": prediction.mpp / prediction.thumbnail_scale,
        "markerFiles": [
            {
                "title": "Predicted expression",
                "name": "Predicted expression",
                "comment": NOTICE,
                "uid": "stem",
                "path": "spots.csv",
                "autoLoad": True,
                "hideSettings": True,
                "expectedHeader": {
                    "X": "x", "Y": "y", "gb_col": "null", "gb_name": "null",
                    "cb_cmap": "interpolateViridis", "cb_col": first, "cb_gr_dict": "",
                    "scale_col": "null", "scale_factor": "1", "coord_factor": "1",
                    "pie_col": "null", "pie_dict": "", "shape_col": "null", "shape_fixed": "disc",
                    "shape_gr_dict": "", "opacity_col": "null", "opacity": "0.85",
                    "tooltip_fmt": "",
                },
                "expectedRadios": {
                    "cb_col": True, "cb_gr": False, "cb_gr_rand": False, "cb_gr_dict": False,
                    "cb_gr_key": True, "pie_check": False, "scale_check": False,
                    "shape_col": False, "shape_gr": False,
                    "shape_gr_rand": False, "shape_gr_dict": False, "shape_fixed": True,
                    "opacity_check": False, "_no_outline": True,
                },
                "dropdownOptions": [
                    {"optionName": words, "name": words, "expectedHeader.cb_col": column}
                    for words, column in choices
                ],
            }
        ],
        "regions": {},
        "plugins": [],
        "hideTabs": True,
        "settings": [],
    }  # fmt: skip


_REGION = "spots"


def write_spatialdata(prediction: Prediction, path: Path, *, overwrite: bool = False) -> Path:
    """Write a SpatialData store: the picture of the slide, the spots as circles, and the table.

    Coordinate systems: `global` is level-0 pixels, `microns` is microns from the slide's corner.

    Parameters
    ----------
    prediction
        What to write.
    path
        The zarr folder to make.
    overwrite
        Replace a folder that holds anything, with all that it holds.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    OutputError
        The package spatialdata is not installed, the folder is there already or cannot be written.
    """
    try:
        from spatialdata import SpatialData
        from spatialdata.models import Image2DModel, ShapesModel, TableModel
        from spatialdata.transformations import Identity, Scale
    except ImportError as error:
        msg = missing_extra("Writing SpatialData", "the package spatialdata", "spatialdata")
        raise OutputError(msg) from error

    spots, mpp = prediction.spots, prediction.mpp
    per_thumbnail_px = 1 / prediction.thumbnail_scale
    image = Image2DModel.parse(
        np.moveaxis(prediction.thumbnail, 2, 0), dims=("c", "y", "x"), c_coords=["r", "g", "b"],
        transformations={
            "global": Scale([per_thumbnail_px] * 2, axes=("x", "y")),
            "microns": Scale([per_thumbnail_px * mpp] * 2, axes=("x", "y")),
        },
    )  # fmt: skip
    circles = ShapesModel.parse(
        np.column_stack([spots.x_px, spots.y_px]), geometry=0,
        radius=spots.diameter_um / mpp / 2, index=pd.Index(spots.ids, dtype=object),
        transformations={"global": Identity(), "microns": Scale([mpp] * 2, axes=("x", "y"))},
    )  # fmt: skip
    table = to_anndata(prediction)
    del table.uns["spatial"]  # the picture is an element of its own here
    table.obs["region"] = pd.Categorical([_REGION] * table.n_obs)
    table.obs["spot"] = pd.Index(spots.ids, dtype=object)
    table = TableModel.parse(table, region=_REGION, region_key="region", instance_key="spot")
    with atomic_directory(path, replace=overwrite) as temporary:
        temporary.rmdir()  # a store makes its own folder
        SpatialData(
            images={"slide": image}, shapes={_REGION: circles}, tables={"table": table}
        ).write(temporary)
    return path
