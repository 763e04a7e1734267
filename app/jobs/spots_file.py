"""The spots of a run: chosen as the request says, kept in `spots.csv` without loss."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import cast

import numpy as np

from app import uploads
from app.jobs.model import JobRequest
from app.spots import place_spots
from stem_core.files import atomic_write
from stem_core.model.config import SpotLayout, SpotSource
from stem_core.slides.reading import Slide
from stem_core.slides.spots import Spots, known_pitch
from stem_core.slides.tissue import TissueMask

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
    request: JobRequest, trained_on: SpotLayout, slide: Slide, tissue: TissueMask
) -> Spots:
    """Return the spots that a request asks for; `trained_on` is the layout of its model.

    Raises as `place_spots` does; JobError where the spots file is gone.
    """
    file = None
    if request.spots_kind == "file":
        assert request.spots_upload_id is not None
        file = uploads.upload_path(request.spots_upload_id)
    return place_spots(
        slide, tissue, trained_on, file=file, layout=request.layout, pitch_um=request.pitch_um
    )


def save_spots(spots: Spots, path: Path) -> None:
    """Write spots to a CSV file that `load_spots` gives back exactly."""
    with (
        atomic_write(path, only_writer=True) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
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
                    "" if spots.pitch_um is None else repr(float(spots.pitch_um)),
                    spots.source,
                )
            )


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
        pitch_um=known_pitch(first["pitch_um"] or None),
        source=cast("SpotSource", first["source"]),
        array_row=np.array(column("array_row"), dtype=np.int32),
        array_col=np.array(column("array_col"), dtype=np.int32),
        in_tissue=np.array(column("in_tissue"), dtype=bool),
        tissue_fraction=np.array(column("tissue_fraction"), dtype=np.float32),
    )
