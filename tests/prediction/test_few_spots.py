"""Predict, write, read and export one spot, two spots, and spots without a pitch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from stem_core.prediction.exchange import write_qupath, write_spatialdata, write_tissuumaps
from stem_core.prediction.export import FILE_NAMES, write_prediction
from stem_core.prediction.predictor import Predictor
from stem_core.prediction.result import read_prediction
from stem_core.prediction.settings import SamplingSettings
from stem_core.slides.reading import Slide, open_slide
from stem_core.slides.spots import read_spots
from stem_core.slides.tissue import TissueMask, find_tissue
from zoo.loader import load_model

SETTINGS = SamplingSettings("ddim", 2, 2)
CASES = {
    "one": [(700, 640)],
    "two": [(640, 640), (940, 640)],
    "in one place": [(700, 640), (700, 640)],
    "on a line": [(300 + 200 * i, 640) for i in range(5)],
    "outside the tissue": [(2, 2), (30, 2), (2, 30)],
}
PITCHES_PX = {"two": 300, "on a line": 200, "outside the tissue": 28}


def strict_json(text: str) -> Any:
    """Read JSON as the standard defines it: without NaN and Infinity."""

    def refuse(name: str) -> NoReturn:
        pytest.fail(f"JSON has no {name}")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture(scope="module")
def predictor(tiny_model: Path, slide: Slide, tissue: TissueMask) -> Predictor:
    """A predictor that has looked at the slide once for all cases."""
    made = Predictor(load_model(tiny_model), "cpu", "fp32")
    survey = made.survey(slide, tissue)
    made.survey = lambda *_: survey  # type: ignore[method-assign]
    return made


@pytest.fixture(scope="module")
def slide(sample_piece: Path) -> Iterator[Slide]:
    with open_slide(sample_piece) as slide:
        yield slide


@pytest.fixture(scope="module")
def tissue(slide: Slide) -> TissueMask:
    return find_tissue(slide)


@pytest.mark.parametrize("name", CASES)
def test_a_result_is_written_and_its_pitch_is_a_number_or_null(
    predictor: Predictor, slide: Slide, tissue: TissueMask, tmp_path: Path, name: str
) -> None:
    rows = [f"s{i},{x},{y}" for i, (x, y) in enumerate(CASES[name])]
    (tmp_path / "a.csv").write_text("\n".join(["spot,x_px,y_px", *rows]))
    spots = read_spots(tmp_path / "a.csv", slide, diameter_um=100)
    spots = spots.with_tissue(tissue, slide.require_mpp())
    pitch_um = PITCHES_PX[name] * slide.require_mpp() if name in PITCHES_PX else None
    assert spots.pitch_um == (None if pitch_um is None else pytest.approx(pitch_um))
    if name == "outside the tissue":
        assert not spots.in_tissue.any()

    prediction = predictor.predict(slide, spots, SETTINGS, tissue=tissue)
    files = write_prediction(prediction, tmp_path / "out")
    assert sorted(files) == sorted(FILE_NAMES)
    record = strict_json(files["run.json"].read_text(encoding="utf-8"))
    assert record["spots"]["pitch_um"] == spots.pitch_um

    back = read_prediction(files["prediction.h5ad"])
    assert back.spots.pitch_um == spots.pitch_um
    assert strict_json(json.dumps(back.run)) == record
    np.testing.assert_array_equal(back.mean, prediction.mean)

    exported = strict_json(write_qupath(back, tmp_path / "spots.geojson").read_text("utf-8"))
    assert len(exported["features"]) == len(spots)
    project = write_tissuumaps(back, tmp_path / "project")
    assert strict_json((project / "stem.tmap").read_text("utf-8"))["mpp"] > 0
    assert len((project / "spots.csv").read_text("utf-8").splitlines()) == 1 + len(spots)
    if find_spec("spatialdata") is not None:
        import spatialdata

        store = spatialdata.read_zarr(write_spatialdata(back, tmp_path / "result.zarr"))
        assert all(len(table) == len(spots) for table in store.tables.values())
