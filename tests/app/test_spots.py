"""The one choice of spots: what is taken where nothing was said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.spots import place_spots
from stem_core.errors import SettingsError
from stem_core.model.config import SpotLayout
from stem_core.slides.reading import open_slide
from stem_core.slides.tissue import find_tissue

TRAINED_ON = SpotLayout(kind="st", pitch_um=180.0, spot_diameter_um=90.0)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, ("st", 180.0, 90.0)),
        ({"pitch_um": 150.0}, ("st", 150.0, 90.0)),
        ({"layout": "visium"}, ("visium", 100.0, 55.0)),
        ({"layout": "st"}, ("st", 200.0, 100.0)),
        ({"layout": "grid"}, ("grid", 100.0, 90.0)),
        ({"layout": "grid", "pitch_um": 120.0}, ("grid", 120.0, 90.0)),
        ({"file": "x_px,y_px\n300,300\n450,300\n"}, ("measured", 150.0, 90.0)),
        ({"pitch_um": 0.0}, None),
    ],
)
def test_spots_are_placed_as_asked_or_else_as_the_model_was_trained(
    tmp_path: Path, asked: dict[str, object], expected: tuple[str, float, float] | None
) -> None:
    pixels = np.full((800, 1000, 3), 244, dtype=np.uint8)
    pixels[100:700, 100:900] = np.random.default_rng(0).integers(100, 190, (600, 800, 3))
    pixels[100:700, 100:900, 1] //= 2
    Image.fromarray(pixels).save(tmp_path / "slide.png")
    if "file" in asked:
        (tmp_path / "spots.csv").write_text(str(asked["file"]), encoding="utf-8")
        asked = {"file": tmp_path / "spots.csv"}
    with open_slide(tmp_path / "slide.png", mpp=1.0) as slide:
        tissue = find_tissue(slide)
        if expected is None:
            with pytest.raises(SettingsError, match="pitch"):
                place_spots(slide, tissue, TRAINED_ON, **asked)  # type: ignore[arg-type]
            return
        spots = place_spots(slide, tissue, TRAINED_ON, **asked)  # type: ignore[arg-type]
    assert (spots.source, spots.pitch_um, spots.diameter_um) == expected
