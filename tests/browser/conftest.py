"""The app as a user starts it, and a real Chromium to open it with."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from .running import RunningApp

STEM = Path(sys.executable).with_name("stem")
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
    browser: Browser, tmp_path_factory: pytest.TempPathFactory, tiny_model: Path
) -> Iterator[RunningApp]:
    """`stem app` on a free port with a home of its own, started in another folder."""
    from zoo.manifest import read_manifest
    from zoo.registry import list_models

    elsewhere = tmp_path_factory.mktemp("browser")
    home = elsewhere / "home"
    bundled = {entry.name for entry in list_models()}
    tiny = read_manifest(tiny_model / "config.json").name
    environment = {
        **os.environ,
        "STEM_HOME": str(home),
        "STEM_MODELS_DIR": str(tiny_model.parent),
    }
    environment.pop("STEM_SLIDE_DIR", None)
    log = elsewhere / "log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [STEM, "app", "--port", "0"],
            env=environment, cwd=elsewhere, stdout=subprocess.PIPE, stderr=errors, text=True,
        )  # fmt: skip
    assert process.stdout is not None
    said = process.stdout.readline()
    found = re.search(r"http://[\w.]+:\d+", said)
    if found is None:
        process.kill()
        pytest.fail(f"{said}\n{log.read_text(encoding='utf-8')}")
    yield RunningApp(found[0], home, "her2st-breast" if "her2st-breast" in bundled else tiny)
    process.terminate()
    process.wait(20)


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1440, "height": 1000}, accept_downloads=True)
    context.set_default_timeout(30_000)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()
