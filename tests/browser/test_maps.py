"""The Maps page on a real run: panels in step, tiles, regions, and the view in the address."""

from __future__ import annotations

import io
import json
import math
import re
import time
import zipfile
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData, read_h5ad
from matplotlib.path import Path as Outline
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from app import uploads
from app.jobs.folder import JobFolder, Progress
from app.jobs.model import JobRequest, new_job_id
from stem_core.prediction.export import write_prediction
from stem_core.prediction.result import Prediction
from stem_core.prediction.values import PredictedArrays
from stem_core.slides.content import slide_content
from stem_core.slides.reading import open_slide
from stem_core.slides.spots import read_spots
from tests.space_ranger import write_outs

from .running import RunningApp, result_of

pytestmark = pytest.mark.browser


@pytest.fixture
def truth(app: RunningApp, run_address: str) -> AnnData:
    return read_h5ad(result_of(app, run_address) / "prediction.h5ad")


def maps_address(run_address: str, *layers: str) -> str:
    [run] = parse_qs(urlsplit(run_address).query)["run"]
    root = run_address.split("/results")[0]
    return f"{root}/maps?run={run}&maps={';'.join(layers)}"


def csv_of(page: Page, button: str, folder: Path) -> pd.DataFrame:
    with page.expect_download() as waiting:
        page.get_by_role("button", name=button).click()
    waiting.value.save_as(folder / "table.csv")
    return pd.read_csv(folder / "table.csv")


def painted(page: Page, *layers: str) -> None:
    """Wait until these layers are painted, in this order."""
    expect(page.locator(".viewer")).to_have_attribute(
        "data-painted-layer", "|".join(layers), timeout=60_000
    )


def test_panels_are_painted_and_a_gene_costs_four_bytes_a_spot(
    page: Page, truth: AnnData, run_address: str
) -> None:
    one, two = truth.var_names[:2]
    layers = [f"mean:{one}", f"std:{two}", f"difference:{one}:{two}"]
    asked: list[str] = []
    page.on("response", lambda r: asked.append(r.url) if "/map/values" in r.url else None)
    with page.expect_response(re.compile(r"/tiles/\d+/\d+_\d+\.jpeg")) as tile:
        page.goto(maps_address(run_address, *layers))
    assert tile.value.status == 200
    painted(page, *layers)
    assert page.locator(".viewer canvas[role=img]").count() == 3
    for words in (one, f"{two}, spread", f"{one} − {two}"):
        expect(page.get_by_text(words).first).to_be_visible()
    expect(page.get_by_role("button", name="held-out PCC").first).to_be_visible()
    before = len(asked)
    third = next(s for s in truth.var_names[2:] if s not in (one, two))
    with page.expect_response(re.compile(r"/map/values\?layer=mean")) as answer:
        page.get_by_role("combobox", name="Gene", exact=True).click()
        page.keyboard.type(third)
        page.keyboard.press("Enter")
    painted(page, f"mean:{third}", *layers[1:])
    assert len(answer.value.body()) == 4 * truth.n_obs
    assert len(asked) == before + 1
    np.testing.assert_allclose(
        np.frombuffer(answer.value.body(), "<f4"), np.asarray(truth[:, third].X).ravel()
    )
    assert third in parse_qs(urlsplit(page.url).query)["maps"][0]
    expect(page.get_by_test_id("stStatusWidget")).to_have_count(0)
    page.wait_for_timeout(800)  # the table takes clicks once it is drawn again
    table = page.get_by_test_id("stSidebar").get_by_test_id("stDataFrame").bounding_box()
    assert table is not None
    page.mouse.click(table["x"] + 40, table["y"] + 35 + 17)  # the first gene of the list
    best = truth.var["held_out_pcc"].astype(float).idxmax()
    painted(page, f"mean:{best}", *layers[1:])


def test_one_map_more_does_not_make_the_viewer_anew(
    page: Page, truth: AnnData, run_address: str
) -> None:
    gene = truth.var_names[0]
    page.goto(maps_address(run_address, f"mean:{gene}"))
    painted(page, f"mean:{gene}")
    page.locator(".viewer").evaluate("viewer => viewer.dataset.same = 'yes'")
    page.get_by_role("button", name="Add a map").click()
    painted(page, f"mean:{gene}", f"mean:{gene}")
    expect(page.locator(".viewer[data-same=yes]")).to_have_count(1)
    page.get_by_role("button", name="Remove this map").click()
    painted(page, f"mean:{gene}")
    expect(page.locator(".viewer[data-same=yes]")).to_have_count(1)


def test_a_lasso_gives_the_figures_of_the_spots_inside(
    page: Page, app: RunningApp, truth: AnnData, run_address: str, tmp_path: Path
) -> None:
    gene = truth.var_names[0]
    page.goto(maps_address(run_address, f"mean:{gene}"))
    painted(page, f"mean:{gene}")
    page.get_by_text("Lasso", exact=True).first.click()
    expect(page.locator(".viewer[data-mode=lasso]")).to_be_visible()
    box = page.locator(".viewer canvas").first.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x + 130, y)
    page.mouse.down()
    for step in range(1, 26):
        page.mouse.move(x + 130 * math.cos(step / 4), y + 90 * math.sin(step / 4))
    page.mouse.up()
    expect(page.get_by_text("Values in the regions")).to_be_visible()
    kept = result_of(app, run_address).parent / "regions.geojson"
    [feature] = json.loads(kept.read_text(encoding="utf-8"))["features"]
    assert feature["properties"]["objectType"] == "annotation"
    ring = np.array(feature["geometry"]["coordinates"][0])
    inside = Outline(ring).contains_points(truth.obsm["spatial"])
    assert 5 <= inside.sum() < truth.n_obs
    with page.expect_download() as waiting:
        page.get_by_role("button", name="These figures (CSV)").click()
    [row] = pd.read_csv(waiting.value.path()).to_dict("records")
    values = np.asarray(truth[:, gene].X, np.float64).ravel()[inside]
    assert row["Spots"] == inside.sum()
    assert row["Mean"] == pytest.approx(values.mean(), abs=1e-5)
    assert row["Median"] == pytest.approx(np.median(values), abs=1e-5)
    assert row["Standard deviation"] == pytest.approx(values.std(ddof=1), abs=1e-5)
    assert row["95 %"] == pytest.approx(np.quantile(values, 0.95), abs=1e-5)
    table = csv_of(page, "The spots behind the violins (CSV)", tmp_path)
    assert list(table["spot"]) == list(truth.obs_names[inside])
    np.testing.assert_allclose(table["value"], values, atol=1e-5)
    page.get_by_text("Heat map of genes", exact=True).click()
    z = csv_of(page, "These z-scores (CSV)", tmp_path).set_index("gene")
    whole = np.asarray(truth.X, np.float64)
    expected = pd.Series((whole[inside].mean(0) - whole.mean(0)) / whole.std(0), truth.var_names)
    np.testing.assert_allclose(z["Region 1"], expected[z.index], atol=1e-4)
    assert np.abs(z["Region 1"]).min() >= np.sort(expected.abs())[-len(z)] - 1e-4
    page.get_by_text("Genes that differ", exact=True).click()
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.get_by_text("p is the share of places")).to_be_visible(timeout=60_000)
    with page.expect_download() as genes:
        page.get_by_role("button", name="These genes (CSV)").click()
    table = pd.read_csv(genes.value.path()).set_index("gene")
    assert len(table) == truth.n_vars
    difference = values.mean() - np.asarray(truth[:, gene].X).ravel()[~inside].mean()
    assert table.loc[gene, "difference"] == pytest.approx(difference, abs=1e-4)
    # a row of the table is shown on the active map
    first = table.index[0]
    rows = page.get_by_role("region", name=re.compile("Genes by how much they differ"))
    rows.scroll_into_view_if_needed()
    rows.click(position={"x": 18, "y": 52})
    painted(page, f"mean:{first}")
    assert parse_qs(urlsplit(page.url).query)["maps"] == [f"mean:{first}"]
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.get_by_role("button", name="Compare", exact=True)).to_have_count(0)
    expect(page.get_by_text("Draw around spots with")).to_be_visible()
    assert not kept.exists()


def test_the_address_brings_back_maps_and_view(
    page: Page, browser: Browser, truth: AnnData, run_address: str
) -> None:
    layers = [f"mean:{truth.var_names[0]}", f"q95:{truth.var_names[1]}"]
    page.goto(maps_address(run_address, *layers))
    painted(page, *layers)
    for _ in range(2):
        page.get_by_role("button", name=re.compile("zoom in", re.I)).first.click()
    page.wait_for_url(re.compile(r"view="))
    address = ""
    while page.url != address:  # both zooms have reached it
        address = page.url
        page.wait_for_timeout(2500)
    other = browser.new_context(viewport={"width": 1440, "height": 1000})
    stranger = other.new_page()
    stranger.goto(address)
    painted(stranger, *layers)
    assert (
        parse_qs(urlsplit(stranger.url).query)["view"] == parse_qs(urlsplit(address).query)["view"]
    )
    for _ in range(10):  # tiles, and on a busy machine the second zoom, may still be on their way
        if page.url != address:
            address = page.url
            stranger.goto(address)
            painted(stranger, *layers)
        pictures = [p.locator(".viewer canvas").first.screenshot() for p in (page, stranger)]
        a, b = (np.asarray(Image.open(io.BytesIO(s)).convert("RGB"), float) for s in pictures)
        if a.shape == b.shape and np.abs(a - b).mean() < 6:
            break
        stranger.wait_for_timeout(1000)
    else:
        pytest.fail("the address shows another part of the maps")
    other.close()


def test_deep_zoom_shows_the_slides_own_pixels(
    page: Page, app: RunningApp, truth: AnnData, run_address: str
) -> None:
    [run] = parse_qs(urlsplit(run_address).query)["run"]
    root = f"{app.address}/api/runs/{run}"
    facts = page.request.get(f"{root}/map/slide").json()
    upload = json.loads((app.home / "jobs" / run / "request.json").read_text())["upload_id"]
    file = next(
        p
        for p in [*(app.home / "uploads" / upload).glob("*"), *(app.home / "sample").glob("*")]
        if p.suffix.lower() in (".tif", ".tiff", ".svs")
    )
    x, y = truth.obsm["spatial"][truth.n_obs // 2]
    size, overlap = facts["tile_px"], facts["overlap"]
    column, row = int(x // size), int(y // size)
    answer = page.request.get(f"{root}/tiles/{facts['levels'] - 1}/{column}_{row}.jpeg")
    assert answer.status == 200
    tile = np.asarray(Image.open(io.BytesIO(answer.body())).convert("RGB"), float)
    left, top = column * size - (overlap if column else 0), row * size - (overlap if row else 0)
    with open_slide(file) as slide:
        own = slide.read_box(left, top, tile.shape[1], tile.shape[0], tile.shape[1], tile.shape[0])
    assert own.std() > 5  # tissue, not glass
    assert np.abs(tile - own).mean() <= 3


def test_a_measured_section_is_compared(
    page: Page, app: RunningApp, truth: AnnData, run_address: str, tmp_path: Path
) -> None:
    gene = truth.var_names[0]
    random = np.random.default_rng(0)
    counts = random.poisson(np.exp2(np.asarray(truth.X)) - 1 + 0.5).astype(np.float32)
    made = AnnData(counts[::-1].copy())
    made.obs_names, made.var_names = truth.obs_names[::-1], truth.var_names
    made.write_h5ad(tmp_path / "measured.h5ad")
    page.goto(maps_address(run_address, f"mean:{gene}"))
    painted(page, f"mean:{gene}")
    wrong = tmp_path / "wrong.h5ad"
    wrong.write_bytes(b"no h5ad")
    field = page.locator("input[type=file][accept*=h5ad]")
    field.set_input_files(wrong)
    expect(page.get_by_text("cannot be read as h5ad")).to_be_visible()
    field.set_input_files(tmp_path / "measured.h5ad")
    expect(page.get_by_text("This comparison (CSV)")).to_be_visible(timeout=60_000)
    with page.expect_download() as waiting:
        page.get_by_role("button", name="This comparison (CSV)").click()
    table = pd.read_csv(waiting.value.path()).set_index("gene")
    measured = np.log2(1 + counts[:, 0].astype(np.float64))
    predicted = np.asarray(truth.X)[:, 0].astype(np.float64)
    own = np.corrcoef(measured, predicted)[0, 1]
    assert table.loc[gene, "pcc"] == pytest.approx(own, abs=1e-5)
    assert table.loc[gene, "pcc_low"] < own < table.loc[gene, "pcc_high"]
    page.goto(maps_address(run_address, f"measured:{gene}", f"error:{gene}"))
    painted(page, f"measured:{gene}", f"error:{gene}")
    [run] = parse_qs(urlsplit(run_address).query)["run"]
    answer = page.request.get(f"{app.address}/api/runs/{run}/map/values?layer=error:{gene}")
    np.testing.assert_allclose(np.frombuffer(answer.body(), "<f4"), predicted - measured, atol=1e-4)
    page.get_by_role("button", name="Remove measured data").click()
    expect(page.get_by_text("Measured section of this slide")).to_be_visible()


@pytest.fixture
def real_run(app: RunningApp, real_data: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a run at the measured spots of a real section.

    Its prediction is what the neighbours of each spot measured: as like the section as a good
    model's, and made in no time.
    """
    monkeypatch.setenv("STEM_HOME", str(app.home))
    section = read_h5ad(real_data / "her2st" / "st" / "C5.h5ad")
    section = section[:, section.X.sum(0).A1.argsort()[::-1][:60]]
    image = real_data / "her2st" / "wsis" / "C5.tif"
    upload = uploads.store_upload(image.read_bytes(), "C5.tif")
    with open_slide(image) as slide:
        spots = read_spots(real_data / "her2st" / "st" / "C5.h5ad", slide, diameter_um=100.0)
        thumbnail = slide.thumbnail(900)
        made_of = {
            "sha256": slide_content(slide),
            "fingerprint": slide.fingerprint(),
            "width_px": slide.width_px,
            "height_px": slide.height_px,
        }
        width_px, mpp = slide.width_px, slide.mpp
    places = np.column_stack([spots.x_px, spots.y_px])
    near = np.argsort(np.hypot(*(places[:, None] - places).transpose(2, 0, 1)), 1)[:, 1:5]
    mean = np.log2(1 + section.X.toarray())[near].mean(1).astype(np.float32)
    std = np.full_like(mean, 0.5)
    symbols = tuple(section.var_names)
    prediction = Prediction(
        slide_name="C5.tif", spots=spots, mpp=mpp, symbols=symbols, ensembl=("",) * len(symbols),
        values=PredictedArrays(mean=mean, std=std, q05=mean - std, q95=mean + std),
        domain_distance=None,
        gene_table=pd.DataFrame(index=pd.Index(symbols, name="symbol")), run={"slide": made_of},
        thumbnail=thumbnail, thumbnail_scale=thumbnail.shape[1] / width_px,
    )  # fmt: skip
    folder = JobFolder(new_job_id())
    folder.make(
        JobRequest(
            upload.id, "C5.tif", app.model, None, "", "angle", 2, 2, 0, "file", None, None,
            upload.id,
        )
    )  # fmt: skip
    write_prediction(prediction, folder.result_dir)
    folder.write_progress(Progress("done", created_s=time.time(), n_spots=len(spots)))
    return f"{app.address}/results?run={folder.id}"


def test_a_real_section_is_compared_from_h5ad_and_space_ranger(
    page: Page, app: RunningApp, real_run: str, real_data: Path, tmp_path: Path
) -> None:
    file = real_data / "her2st" / "st" / "C5.h5ad"
    section = read_h5ad(file)
    outs = write_outs(
        tmp_path / "C5" / "outs", list(section.obs_names),
        *np.asarray(section.obsm["spatial"], float).T, section.X, list(section.var_names),
    )  # fmt: skip
    archive = tmp_path / "C5.zip"
    with zipfile.ZipFile(archive, "w") as out:
        for path in outs.rglob("*"):
            out.write(path, path.relative_to(tmp_path))
    made = read_h5ad(result_of(app, real_run) / "prediction.h5ad")
    measured = np.log2(1 + section[made.obs_names, made.var_names].X.toarray().astype(float))
    predicted = np.asarray(made.X, float)
    r = [np.corrcoef(m, p)[0, 1] for m, p in zip(measured.T, predicted.T, strict=True)]
    assert 0.2 < np.mean(r) < 0.9
    gene = made.var_names[0]
    for given in (file, archive):
        page.goto(maps_address(real_run, f"mean:{gene}"))
        page.locator("input[type=file][accept*=h5ad]").set_input_files(given)
        expect(page.get_by_text("181 spots of 181 matched by name")).to_be_visible()
        table = csv_of(page, "This comparison (CSV)", tmp_path).set_index("gene")
        np.testing.assert_allclose(table.loc[made.var_names, "pcc"], r, atol=1e-5)
        whole = page.get_by_test_id("stMetric").filter(has_text="PCC, whole panel")
        expect(whole).to_contain_text(f"{np.mean(r):.2f}")
        bands = csv_of(page, "These shares (CSV)", tmp_path).set_index("nominal")
        inside = np.abs(measured - predicted) <= 0.5
        assert bands.loc[0.9, "observed"] == pytest.approx(inside.mean(), abs=1e-4)
        spots = csv_of(page, "These spots (CSV)", tmp_path).set_index("spot")
        np.testing.assert_allclose(spots.loc[made.obs_names, "measured"], measured[:, 0], atol=1e-5)
        words = f"Show prediction, measured and difference of {gene}"
        page.get_by_role("button", name=words).click()
        painted(page, f"mean:{gene}", f"measured:{gene}", f"error:{gene}")
        page.get_by_role("button", name="Remove measured data").click()
        expect(page.get_by_text("Measured section of this slide")).to_be_visible()


def test_a_measured_file_of_other_places_is_refused(
    page: Page, truth: AnnData, run_address: str, real_data: Path
) -> None:
    gene = truth.var_names[0]
    page.goto(maps_address(run_address, f"mean:{gene}"))
    field = page.locator("input[type=file][accept*=h5ad]")
    field.set_input_files(real_data / "mouse_olfactory_bulb" / "st" / "MOB1.h5ad")
    expect(page.get_by_text("is it another section?")).to_be_visible()
    expect(page.get_by_text("This comparison (CSV)")).to_have_count(0)


def test_unknown_and_guessed_runs_give_nothing(page: Page, app: RunningApp) -> None:
    page.goto(f"{app.address}/maps?run={'1' * 32}")
    refusal = page.get_by_test_id("stAlert")
    expect(refusal).to_contain_text("no such run")
    for part in ("map/slide", "map/spots", "map/values?layer=mean:A", "tiles/3/0_0.jpeg"):
        answer = page.request.get(f"{app.address}/api/runs/{'1' * 32}/{part}")
        assert answer.status == 404, part
        assert "no such run" in answer.json()["error"]
