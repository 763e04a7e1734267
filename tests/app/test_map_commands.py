"""`stem map` and `stem export`: what they write, and one sentence where they cannot."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.cli import main
from stem_core.prediction.export import write_prediction
from stem_core.slides.content import slide_content
from tests.app.maps.conftest import GENES, draw_section, make_prediction, pyramid_bytes


@pytest.fixture
def result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A result's folder beside its slide and another one, as the current folder."""
    from stem_core.slides.reading import open_slide

    monkeypatch.setenv("STEM_HOME", str(tmp_path / "home"))
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)
    picture = draw_section()
    (place / "slide.tif").write_bytes(pyramid_bytes(picture))
    (place / "other.tif").write_bytes(pyramid_bytes(np.ascontiguousarray(picture[::-1])))
    with open_slide(place / "slide.tif") as slide:
        record = {
            "sha256": slide_content(slide),
            "fingerprint": slide.fingerprint(),
            "width_px": 1500,
            "height_px": 1100,
        }
    write_prediction(make_prediction(40, GENES, slide=record), place / "result")
    (place / "regions.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    (place / "region.geojson").write_text(
        json.dumps(
            {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [[[9, 9], [900, 9], [9, 900]]]},
                "properties": {"name": "Front", "color": [230, 97, 1]},
            }
        )
    )
    return place


def test_maps_are_drawn_as_their_names_end(result: Path, capfd: pytest.CaptureFixture[str]) -> None:
    layers = ["--layer", "mean:GNAS", "--layer", "domain"]
    assert main(["map", "result", *layers, "--out", "map.png", "--width-px", "700"]) == 0
    assert Image.open("map.png").size[0] == 700
    small = Image.open("map.png").tobytes()
    sharp = ["--slide", "slide.tif", "--view", "300,250,200", "--regions", "region.geojson"]
    again = ["map", "result/prediction.h5ad", *layers, "-o", "map.png", *sharp]
    assert main(again) == 2
    assert "allow overwriting (--overwrite)" in capfd.readouterr().err
    assert Image.open("map.png").tobytes() == small
    assert main([*again, "--overwrite"]) == 0
    assert Image.open("map.png").tobytes() != small  # replaced
    assert main(["map", "result", *layers, "--out", "map.svg", "--dark", "--title", "T"]) == 0
    assert ElementTree.parse("map.svg").getroot().tag.endswith("svg")
    assert main(["map", "result", *layers, "--out", "map.html", *sharp]) == 0
    assert b"Content-Security-Policy" in Path("map.html").read_bytes()
    shown = capfd.readouterr()
    assert shown.err == "" and "Drew 2 map(s) of case.tif: map.html" in shown.out


def test_results_are_written_for_other_programs(
    result: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    export = ["export", "result", "--to"]
    assert main([*export, "qupath", "--out", "q.geojson", "--genes", "GNAS, 7SK"]) == 0
    content = json.loads(Path("q.geojson").read_text(encoding="utf-8"))
    assert len(content["features"]) == 40
    assert len(content["features"][0]["properties"]["measurements"]) == 6
    assert main([*export, "tissuumaps", "--out", "t.zip"]) == 0
    assert "For research use only." in capfd.readouterr().out
    assert Path("t.zip").stat().st_size > 1000


def test_an_export_is_replaced_only_when_asked(
    result: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    export = ["export", "result", "--to"]
    targets = {"qupath": "q.geojson", "tissuumaps": "t"}
    for kind, target in targets.items():
        assert main([*export, kind, "-o", target, "--genes", "GNAS", "-q"]) == 0
        assert main([*export, kind, "-o", target]) == 2
        assert "--overwrite" in capfd.readouterr().err
        assert main([*export, kind, "-o", target, "--overwrite"]) == 0
    content = json.loads(Path("q.geojson").read_text(encoding="utf-8"))
    assert len(content["features"][0]["properties"]["measurements"]) > 2  # all genes
    assert {item.name for item in Path("t").iterdir()} >= {"stem.tmap", "spots.csv"}
    assert main([*export, "tissuumaps", "-o", "result", "--overwrite"]) == 2
    assert "other files than an earlier output" in capfd.readouterr().err
    assert (result / "result" / "prediction.h5ad").is_file()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["map", "result", "--out", "m.png"], "--layer"),
        (["map", "result", "--layer", "mean:NOPE", "--out", "m.png"], "no gene 'NOPE'"),
        (["map", "result", "--layer", "domain", "--out", "m.pdf"], ".png, .svg, .html"),
        (["map", "result", "--layer", "domain", "--out", "no/m.png"], "does not exist"),
        (["map", "nothing", "--layer", "domain", "--out", "m.png"], "nothing"),
        (["map", "slide.tif", "--layer", "domain", "--out", "m.png"], "damaged"),
        (["map", "result", "--layer", "domain", "--out", "m.png", "--view", "1,2"], "x,y,width"),
        (["map", "result", "--layer", "domain", "--out", "m.png", "--view", "1,2,nan"], "in µm"),
        (["map", "result", "--layer", "domain", "--out", "m.png", "--width-px", "9"], "9 px wide"),
        (["map", "result", "--layer", "domain", "--out", "m.png", "--opacity", "2"], "opacity"),
        (["map", "result", "--layer", "domain", "--out", "m.png", "--colours", "Jet"], "'Jet'"),
        (["map", "result", "--layer", "domain", "--out", "m.png", "--slide", "other.tif"],
         "other.tif is not the slide"),
        (["map", "result", "--layer", "domain", "--out", "m.png", "--slide", "none.tif"],
         "none.tif"),
        (["map", "result", "--layer", "domain", "--out", "m.png", "--regions", "none"], "none"),
        (["map", "result", "--layer", "domain", "--out", "m.png", "--regions", "slide.tif"],
         "slide.tif is not JSON"),
        (["map", "result", "--layer", "domain", "--out", "m.png", "--regions", "regions.geojson"],
         "no region"),
        (["map", "result", *["--layer", "domain"] * 7, "--out", "m.png"], "1 to 6 maps"),
        (["export", "result", "--to", "excel", "--out", "x"], "excel"),
        (["export", "result", "--to", "qupath", "--out", "x", "--genes", "NOPE"], "'NOPE'"),
        (["export", "result", "--to", "qupath", "--out", "x", "--genes", ","], "No gene"),
        (["export", "result", "--to", "tissuumaps", "--out", "result"], "not empty"),
        (["export", "result", "--to", "spatialdata", "--out", "x", "--genes", "A:B"], "--genes"),
        (["export", "nothing", "--to", "qupath", "--out", "x"], "nothing"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence(
    result: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    before = sorted(item.name for item in result.iterdir())
    code = main(arguments)
    shown = capfd.readouterr()
    assert code == 2, shown.err
    assert shown.out == "" and len(shown.err.splitlines()) == 1
    assert said in shown.err
    assert sorted(item.name for item in result.iterdir()) == before
