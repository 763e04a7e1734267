"""Pictures of maps, read back: colours and places of spots, the scale bar, sizes, awkward text."""

from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import plotly.colors
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from app.maps.layers import Layer
from app.maps.panels import (
    COLOUR_SCALES,
    DIVERGING,
    Look,
    Mute,
    Panel,
    View,
    hex_colours,
    panels_of,
)
from app.maps.picture_layout import lay_out
from app.maps.picture_words import end_words, number_words, round_length_um
from app.maps.pictures import MOST_VECTOR_SPOTS, draw_picture
from app.maps.run import Run
from app.maps.runs import open_values
from app.maps.scene import Map, Scene, frame_of, scene_of_run
from app.maps.share import share_page
from stem_core.analysis.regions import Region
from stem_core.errors import JobError, SettingsError
from tests.app.maps.conftest import MadeRun

MPP, DIAMETER_UM = 0.5, 120.0
PALETTE = [f"#{40 + 4 * i:02x}{250 - 5 * i:02x}{(i * 37) % 256:02x}" for i in range(32)]
SVG = "{http://www.w3.org/2000/svg}"
AWKWARD = "a$b$c_{ <b>&</svg></script>\x00\x1b \ud800 切片"


def made_scene(
    x_um: list[float], y_um: list[float], values: list[float], look: Look | None = None,
    view: View | None = None, regions: tuple[Region, ...] = (), maps: int = 1,
    mutes: tuple[Mute, ...] = (), name: str = "case.tif",
) -> Scene:  # fmt: skip
    """A white slide of 4,000 × 3,000 µm with a few spots."""
    shown = np.array(values, np.float32)
    panel = Panel(
        Layer.of("mean", "GNAS"), "GNAS", "log2(1 + count)", PALETTE, 0.0, 32.0, mutes=mutes
    )
    return Scene(
        name, "model m 1", 8000, 6000, MPP, DIAMETER_UM,
        np.column_stack([x_um, y_um]).astype(np.float32) / np.float32(MPP),
        tuple(f"s{i}" for i in range(len(values))), (Map(panel, shown),) * maps,
        look or Look(1.0), view, regions,
        lambda box: np.full((box.out_height, box.out_width, 3), 255, np.uint8),
        lambda layer: shown,
    )  # fmt: skip


THREE = ([1000.0, 2600.0, 1800.0], [900.0, 900.0, 1900.0], [3.5, 20.5, 31.5])


def pixels_of(content: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def disc(pixels: NDArray[np.uint8], colour: str) -> tuple[float, float, float]:
    """Centre and area of the largest patch of a colour; the colour bar has smaller ones."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    labels, count = ndimage.label((pixels == wanted).all(axis=2))
    assert count, colour
    areas = np.bincount(labels.ravel())[1:]
    y, x = ndimage.center_of_mass(labels == areas.argmax() + 1)
    return x, y, float(areas.max())


def longest_run(pixels: NDArray[np.uint8], colour: tuple[int, int, int]) -> int:
    """Length of the longest row of pixels of a colour: the scale bar."""
    best = 0
    for row in (pixels == colour).all(axis=2):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(int), [0]])))
        best = max(best, *(edges[1::2] - edges[::2]), 0) if len(edges) else best
    return best


def test_spots_have_their_colour_place_and_size_and_the_bar_its_length() -> None:
    pixels = pixels_of(draw_picture(made_scene(*THREE), width_px=1200).content)
    found = [disc(pixels, PALETTE[shade]) for shade in (3, 20, 31)]
    per_um = (found[1][0] - found[0][0]) / 1600
    assert found[0][1] == pytest.approx(found[1][1], abs=1)
    assert found[2][0] - found[0][0] == pytest.approx(800 * per_um, abs=1.5)
    assert found[2][1] - found[0][1] == pytest.approx(1000 * per_um, abs=1.5)  # y points down
    across = 2 * np.sqrt(found[0][2] / np.pi)  # without the rim, which is blended
    assert DIAMETER_UM * per_um - 2.5 < across <= DIAMETER_UM * per_um + 0.5
    bar_um = round_length_um(frame_of(made_scene(*THREE)).width_um * 0.28)
    assert bar_um == 500
    assert longest_run(pixels, (0x16, 0x26, 0x2C)) == pytest.approx(bar_um * per_um, abs=1.5)


def test_a_view_shows_that_part_and_the_slide_lies_where_it_should(run: MadeRun) -> None:
    values = open_values(run.id)
    panels = panels_of(values, [Layer.of("mean", "GNAS")], "Viridis", (1, 99), shared=True)
    width_px = 900
    view = View(300.0, 250.0, 300.0)
    scene = scene_of_run(Run.open(run.id), panels, Look(0.0), view)
    frame = frame_of(scene)
    assert (frame.left_um, frame.width_um) == (150.0, 300.0)
    picture = draw_picture(scene, width_px=width_px)
    shape = frame.height_um / frame.width_um
    stage = lay_out(1, shape, width_px, 150.0, ("x",), titled=False).stages[0]
    pixels = pixels_of(picture.content)[stage.top :, stage.left :][: stage.height, : stage.width]
    left, top = frame.left_um / 0.5, frame.top_um / 0.5
    width, height = frame.width_um / 0.5, frame.height_um / 0.5
    expected = Image.fromarray(run.picture).resize(
        (stage.width, stage.height), Image.Resampling.BILINEAR,
        box=(left, top, left + width, top + height),
    )  # fmt: skip
    inside = np.s_[20 : int(stage.height * 0.8), 20:-20]  # above the scale bar
    off = np.abs(pixels.astype(float) - np.asarray(expected, float))[inside]
    assert off.mean() < 3
    uploaded = run.slide_file
    uploaded.unlink()  # then the small picture of the result is shown
    again = pixels_of(draw_picture(scene, width_px=width_px).content)
    blurred = again[stage.top :, stage.left :][: stage.height, : stage.width]
    assert np.abs(blurred.astype(float) - np.asarray(expected, float))[inside].mean() < 25


@pytest.mark.parametrize(("width_px", "dpi"), [(400, 72.0), (1001, 150.0), (2126, 300.0)])
def test_sizes_are_those_asked_for(width_px: int, dpi: float) -> None:
    scene = made_scene(*THREE, maps=2)
    picture = draw_picture(scene, width_px=width_px, dpi=dpi, title="Two maps")
    image = Image.open(io.BytesIO(picture.content))
    assert image.size == (width_px, picture.height_px)
    assert image.info["dpi"] == pytest.approx((dpi, dpi), abs=0.1)
    assert image.info["Title"] == "case.tif"
    vector = draw_picture(scene, "svg", width_px=width_px, dpi=dpi, title="Two maps")
    root = ElementTree.fromstring(vector.content)
    assert float(root.attrib["width"].removesuffix("pt")) == pytest.approx(width_px / dpi * 72)
    assert (vector.width_px, vector.height_px) == (picture.width_px, picture.height_px)


def test_an_svg_has_each_spot_once_and_the_slide_as_jpeg() -> None:
    scene = made_scene(*THREE, maps=2)
    scene.maps[0].values[1] = np.nan  # has no colour, so is not drawn
    picture = draw_picture(scene, "svg", width_px=800)
    root = ElementTree.fromstring(picture.content)
    for number in (1, 2):
        [spots] = [g for g in root.iter(f"{SVG}g") if g.get("id") == f"spots-{number}"]
        fills = [re.search(r"fill: (#\w+)", use.get("style", ""))
                 for use in spots.iter(f"{SVG}use")]  # fmt: skip
        assert [fill and fill[1] for fill in fills] == [PALETTE[3], PALETTE[31]]
    link = "{http://www.w3.org/1999/xlink}href"
    images = [image.attrib[link] for image in root.iter(f"{SVG}image")]
    assert len(images) == 2 and all(text.startswith("data:image/jpeg;base64,") for text in images)
    assert pixels_of(base64.b64decode(images[0].partition(",")[2])).min() > 250
    assert not list(root.iter(f"{SVG}script")) and not picture.note
    [bar, _] = [g for g in root.iter(f"{SVG}g") if g.get("id") == "scale-bar"]
    [path] = bar.iter(f"{SVG}path")
    corners = [float(x) for x in re.findall(r"[ML] (-?[\d.]+)", path.attrib["d"])]
    left, right = (float(use.attrib["x"]) for use in spots.iter(f"{SVG}use"))
    per_um = (right - left) / 800
    assert max(corners) - min(corners) == pytest.approx(500 * per_um, rel=1e-3)


def test_very_many_spots_become_an_image_in_an_svg() -> None:
    count = MOST_VECTOR_SPOTS + 1
    rng = np.random.default_rng(0)
    scene = made_scene(
        (rng.random(count) * 3800 + 100).tolist(), (rng.random(count) * 2800 + 100).tolist(),
        (rng.random(count) * 32).tolist(),
    )  # fmt: skip
    scene = replace(scene, spot_diameter_um=10.0)
    picture = draw_picture(scene, "svg", width_px=400, dpi=72)
    root = ElementTree.fromstring(picture.content)
    assert not [g for g in root.iter(f"{SVG}use") if "fill" in g.get("style", "")]
    assert len(list(root.iter(f"{SVG}image"))) == 2
    assert "20,000 spots" in picture.note
    near = replace(scene, view=View(2000.0, 1500.0, 400.0))
    assert not draw_picture(near, "svg", width_px=400, dpi=72).note


def test_grey_spots_and_outlines_are_drawn() -> None:
    ring = np.array([[1400.0, 1200.0], [5600.0, 1200.0], [5600.0, 2600.0], [1400.0, 2600.0]])
    scene = made_scene(
        *THREE, mutes=(Mute(Layer.of("mean", "GNAS"), 30.0, "spread", "log2"),),
        regions=(Region("Front", (ring,), colour="#e66101"),),
    )  # fmt: skip
    pixels = pixels_of(draw_picture(scene, width_px=1000).content)
    blend = np.array([0x86, 0x8D, 0x91]) * 0.4 + 255 * 0.6
    grey = (np.abs(pixels - blend) < 1.6).all(axis=2)
    _, count = ndimage.label(ndimage.binary_opening(grey, iterations=3))
    assert count == 1
    assert disc(pixels, PALETTE[20])[2] > 500
    assert (pixels == (0xE6, 0x61, 0x01)).all(axis=2).sum() > 300
    dark = pixels_of(draw_picture(scene, width_px=1000, dark=True).content)
    assert tuple(dark[2, 2]) == (0x12, 0x18, 0x1B) and tuple(pixels[2, 2]) == (255, 255, 255)


def test_text_from_outside_is_drawn_as_it_is() -> None:
    scene = made_scene(*THREE, name=AWKWARD)
    panel = replace(scene.maps[0].panel, title=AWKWARD * 9, note="$")
    ring = np.array([[0.0, 0.0], [4000.0, 0.0], [4000.0, 3000.0]])
    scene = replace(
        scene, maps=(replace(scene.maps[0], panel=panel),), regions=(Region(AWKWARD, (ring,)),)
    )
    assert draw_picture(scene, title=AWKWARD, width_px=600).content.startswith(b"\x89PNG")
    root = ElementTree.fromstring(draw_picture(scene, "svg", title=AWKWARD, width_px=600).content)
    assert not list(root.iter(f"{SVG}b")) and not list(root.iter(f"{SVG}script"))


def test_threads_draw_the_same() -> None:
    scenes = [made_scene(*THREE, look=Look(opacity)) for opacity in (0.2, 0.5, 0.8, 1.0)]
    alone = [draw_picture(scene, width_px=500).content for scene in scenes]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda s: draw_picture(s, width_px=500).content, scenes)) == alone


@pytest.mark.parametrize(
    ("options", "maps", "said"),
    [
        ({"width_px": 399}, 1, "399 px wide"),
        ({"width_px": 6001}, 1, "6,001 px wide"),
        ({"dpi": 20.0}, 1, "20 dpi"),
        ({"dpi": float("nan")}, 1, "nan dpi"),
        ({"kind": "gif"}, 1, "'gif'"),
        ({"width_px": 600, "dpi": 600.0}, 6, "3 maps side by side need"),
        ({}, 7, "1 to 6 maps"),
        ({}, 0, "1 to 6 maps"),
    ],
)
def test_what_cannot_be_drawn_is_said(options: dict[str, object], maps: int, said: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(said)):
        draw_picture(made_scene(*THREE, maps=maps), **options)  # type: ignore[arg-type]


def test_numbers_and_lengths() -> None:
    assert number_words(-0.001, 1.0) == "0.00"
    assert number_words(-2.665, 40.0) == "\N{MINUS SIGN}2.7"
    assert number_words(12345.6, 20000.0) == "12\N{NARROW NO-BREAK SPACE}346"
    assert [round_length_um(um) for um in (0.99, 1.0, 4.9, 5.0, 20.0, 999.0)] == [
        0.5, 1, 2, 5, 20, 500,
    ]  # fmt: skip
    panel = Panel(Layer.of("mean", "A"), "A", "u", PALETTE, 0.0, 4.0)
    assert end_words(panel, np.array([-1.0, 9.0], np.float32)) == ("≤ 0.00", "2.00", "≥ 4.00")
    assert end_words(panel, np.array([np.nan], np.float32)) == ("0.00", "2.00", "4.00")


def test_a_page_carries_all_it_shows_and_nothing_of_it_can_run(run: MadeRun) -> None:
    values = open_values(run.id)
    panels = panels_of(
        values, [Layer.of("mean", "A:B"), Layer.of("std", "GNAS")], "Viridis", (1, 99), shared=True
    )
    scene = replace(scene_of_run(Run.open(run.id), panels, Look(), None), slide_name=AWKWARD)
    text = share_page(scene, notes=["<i>note</i>"], address="http://h/?a=<").decode("utf-8")
    assert "default-src 'none'" in text and "<i>" not in text and "<b>" not in text
    assert text.count("<script") == text.count("</script>") == 2
    assert "http://h/?a=&lt;" in text
    carried = re.search(r'"map/values\?mean:A:B":"([^"]+)"', text)
    assert carried is not None
    np.testing.assert_array_equal(
        np.frombuffer(base64.b64decode(carried[1]), "<f4"), values.layer(values.parse("mean:A:B"))
    )
    with pytest.raises(SettingsError, match="4,001 px"):
        share_page(scene, image_px=4001)
    run.folder.status_file.unlink()
    with pytest.raises(JobError):
        scene_of_run(Run.open(run.id), panels, Look(), None)


@pytest.mark.parametrize("scale", [*COLOUR_SCALES, DIVERGING])
def test_colours_are_those_of_plotlys_charts(scale: str) -> None:
    colours = plotly.colors.sample_colorscale(scale, [place / 255 for place in range(0, 256, 8)])
    assert [plotly.colors.hex_to_rgb(colour) for colour in hex_colours(scale)] == [
        tuple(round(float(part)) for part in colour[4:-1].split(",")) for colour in colours
    ]
