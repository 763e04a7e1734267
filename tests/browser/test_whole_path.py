"""The whole path in a real browser: image in, map on the page, CSV out."""

from __future__ import annotations

import re
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pandas as pd
import pytest
from anndata import read_h5ad
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from stem_core.prediction.export import FILE_NAMES

from .running import RunningApp, map_of, result_of

pytestmark = pytest.mark.browser
RUN_LIMIT_MS = 150_000


def test_the_csv_says_what_the_h5ad_says(
    page: Page, app: RunningApp, run_address: str, tmp_path: Path
) -> None:
    page.goto(run_address)
    map_of(page)
    truth = read_h5ad(result_of(app, run_address) / "prediction.h5ad")
    for label, values in (("Expression (CSV)", truth.X), ("Spread (CSV)", truth.layers["std"])):
        with page.expect_download() as waiting:
            page.get_by_role("button", name=label).click()
        table = tmp_path / "table.csv"
        waiting.value.save_as(table)
        found = pd.read_csv(table)
        assert list(found.columns) == ["spot", "x_px", "y_px", "x_um", "y_um", *truth.var_names]
        assert found["spot"].astype(str).tolist() == truth.obs_names.tolist()
        np.testing.assert_allclose(found[truth.var_names], values, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found[["x_px", "y_px"]], truth.obsm["spatial"], atol=0.01)
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Everything (zip)").click()
    with ZipFile(waiting.value.path()) as packed:
        assert set(packed.namelist()) == set(FILE_NAMES)
        assert packed.testzip() is None


def test_hovering_tells_value_spread_and_place(
    page: Page, app: RunningApp, run_address: str
) -> None:
    truth = read_h5ad(result_of(app, run_address) / "prediction.h5ad")
    page.goto(run_address)
    map_of(page)
    place = page.evaluate(
        """() => { const g = document.querySelector('.js-plotly-plot'), f = g._fullLayout;
        const box = g.getBoundingClientRect(), t = g._fullData[0];
        return [box.left + f.xaxis._offset + f.xaxis.l2p(t.x[0]),
                box.top + f.yaxis._offset + f.yaxis.l2p(t.y[0])]; }"""
    )
    page.mouse.move(place[0] - 3, place[1])
    page.mouse.move(*place)
    told = page.locator(".hoverlayer .hovertext")
    expect(told).to_be_visible()
    words = told.text_content() or ""
    gene = page.evaluate("document.querySelector('.js-plotly-plot').data[0].hovertemplate")
    symbol = re.match(r"<b>(\S+)", gene)[1]  # type: ignore[index]
    column = truth.var_names.get_loc(symbol)
    value, spread = truth.X[0, column], truth.layers["std"][0, column]
    assert f"{value:.2f} ± {spread:.2f}" in words.replace("−", "-")
    assert "log2(1 + count)" in words and "µm" in words and str(truth.obs_names[0]) in words


def test_refresh_and_another_browser_find_the_run(
    page: Page, browser: Browser, run_address: str
) -> None:
    page.goto(run_address)
    map_of(page)
    page.reload()
    map_of(page)
    other = browser.new_context()
    stranger = other.new_page()
    stranger.goto(run_address)
    map_of(stranger)
    other.close()


def test_a_gene_is_found_by_typing_and_stays_in_the_address(
    page: Page, app: RunningApp, run_address: str
) -> None:
    symbols = read_h5ad(result_of(app, run_address) / "prediction.h5ad").var_names
    page.goto(run_address)
    map_of(page)
    shown = page.evaluate("document.querySelector('.js-plotly-plot').data[0].hovertemplate")
    wanted = next(symbol for symbol in symbols if f"<b>{symbol} " not in shown)
    page.get_by_role("combobox", name=re.compile("^Gene \\(")).or_(
        page.get_by_role("combobox", name=re.compile("Gene \\(type"))
    ).first.click()
    page.keyboard.type(wanted)
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(f"gene={re.escape(wanted)}"))
    expect(page.get_by_text(f"{wanted}: prediction (mean), log2(1 + count)")).to_be_visible()


def test_the_zoom_stays_when_the_layer_changes(page: Page, run_address: str) -> None:
    plot = "document.querySelector('.js-plotly-plot')"
    seen = f"{plot}.layout.xaxis.range.map(Math.round)"
    page.goto(run_address)
    map_of(page)
    page.wait_for_function(f"{plot}.dataset.watched")
    home = page.evaluate(seen)
    box = page.locator(".js-plotly-plot").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 250, box["y"] + 250)
    page.mouse.wheel(0, -600)
    page.wait_for_function(f"{plot}.layout.xaxis.range[1] < {home[1]} - 10")
    page.wait_for_timeout(5000)  # the wheel ends, the page hears of it
    zoomed = page.evaluate(seen)
    page.evaluate(f"{plot}.dataset.before = 1")
    page.get_by_role("combobox", name="Show").click()
    page.get_by_role("option", name="Spread").click()
    page.wait_for_function(f"{plot} && {plot}.layout && !{plot}.dataset.before")
    map_of(page)
    assert page.evaluate(seen) == zoomed
    page.mouse.dblclick(box["x"] + 250, box["y"] + 250)
    page.wait_for_function(f"Math.abs({plot}.layout.xaxis.range[1] - {home[1]}) < 2")


def test_an_unknown_run_is_refused_in_one_sentence(page: Page, app: RunningApp) -> None:
    page.goto(f"{app.address}/results?run={'0' * 32}")
    refusal = page.get_by_test_id("stAlert")
    expect(refusal).to_have_count(1)
    expect(refusal).to_contain_text("no such run")
    expect(page.locator(".js-plotly-plot")).to_have_count(0)


def test_what_is_no_image_is_refused_in_one_sentence(
    page: Page, app: RunningApp, tmp_path: Path
) -> None:
    notes = tmp_path / "notes.png"
    notes.write_text("no image at all")
    page.goto(app.address)
    page.locator("input[type=file]").first.set_input_files(notes)
    refusal = page.get_by_test_id("stAlert")
    expect(refusal).to_have_count(1)
    expect(refusal).to_contain_text("notes.png is not an image")
    expect(page.get_by_text("Traceback")).to_have_count(0)


def test_a_large_file_goes_straight_to_disk(page: Page, app: RunningApp, tmp_path: Path) -> None:
    notes = tmp_path / "notes.png"
    notes.write_text("no image at all")
    page.goto(app.address)
    page.get_by_text("A larger file").click()
    door = page.locator("input[type=file]").last
    door.set_input_files(notes)
    expect(page.get_by_test_id("stAlert")).to_contain_text("notes.png is not an image")
    picture = tmp_path / "case.png"
    pixels = np.full((300, 400, 3), 240, np.uint8)
    pixels[50:250, 50:350] = (186, 106, 168)
    Image.fromarray(pixels).save(picture)
    page.get_by_text("A larger file").click()
    page.locator("input[type=file]").last.set_input_files(picture)
    expect(page.get_by_role("spinbutton", name="Microns per pixel")).to_be_visible()
    expect(page.get_by_text("case.png")).to_be_visible()


def test_deleting_a_run_removes_its_files(page: Page, app: RunningApp, run_address: str) -> None:
    run = result_of(app, run_address).parent
    assert run.is_dir()
    page.goto(f"{app.address}/runs")
    card = page.locator(f".st-key-run_{run.name}")
    expect(card).to_contain_text("Done")
    card.get_by_role("button", name="Delete").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Keep it").click()
    expect(dialog).to_have_count(0)
    assert run.is_dir()
    card.get_by_role("button", name="Delete").click()
    dialog.get_by_role("button", name="Delete").click()
    expect(card).to_have_count(0)
    assert not run.exists()
    page.goto(run_address)
    expect(page.get_by_test_id("stAlert")).to_contain_text("no such run")
