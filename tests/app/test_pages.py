"""Every page, run as Streamlit runs it, without a browser."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from app import uploads
from app.jobs.folder import JobFolder
from app.jobs.model import JobRequest, new_job_id
from app.jobs.queue import JobQueue
from app.state import job_queue
from stem_core.constants import NOTICE
from stem_core.model.manifest import read_manifest
from stem_core.prediction.export import write_prediction
from stem_core.prediction.result import Prediction
from stem_core.prediction.values import PredictedArrays
from stem_core.slides.spots import Spots

MAIN = Path(__file__).resolve().parents[2] / "app" / "main.py"
NOWHERE = "0" * 32


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEM_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("STEM_SLIDE_DIR", raising=False)
    job_queue.clear()
    return tmp_path / "home"


@pytest.fixture
def model(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("STEM_MODELS_DIR", str(tiny_model.parent))
    return read_manifest(tiny_model / "config.json").name


@pytest.fixture
def picture() -> bytes:
    """A stained square on white, 900 × 700 px, that does not say how large a pixel is."""
    random = np.random.default_rng(0)
    pixels = np.full((700, 900, 3), 244, dtype=np.uint8)
    stain = np.array([186, 106, 168]) + random.integers(-40, 40, (560, 720, 1))
    pixels[70:630, 90:810] = np.clip(stain + random.integers(-12, 12, (560, 720, 3)), 0, 255)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def finished(model: str, picture: bytes) -> tuple[str, Prediction]:
    """The id of a run that is done, and its prediction."""
    random = np.random.default_rng(1)
    n, genes = 30, ("ACTB", "ERBB2", "KRT19")
    spots = Spots(
        ids=tuple(f"s{i}" for i in range(n)),
        x_px=random.uniform(100, 800, n), y_px=random.uniform(100, 600, n),
        diameter_um=100.0, pitch_um=200.0, source="measured",
        array_row=np.arange(n, dtype=np.int32), array_col=np.zeros(n, dtype=np.int32),
        in_tissue=np.ones(n, dtype=bool), tissue_fraction=np.ones(n, dtype=np.float32),
    )  # fmt: skip
    mean = random.random((n, 3), dtype=np.float32) * 6
    std = random.random((n, 3), dtype=np.float32)
    prediction = Prediction(
        slide_name="case_7 [a].png", spots=spots, mpp=2.0, symbols=genes, ensembl=("", "", ""),
        values=PredictedArrays(mean=mean, std=std, q05=mean - std, q95=mean + std),
        domain_distance=random.random(n, dtype=np.float32),
        gene_table=pd.DataFrame(
            {"held_out_pcc": [0.2, 0.8, 0.5]}, index=pd.Index(genes, name="symbol")
        ),
        run={"model": model}, thumbnail=np.full((350, 450, 3), 200, np.uint8), thumbnail_scale=0.5,
    )  # fmt: skip
    folder = make_run(model, picture, state="done", n_spots=n)
    write_prediction(prediction, folder.result_dir, overwrite=True)
    return folder.id, prediction


def make_run(model: str, picture: bytes, **progress: Any) -> JobFolder:
    upload = uploads.store_upload(picture, "case.png")
    folder = JobFolder(new_job_id())
    folder.make(
        JobRequest(
            upload_id=upload.id, slide_name="case_7 [a].png", model=model, mpp=2.0,
            preset="preview", sampler="ddim", steps=2, samples=2, seed=1, spots_kind="layout",
            layout=None, pitch_um=None, spots_upload_id=None,
        )
    )  # fmt: skip
    folder.write_progress(replace(folder.read_progress(), **progress))
    return folder


def start(page: str = "", **query: str) -> AppTest:
    at = AppTest.from_file(str(MAIN), default_timeout=60)
    for name, value in query.items():
        at.query_params[name] = value
    at.run()
    if page:
        at.switch_page(f"views/{page}.py")
        for name, value in query.items():
            at.query_params[name] = value
        at.run()
    return sound(at)


def sound(at: AppTest) -> AppTest:
    assert not at.exception, at.exception[0].message
    assert NOTICE in [caption.value for caption in at.caption]
    return at


def words(at: AppTest) -> str:
    return " ".join(str(part.value) for part in (*at.markdown, *at.caption))


def shown_map(at: AppTest) -> dict[str, Any]:
    """What the page told the map viewer to show."""
    [viewer] = at.get("bidi_component")
    return dict(json.loads(viewer.proto.json))


def figure(at: AppTest) -> dict[str, Any]:
    charts = at.get("plotly_chart")
    assert len(charts) == 1
    return dict(json.loads(charts[0].proto.spec))


def upload(at: AppTest, name: str, content: bytes) -> AppTest:
    at.file_uploader[0].upload(name, content, "application/octet-stream")
    return sound(at.run())


def test_the_pages_stand_without_runs(model: str) -> None:
    assert "Still to choose: a slide, a model." in words(start())
    assert "There are no runs yet." in words(start("runs"))
    assert "No run is chosen." in words(start("results"))


def test_a_card_says_what_must_be_known(model: str, tiny_model: Path) -> None:
    manifest = read_manifest(tiny_model / "config.json")
    shown = words(start())
    assert f"PCC over {len(manifest.panel)} genes {manifest.held_out.pcc_all_mean:.2f}" in shown
    assert "the shipped weights are trained on all sections" in shown
    assert manifest.units in shown


def test_from_the_sample_to_a_queued_run(
    model: str, home: Path, give_piece: Callable[[Path], None]
) -> None:
    give_piece(home)
    at = start()
    at.button(key="open_sample").click().run()
    assert "Synthetic" in words(sound(at))
    at.button(key=f"choose_{model}").click().run()
    sound(at)
    assert re.search(r"\*\*\d+ spots\*\* will be predicted", words(at))
    layers = figure(at)["layout"]["images"]
    assert [layer["source"].split(";")[0] for layer in layers] == [
        "data:image/jpeg", "data:image/png", "data:image/svg+xml",
    ]  # fmt: skip
    at.button(key="run_prediction").click().run()
    sound(at)
    [status] = JobQueue().list()
    assert at.query_params["run"] in (status.id, [status.id])
    assert status.state == "queued"
    assert (status.request.model, status.request.preset) == (model, "standard")
    assert status.request.layout is None and status.request.spots_kind == "layout"


def test_microns_per_pixel_are_asked_for_and_checked(model: str, picture: bytes) -> None:
    at = upload(start(), "case_7 [a].png", picture)
    ask = at.number_input[0]
    assert ask.value is None and "µm/px" in ask.label
    at.button(key=f"choose_{model}").click().run()
    assert "Still to choose: its microns per pixel." in words(sound(at))
    for wrong in (0.0, -1.0, 50.0):
        at.number_input[0].set_value(wrong).run()
        assert len(sound(at).error) == 1
    at.number_input[0].set_value(2.0).run()
    assert not sound(at).error
    assert "1.8 mm × 1.4 mm" in words(at)
    assert "will be predicted" in words(at)


@pytest.mark.parametrize("content", [b"", b"not an image at all", b"\x89PNG\r\n\x1a\n cut off"])
def test_what_is_no_image_is_refused_in_one_sentence(model: str, content: bytes) -> None:
    at = upload(start(), "notes.png", content)
    assert len(at.error) == 1
    assert at.error[0].value.count("notes.png") <= 1
    assert "file.png" not in at.error[0].value
    assert at.file_uploader  # the door stays open
    assert list((uploads.paths.uploads_dir()).iterdir()) == []


def test_a_slide_of_the_servers_own_folder(
    model: str, picture: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "slides"
    (folder / "case 7").mkdir(parents=True)
    (folder / "case 7" / "a.png").write_bytes(picture)
    (tmp_path / "private.png").write_bytes(picture)
    monkeypatch.setenv("STEM_SLIDE_DIR", str(folder))
    at = start()
    assert at.selectbox(key="server_slide").options == ["case 7/a.png"]
    at.selectbox(key="server_slide").set_value("case 7/a.png").run()
    at.button(key="open_server_slide").click().run()
    assert "900 × 700 px" in words(sound(at))


def test_unlike_spots_are_allowed_with_a_warning(
    model: str, tiny_model: Path, picture: bytes
) -> None:
    at = upload(start(), "case.png", picture)
    at.number_input[0].set_value(2.0).run()
    at.button(key=f"choose_{model}").click().run()
    assert not sound(at).warning
    trained_on = read_manifest(tiny_model / "config.json").layout
    at.radio(key="spots_kind").set_value("grid").run()
    at.number_input(key="pitch_um").set_value(trained_on.pitch_um * 2).run()
    assert "unlike the ones this model was trained on" in sound(at).warning[0].value
    assert not at.button(key="run_prediction").disabled


def test_spots_files(model: str, picture: bytes) -> None:
    at = upload(start(), "case.png", picture)
    at.number_input[0].set_value(2.0).run()
    at.button(key=f"choose_{model}").click().run()
    at.radio(key="spots_kind").set_value("file").run()
    assert sound(at).button(key="run_prediction").disabled
    upload(at, "places.csv", b"a,b\n1,2\n")
    assert "places.csv" in at.error[0].value.replace("\\", "")
    at.button(key="other_spots").click().run()
    upload(at, "places.csv", b"spot,x_px,y_px\none,300,300\ntwo,400,300\n")
    assert not at.error
    assert "**2 spots** will be predicted." in words(at)


@pytest.mark.parametrize("run", [NOWHERE, "../../etc/passwd", "x", "<b>"])
@pytest.mark.parametrize("page", ["", "results"])
def test_an_unknown_run_is_refused_in_one_sentence(model: str, page: str, run: str) -> None:
    at = start(page, run=run)
    assert len(at.error) == 1
    assert not at.get("plotly_chart") and not at.get("bidi_component")


def test_the_map_shows_what_was_chosen(finished: tuple[str, Prediction]) -> None:
    run, prediction = finished
    at = start("results", run=run, gene="KRT19")
    assert at.selectbox(key="gene").value == "KRT19"
    shown = shown_map(at)
    assert shown["base"] == f"/api/runs/{run}"
    assert shown["spot_diameter_um"] == 100
    slide = shown["slide"]
    assert (slide["width_px"], slide["height_px"], slide["mpp"]) == (900, 700, 2)
    assert slide["tiles"]
    [panel] = shown["panels"]
    assert panel["layer"] == "mean:KRT19" and panel["spread"] == "std:KRT19"
    assert panel["title"] == "KRT19: prediction (mean)" and panel["unit"] == "log2(1 + count)"
    details = {detail["words"]: detail["layers"] for detail in panel["details"]}
    assert details == {"90 % band": ["q05:KRT19", "q95:KRT19"], "domain distance": ["domain"]}
    limits = np.percentile(prediction.mean[:, 2], (1, 99))
    np.testing.assert_allclose((panel["low"], panel["high"]), limits, rtol=1e-6)
    assert shown["look"]["opacity"] == 0.85


def test_genes_are_sorted_by_how_well_they_are_predicted(finished: tuple[str, Prediction]) -> None:
    at = start("results", run=finished[0])
    assert at.selectbox(key="gene").options == ["ERBB2", "KRT19", "ACTB"]
    assert [(m.label, m.value) for m in at.metric] == [("PCC", "0.80")]
    at.selectbox(key="gene_order").set_value("Name").run()
    assert sound(at).selectbox(key="gene").options == ["ACTB", "ERBB2", "KRT19"]
    assert at.selectbox(key="gene").value == "ERBB2"  # the choice stays


@pytest.mark.parametrize(
    ("shown", "layer", "unit"),
    [
        ("std", "std:ERBB2", "log2(1 + count)"),
        ("q05", "q05:ERBB2", "log2(1 + count)"),
        ("q95", "q95:ERBB2", "log2(1 + count)"),
        ("domain", "domain", "× edge of training"),
    ],
)
def test_other_layers(finished: tuple[str, Prediction], shown: str, layer: str, unit: str) -> None:
    run, prediction = finished
    at = start("results", run=run, gene="ERBB2")
    at.selectbox(key="layer").set_value(shown).run()
    [panel] = shown_map(sound(at))["panels"]
    assert (panel["layer"], panel["unit"], panel["spread"]) == (layer, unit, "")
    values = {
        "std": prediction.std[:, 1], "q05": prediction.q05[:, 1],
        "q95": prediction.q95[:, 1], "domain": prediction.domain_distance,
    }[shown]  # fmt: skip
    assert values is not None
    limits = np.percentile(values, (1, 99))
    np.testing.assert_allclose((panel["low"], panel["high"]), limits, rtol=1e-6)


def test_a_range_of_ones_own(finished: tuple[str, Prediction]) -> None:
    at = start("results", run=finished[0])
    at.segmented_control(key="range_mode").set_value("Manual").run()
    at.number_input(key="range_low").set_value(1.0)
    at.number_input(key="range_high").set_value(4.0).run()
    [panel] = shown_map(sound(at))["panels"]
    assert (panel["low"], panel["high"]) == (1, 4)
    at.number_input(key="range_high").set_value(0.5).run()
    assert "must be above" in words(sound(at))


def test_states_of_runs(model: str, picture: bytes, finished: tuple[str, Prediction]) -> None:
    now = time.time()
    failed = make_run(
        model, picture, state="failed", message="No tissue was found on file.png: look again.",
        started_s=now - 9, finished_s=now,
    ).id  # fmt: skip
    cancelled = make_run(model, picture, state="cancelled").id
    at = start("runs")
    shown = words(at)
    assert all(state in shown for state in ("Done", "Failed", "Cancelled"))
    assert "case\\_7 \\[a\\].png" in shown  # a name is never Markdown
    assert "file.png" not in shown
    assert len([button for button in at.button if button.label == "Open"]) == 3
    at = start("results", run=failed)
    assert "look again" in at.error[0].value and "file.png" not in at.error[0].value
    assert "cancelled" in words(start("results", run=cancelled))


def test_deleting_asks_first(finished: tuple[str, Prediction]) -> None:
    at = start("runs")
    at.button(key=f"delete_{finished[0]}").click().run()
    assert "cannot be undone" in words(sound(at))
    assert len(JobQueue().list()) == 1


def test_a_broken_result_is_told_in_a_sentence(finished: tuple[str, Prediction]) -> None:
    file = JobFolder(finished[0]).result_dir / "prediction.h5ad"
    file.write_bytes(b"damaged")
    at = start("results", run=finished[0])
    assert len(at.error) == 1
