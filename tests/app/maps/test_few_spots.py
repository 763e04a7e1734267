"""Runs of one and of two spots on the pages, in the routes and as pictures."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient
from streamlit.testing.v1 import AppTest

from app.maps.pairs import open_pair
from app.maps.panels import Look, panels_of
from app.maps.pictures import draw_picture
from app.maps.run import Run
from app.maps.runs import open_values
from app.maps.scene import frame_of, scene_of_run
from app.maps.share import share_page
from stem_core.prediction.export import write_prediction
from stem_core.prediction.result import Prediction
from stem_core.prediction.values import PredictedArrays
from tests.prediction.test_few_spots import strict_json

from .conftest import GENES, MadeRun
from .page import faults, open_maps, sound, words
from .test_compare import open_page
from .test_measured_page import content, give, section

LAYERS = [f"mean:{GENES[0]}", f"std:{GENES[1]}", "domain", f"score:{GENES[0]},{GENES[1]}"]


def shown(at: AppTest) -> set[str]:
    """Words of the page's texts and figures, in lower case."""
    figures = (str(metric.value) for metric in at.metric)
    return set(re.findall(r"[\w.]+", f"{words(at)} {' '.join(figures)}".lower()))


def some(prediction: Prediction, n: int) -> Prediction:
    """Keep the first spots of a prediction; one has no pitch."""
    arrays = {name: getattr(prediction, name)[:n] for name in ("mean", "std", "q05", "q95")}
    spots = prediction.spots.take(slice(0, n))
    return replace(
        prediction,
        spots=replace(spots, pitch_um=None) if n == 1 else spots,
        domain_distance=prediction.domain_distance[:n],
        values=PredictedArrays(**arrays),
    )


@pytest.fixture(params=[1, 2])
def few(make_run: Callable[..., MadeRun], request: pytest.FixtureRequest) -> MadeRun:
    run = make_run()
    prediction = some(run.prediction, request.param)
    write_prediction(prediction, run.folder.result_dir, overwrite=True)
    return replace(run, prediction=prediction)


def test_routes_answer(few: MadeRun, client: TestClient) -> None:
    n = len(few.prediction.spots)
    for layer in LAYERS[:3]:
        answer = client.get(f"{few.base}/map/values", params={"layer": layer})
        assert answer.status_code == 200
        assert np.isfinite(np.frombuffer(answer.content, "<f4")).sum() == n
    assert strict_json(client.get(f"{few.base}/map/slide").text)["mpp"] == 0.5
    assert client.get(f"{few.base}/map/ids").json() == list(few.prediction.spots.ids)


def test_a_picture_and_a_page_are_drawn(few: MadeRun) -> None:
    values = open_values(few.id)
    panels = panels_of(
        values, [values.parse(layer) for layer in LAYERS[:3]], "Viridis", (1, 99), shared=False
    )
    assert all(panel.low < panel.high for panel in panels)
    scene = scene_of_run(Run.open(few.id), panels, Look(), None)
    frame = frame_of(scene)
    assert frame.width_um > 0 and frame.height_um > 0
    assert draw_picture(scene, width_px=600).content.startswith(b"\x89PNG")
    assert b"NaN" not in share_page(scene).split(b"<script", 1)[1].split(b"</script", 1)[0]


def test_a_pair_is_matched_within_the_diameter_where_there_is_no_pitch(few: MadeRun) -> None:
    pair = open_pair(few.id, few.id)
    assert pair.one.pitch_um == (few.prediction.spots.pitch_um or 55.0)
    assert pair.at.tolist() == list(range(len(few.prediction.spots)))


def test_the_maps_page_opens_and_says_why_nothing_is_compared(few: MadeRun, tmp_path: Path) -> None:
    at = open_maps(few)
    assert not faults(at) and "nan" not in shown(at)
    at = give(at, "case.h5ad", content(section(few), tmp_path))
    n = len(few.prediction.spots)
    assert f"{'1 spot was' if n == 1 else '2 spots were'} measured, and at least 3" in faults(at)


def test_the_results_page_opens(few: MadeRun) -> None:
    at = open_maps(few)
    at.switch_page("views/results.py")
    at.query_params["run"] = few.id
    sound(at.run())
    assert not faults(at) and "nan" not in shown(at)


def test_the_compare_page_says_why_nothing_is_compared(
    few: MadeRun, make_run: Callable[..., MadeRun]
) -> None:
    other = make_run()
    write_prediction(few.prediction, other.folder.result_dir, overwrite=True)
    at = open_page(run=few.id, **{"with": other.id})
    [warning] = [warning.value for warning in at.warning]
    n = len(few.prediction.spots)
    assert f"have {'1 spot' if n == 1 else '2 spots'} and " in warning
    assert "at least 3 spots" in warning and not faults(at)
