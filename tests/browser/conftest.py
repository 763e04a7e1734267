"""The app as a user starts it, and a real Chromium to open it with."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from stem_core.constants import NOTICE

from .running import RunningApp, map_of, real_section, settled, started_app

expect.set_options(timeout=60_000)
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--use-gl=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    found = next(
        (
            path
            for path in map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
            if path
        ),
        None,
    )
    if found is None:
        reason = "no Chromium is installed (on Debian: apt-get install chromium)"
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def app(
    browser: Browser,
    tmp_path_factory: pytest.TempPathFactory,
    tiny_model: Path,
    give_piece: Callable[[Path], None],
) -> Iterator[RunningApp]:
    """`stem app` on a free port with a home of its own, started in another folder."""
    from stem_core.model.manifest import read_manifest
    from zoo.registry import list_models

    elsewhere = tmp_path_factory.mktemp("browser")
    home = elsewhere / "home"
    give_piece(home)
    bundled = {entry.name for entry in list_models()}
    tiny = read_manifest(tiny_model / "config.json").name
    environment = {
        **os.environ,
        "STEM_HOME": str(home),
        "STEM_MODELS_DIR": str(tiny_model.parent),
    }
    with started_app(environment, elsewhere) as address:
        model = "her2st-breast" if "her2st-breast" in bundled else tiny
        yield RunningApp(address, home, model)


@pytest.fixture(scope="session")
def run_address(browser: Browser, app: RunningApp) -> str:
    """Upload a section, choose the model, run, wait for the map; the address of the run."""
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    context.set_default_timeout(60_000)
    page = context.new_page()
    page.goto(app.address)
    expect(page.get_by_text(NOTICE)).to_be_visible()
    section = real_section()
    if section is None:
        page.get_by_role("button", name="Open the synthetic sample").click()
        expect(page.get_by_text("Synthetic, not a patient's tissue")).to_be_visible()
    else:
        page.locator("input[type=file]").first.set_input_files(section)
        expect(page.get_by_text("0.6857 µm/px (from the file)")).to_be_visible()
    page.get_by_role("button", name=f"Choose {app.model}").click()
    expect(page.get_by_text(re.compile(r"^\d[\d\u202f]* spots? will be predicted"))).to_be_visible()
    expect(page.locator(".js-plotly-plot image")).to_have_count(3)
    page.get_by_text("Preview", exact=True).click()
    settled(page)
    page.get_by_role("button", name="Run prediction").click()
    page.wait_for_url(re.compile(r"/results\?.*run=[0-9a-f]{32}"))
    map_of(page)
    address = page.url
    context.close()
    return address


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1440, "height": 1000}, accept_downloads=True)
    context.set_default_timeout(30_000)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()
