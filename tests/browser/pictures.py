"""Take the README's pictures of a running app: `python pictures.py ADDRESS FOLDER SLIDE [GENE]`.

The app needs the bundled models; SLIDE is an image for the model `her2st-breast`, or `sample` for
the synthetic one.
"""

from __future__ import annotations

import io
import re
import shutil
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

LARGEST_BYTES = 400_000
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--use-gl=swiftshader"]


def keep(page: Page, path: Path) -> None:
    """Write what the page shows as a PNG, as large as a README can bear."""
    page.wait_for_timeout(2500)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    for width in range(picture.width, 600, -40):
        height = round(picture.height * width / picture.width)
        picture.resize((width, height), Image.Resampling.LANCZOS).save(path, optimize=True)
        if path.stat().st_size < LARGEST_BYTES:
            return


def main(address: str, folder: Path, slide: Path, gene: str | None = None) -> None:
    """Go the whole way once and keep a picture of each page."""
    expect.set_options(timeout=120_000)
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=[*ARGUMENTS, "--enable-unsafe-swiftshader", "--disable-background-networking"],
        )
        page = browser.new_page(viewport={"width": 1280, "height": 1420})
        page.goto(address)
        if slide == Path("sample"):
            page.get_by_role("button", name="Open the synthetic sample").click()
            expect(page.get_by_text("Synthetic, not a patient's tissue")).to_be_visible()
        else:
            page.locator("input[type=file]").first.set_input_files(slide)
        page.get_by_role("button", name="Choose her2st-breast").click()
        expect(page.locator(".js-plotly-plot image")).to_have_count(3)
        keep(page, folder / "predict.png")
        page.get_by_role("button", name="Run prediction").click()
        page.wait_for_url(re.compile(r"/results\?.*run="))
        expect(page.locator(".viewer[data-painted-layer]")).to_be_visible()
        if gene:
            page.goto(f"{page.url}&gene={gene}")
            expect(page.locator(".viewer[data-painted-layer]")).to_be_visible()
        page.set_viewport_size({"width": 1280, "height": 1010})
        keep(page, folder / "results.png")
        [run] = parse_qs(urlsplit(page.url).query)["run"]
        page.set_viewport_size({"width": 1280, "height": 1160})
        page.goto(f"{address}/maps?run={run}&maps=mean:GNAS;mean:COL1A1;std:GNAS;domain")
        expect(page.locator(".viewer[data-painted-layer]")).to_be_visible()
        keep(page, folder / "maps.png")
        page.set_viewport_size({"width": 1280, "height": 1010})
        page.goto(f"{address}/models")
        expect(page.get_by_text("Held out:").first).to_be_visible()
        keep(page, folder / "models.png")
        page.set_viewport_size({"width": 1280, "height": 560})
        page.goto(f"{address}/runs")
        expect(page.get_by_role("button", name="Open").first).to_be_visible()
        keep(page, folder / "runs.png")
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:5])
