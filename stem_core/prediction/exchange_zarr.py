"""A prediction as SpatialData zarr, for napari and the scverse tools."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from stem_core.errors import OutputError, missing_extra
from stem_core.files import atomic_directory
from stem_core.prediction.result import Prediction, to_anndata

__all__ = ["write_spatialdata"]

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
