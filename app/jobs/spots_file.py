"""The spots of a run: chosen as the request says, kept in `spots.csv` without loss."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Literal, cast

import numpy as np

from app import uploads
from app.jobs.model import JobRequest
from stem_core.slides.reading import Slide
from stem_core.slides.spots import Spots, lay_out_spots, read_spots
from stem_core.slides.tissue import TissueMask
from zoo.manifest import Layout

Source = Literal["measured", "visium", "st", "grid"]

__all__ = ["choose_spots", "load_spots", "save_spots"]

_COLUMNS = (
    "spot",
    "x_px",
    "y_px",
    "array_row",
    "array_col",
    "in_tissue",
    "tissue_fraction",
    "diameter_um",
    "pitch_um",
    "source",
)


def choose_spots(
    request: JobRequest, trained_on: Layout, slide: Slide, tissue: TissueMask
) -> Spots:
    """Return the spots that a request asks for.

    Parameters
    ----------
    request
        Where the spots come from.
    trained_on
        The layout of the model's training platform: the default, and the diameter of measured
        spots.
    slide, tissue
        The slide and where there is tissue on it.

    Raises
    ------
    SpotsError
        The spots file cannot be used, or the layout gives too many spots.
    MppError
        The slide's microns per pixel are not known.
    """
    if request.spots_kind == "file":
        assert request.spots_upload_id is not None
        path = uploads.upload_path(request.spots_upload_id)
        spots = read_spots(path, slide, diameter_um=trained_on.spot_diameter_um)
        return spots.with_tissue(tissue, slide.require_mpp())
    if request.layout in ("visium", "st"):
        return lay_out_spots(slide, tissue, request.layout, pitch_um=request.pitch_um)
    return lay_out_spots(
        slide,
        tissue,
        trained_on.kind if request.layout is None else "grid",
        pitch_um=request.pitch_um or trained_on.pitch_um,
        diameter_um=trained_on.spot_diameter_um,
    )


def save_spots(spots: Spots, path: Path) -> None:
    """Write spots to a CSV file that `load_spots` gives back exactly; written aside first."""
    aside = path.with_name(f"aside.{path.name}")
    with aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for i, spot in enumerate(spots.ids):
            writer.writerow(
                (
                    spot,
                    repr(float(spots.x_px[i])),
                    repr(float(spots.y_px[i])),
                    int(spots.array_row[i]),
                    int(spots.array_col[i]),
                    int(spots.in_tissue[i]),
                    repr(float(spots.tissue_fraction[i])),
                    repr(float(spots.diameter_um)),
                    repr(float(spots.pitch_um)),
                    spots.source,
                )
            )
    aside.replace(path)


def load_spots(path: Path) -> Spots:
    """Read the spots that `save_spots` wrote."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    first = rows[0]

    def column(name: str) -> list[float]:
        return [float(row[name]) for row in rows]

    return Spots(
        ids=tuple(row["spot"] for row in rows),
        x_px=np.array(column("x_px"), dtype=np.float64),
        y_px=np.array(column("y_px"), dtype=np.float64),
        diameter_um=float(first["diameter_um"]),
        pitch_um=float(first["pitch_um"]),
        source=cast("Source", first["source"]),
        array_row=np.array(column("array_row"), dtype=np.int32),
        array_col=np.array(column("array_col"), dtype=np.int32),
        in_tissue=np.array(column("in_tissue"), dtype=bool),
        tissue_fraction=np.array(column("tissue_fraction"), dtype=np.float32),
    )
