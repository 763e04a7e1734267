"""The pictures of the map: colours, sizes, places."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from app.components import slide_map
from app.components.gene_choice import gene_figures
from app.components.wording import duration, own_names, plain
from app.spots import unlike_training
from stem_core.model.config import SpotLayout
from stem_core.slides.spots import Spots


def decoded(address: str) -> bytes:
    return base64.b64decode(address.partition(",")[2])


def make_spots(source: str, pitch_um: float | None, diameter_um: float) -> Spots:
    return Spots(
        ids=("a",), x_px=np.zeros(1), y_px=np.zeros(1), diameter_um=diameter_um,
        pitch_um=pitch_um, source=source, array_row=np.zeros(1, np.int32),  # type: ignore[arg-type]
        array_col=np.zeros(1, np.int32), in_tissue=np.ones(1, bool),
        tissue_fraction=np.ones(1, np.float32),
    )  # fmt: skip


def test_each_disc_has_its_colour_place_and_size() -> None:
    svg = decoded(
        slide_map.disc_layer(
            np.array([10.0, 20.0, 30.0]), np.array([1.0, 2.0, 3.0]), 55.0,
            np.array([1, 0, 1], np.uint8), ("black", "white"), (100.0, 50.0),
        )
    ).decode()  # fmt: skip
    assert 'viewBox="0 0 100.00 50.00"' in svg
    assert 'stroke-width="55.00"' in svg and 'stroke-linecap="round"' in svg
    paths = dict(re.findall(r'<path stroke="(\w+)" d="([^"]+)"', svg))
    assert paths == {"black": "M20.0 2.0h0", "white": "M10.0 1.0h0M30.0 3.0h0"}


def test_very_many_spots_stay_a_small_picture() -> None:
    n = 200_000
    place = np.linspace(0, 50_000, n)
    shade = np.arange(n).astype(np.uint8)
    colours = [f"rgb({level},{level},{level})" for level in range(256)]
    address = slide_map.disc_layer(place, place, 55.0, shade, colours, (5e4, 5e4))
    assert len(address) < 6_000_000


def test_the_veil_lies_off_the_tissue() -> None:
    mask = np.zeros((4, 6), bool)
    mask[1:3, 2:5] = True
    veil = np.asarray(Image.open(io.BytesIO(decoded(slide_map.tissue_layer(mask)))))
    np.testing.assert_array_equal(veil[..., 3] == 0, mask)


def test_pictures_of_one_place_are_told_apart() -> None:
    figure = slide_map.slide_figure(
        [("data:a", 1.0), ("data:b", 0.5)], (1000.0, 800.0), height_px=500, view="v"
    )
    assert len({image.sizex for image in figure.layout.images}) == 2


@pytest.mark.parametrize(
    ("spots", "unlike"),
    [
        (make_spots("st", 200, 100), False),
        (make_spots("measured", 190, 55), False),
        (make_spots("measured", 100, 100), True),
        (make_spots("measured", None, 100), False),
        (make_spots("visium", 100, 55), True),
        (make_spots("visium", 200, 100), True),
        (make_spots("grid", 200, 100), False),
        (make_spots("grid", 400, 100), True),
    ],
)
def test_spots_unlike_the_training(spots: Spots, unlike: bool) -> None:
    trained_on = SpotLayout(kind="st", pitch_um=200.0, spot_diameter_um=100.0)
    assert (unlike_training(spots, trained_on) is not None) is unlike


def test_words() -> None:
    assert [duration(s) for s in (0.2, 61, 125, 5400)] == ["1 s", "61 s", "2 min", "1 h 30 min"]
    assert plain("a_b[c](d)\n<e>") == r"a\_b\[c\]\(d\) \<e\>"
    sentence = own_names("file.tif and file.csv of profile.tif", "C5.TIF", "x.csv", None)
    assert sentence == "C5.TIF and x.csv of profile.tif"


def test_figures_of_a_gene() -> None:
    full = {
        "held_out_pcc": 0.61, "held_out_pcc_low": 0.5, "held_out_pcc_high": 0.7,
        "held_out_rvd": 0.12, "held_out_folds": 3, "training_mean": 2.0,
    }  # fmt: skip
    assert gene_figures(full) == (
        [("PCC", "0.61"), ("PCC range", "0.50–0.70"), ("RVD", "0.12"), ("Mean log2", "2.00")], 3
    )  # fmt: skip
    unknown = {"held_out_pcc": float("nan"), "held_out_folds": 0, "training_mean": 2.0}
    assert gene_figures(unknown) == ([("Mean log2", "2.00")], 0)
