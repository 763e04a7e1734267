"""Take pictures of every page, wide and narrow, light and dark.

    python docs/take_screenshots.py [--slide FILE] [--gene SYMBOL] [--out docs/img] [--address URL]

Starts `stem app` in a home of its own, predicts SLIDE (the synthetic sample without one) twice with
the model her2st-breast, and writes `PAGE-WIDTH-THEME.jpg`. With `--address` the pictures are of an
app that runs already: its latest runs, which must be of one slide.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

MODEL = "her2st-breast"
WIDTHS_PX = (1440, 900)
THEMES = ("light", "dark")
MOST_HEIGHT_PX = 1500
QUALITY = 80
LARGEST_BYTES = 5_000_000
RUN_LIMIT_MS = 600_000
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--use-gl=swiftshader", "--enable-unsafe-swiftshader",
             "--disable-background-networking"]  # fmt: skip
PAINTED = ".viewer[data-painted-layer]"


@contextmanager
def started_app(home: Path) -> Iterator[str]:
    """Run the app on a free port and give its address."""
    process = subprocess.Popen(
        [Path(sys.executable).with_name("stem"), "app", "--port", "0"],
        env={**os.environ, "STEM_HOME": str(home)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    found = re.search(r"http://[\w.]+:\d+", process.stdout.readline())
    try:
        assert found, "the app did not start"
        yield found[0]
    finally:
        process.terminate()
        process.wait(30)


def choose_slide_and_model(page: Page, address: str, slide: Path | None) -> None:
    """Go to the Predict page and choose everything that a run needs."""
    page.goto(address)
    if slide is None:
        page.get_by_role("button", name="Open the synthetic sample").click()
    else:
        page.locator("input[type=file]").first.set_input_files(slide)
    page.get_by_role("button", name=f"Choose {MODEL}").click()
    expect(page.locator(".js-plotly-plot image")).to_have_count(3)
    expect(page.get_by_role("button", name="Run prediction")).to_be_enabled()


def predict(browser: Browser, address: str, slide: Path | None) -> None:
    """Start a run with each of the first two presets and wait for both."""
    page = browser.new_page(viewport={"width": 1440, "height": 1000})
    choose_slide_and_model(page, address, slide)
    for preset in ("Preview", "Standard"):
        page.get_by_text(preset, exact=True).click()
        page.get_by_role("button", name="Run prediction").click()
        page.wait_for_url(re.compile(r"/results\?.*run="))
        expect(page.locator(PAINTED)).to_be_visible(timeout=RUN_LIMIT_MS)
        page.get_by_role("link", name="Predict").click()
        expect(page.get_by_role("button", name="Run prediction")).to_be_enabled()
    page.close()


def latest_runs(browser: Browser, address: str) -> list[str]:
    """Return the ids of the two newest runs, as the Runs page opens them."""
    page, runs = browser.new_page(), []
    for place in range(2):
        page.goto(f"{address}/runs")
        page.get_by_role("button", name="Open").nth(place).click()
        page.wait_for_url(re.compile(r"/results\?.*run="))
        runs += parse_qs(urlsplit(page.url).query)["run"]
    page.close()
    return runs


def go_to(page: Page, address: str, name: str, runs: list[str], gene: str | None) -> None:
    """Open a page and wait until it shows what it is for."""
    chosen = f"run={runs[0]}" + (f"&gene={gene}" if gene else "")
    if name == "models":
        page.goto(f"{address}/models")
        expect(page.get_by_text("Held out:").first).to_be_visible()
    elif name == "runs":
        page.goto(f"{address}/runs")
        expect(page.get_by_role("button", name="Open").first).to_be_visible()
    elif name == "maps":
        layers = f"mean:{gene};std:{gene};q95:{gene};domain" if gene else ""
        page.goto(f"{address}/maps?run={runs[0]}&maps={layers}")
        expect(page.locator(PAINTED)).to_be_visible()
    else:
        page.goto(f"{address}/{name}?{chosen}&with={runs[1]}")
        expect(page.locator(PAINTED).first).to_be_visible()


def keep(page: Page, path: Path) -> None:
    """Write what the page shows, as high as it is up to a limit."""
    page.wait_for_timeout(2500)  # tiles and charts
    width = page.viewport_size["width"] if page.viewport_size else WIDTHS_PX[0]
    needed = page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight") + 60
    page.set_viewport_size({"width": width, "height": min(MOST_HEIGHT_PX, max(700, needed))})
    page.evaluate("document.querySelector('[data-testid=stMain]').scrollTo(0, 0)")
    page.wait_for_timeout(1500)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.save(path, quality=QUALITY, optimize=True, progressive=True)


def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slide", type=Path)
    parser.add_argument("--gene")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("img"))
    parser.add_argument("--address")
    parser.add_argument("--only", nargs="+", metavar="PAGE")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    expect.set_options(timeout=120_000)
    names = asked.only or ["predict", "models", "runs", "results", "maps", "compare"]
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=ARGUMENTS
        )

        def take(address: str) -> None:
            runs = latest_runs(browser, address)
            for width in WIDTHS_PX:
                for theme in THEMES:
                    for name in names:
                        page = browser.new_page(
                            viewport={"width": width, "height": 1000}, color_scheme=theme
                        )
                        if name == "predict":
                            choose_slide_and_model(page, address, asked.slide)
                        else:
                            go_to(page, address, name, runs, asked.gene)
                        keep(page, asked.out / f"{name}-{width}-{theme}.jpg")
                        page.close()

        if asked.address:
            take(asked.address)
        else:
            with started_app(Path(home)) as address:
                predict(browser, address, asked.slide)
                take(address)
        browser.close()
    total = sum(path.stat().st_size for path in asked.out.glob("*.jpg"))
    print(f"{total / 1e6:.1f} MB in {asked.out}")
    if total > LARGEST_BYTES:
        sys.exit(f"More than {LARGEST_BYTES / 1e6:g} MB: take fewer, or lower QUALITY.")


if __name__ == "__main__":
    main()
