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
    stage = page.locator(".stage").bounding_box()
    assert stage is not None
    # The viewer starts with all spots and a margin around them.
    places = truth.obsm["spatial"]
    facts = next(iter(truth.uns["spatial"].values()))["metadata"]
    low, high = places.min(0), places.max(0)
    margin = facts["spot_diameter_um"] / facts["mpp"] + 0.04 * (high - low).max()
    per_px = ((high - low + 2 * margin) / [stage["width"], stage["height"]]).max()
    middle = np.array([stage["x"] + stage["width"] / 2, stage["y"] + stage["height"] / 2])
    at = middle + (places[0] - (low + high) / 2) / per_px
    page.mouse.move(at[0] - 3, at[1])
    page.mouse.move(at[0], at[1])
    told = page.locator(".tip")
    expect(told).to_be_visible()
    expect(told).to_contain_text(f"spot {truth.obs_names[0]} ")
    layer = page.locator(".viewer").get_attribute("data-painted-layer") or ""
    symbol = layer.removeprefix("mean:")
    column = truth.var_names.get_loc(symbol)
    value, spread = truth.X[0, column], truth.layers["std"][0, column]
    expect(told).to_contain_text(f"{value:.2f} ± {spread:.2f} log2(1 + count)")
    band = [truth.layers[name][0, column] for name in ("q05", "q95")]
    words = (told.text_content() or "").replace("−", "-").replace("\u202f", "")
    assert f"90 % band {band[0]:.2f} to {band[1]:.2f}" in words
    assert f"domain distance {truth.obs['domain_distance'].iloc[0]:.2f}" in words
    x_um, y_um = places[0] * facts["mpp"]
    assert f"x {x_um:.0f}, y {y_um:.0f} µm" in words


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
    shown = page.locator(".viewer").get_attribute("data-painted-layer")
    wanted = next(symbol for symbol in symbols if f"mean:{symbol}" != shown)
    page.get_by_role("combobox", name=re.compile(r"Gene \(type")).click()
    page.keyboard.type(wanted)
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(f"gene={re.escape(wanted)}"))
    expect(page.locator(".viewer")).to_have_attribute("data-painted-layer", f"mean:{wanted}")
    expect(page.get_by_text(f"{wanted}: prediction (mean)", exact=True)).to_be_visible()


def test_the_zoom_stays_when_the_layer_changes(page: Page, run_address: str) -> None:
    page.goto(run_address)
    map_of(page)
    bar = page.locator(".scale")
    home = bar.text_content() or ""
    stage = page.locator(".stage").bounding_box()
    assert stage is not None
    page.mouse.move(stage["x"] + 250, stage["y"] + 250)
    for _ in range(4):
        page.mouse.wheel(0, -300)
    expect(bar).not_to_have_text(home)
    page.mouse.move(1, 1)  # away from the map, so that nothing is told over it
    page.wait_for_timeout(600)  # the wheel ends, the page hears of it
    zoomed = bar.text_content() or ""
    page.get_by_role("combobox", name="Show").click()
    page.get_by_role("option", name="Spread").click()
    expect(page.locator(".viewer")).to_have_attribute("data-painted-layer", re.compile("^std:"))
    expect(bar).to_have_text(zoomed)
    page.mouse.dblclick(stage["x"] + 250, stage["y"] + 250)
    expect(bar).to_have_text(home)


def test_an_unknown_run_is_refused_in_one_sentence(page: Page, app: RunningApp) -> None:
    page.goto(f"{app.address}/results?run={'0' * 32}")
    refusal = page.get_by_test_id("stAlert")
    expect(refusal).to_have_count(1)
    expect(refusal).to_contain_text("no such run")
    expect(page.locator(".viewer")).to_have_count(0)


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
