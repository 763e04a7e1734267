"""Time from a click to a painted map, in Chromium, through the whole app.

    python benchmarks/map_pages.py [--home FOLDER] [--spots 5000 100000] [--switches 20]

Makes finished runs of made spots and genes in an app home of its own (kept and used again where
`--home` names one), starts `stem app` and drives its pages. "First map": a browser that has the app
open goes to the address of a run that the server has not opened since it was started. "Gene
switch": from the key that chooses a gene to the frame that shows it. Bytes are what Chromium
received on sockets and requests for one switch.
"""

from __future__ import annotations

import argparse
import base64
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, CDPSession, Page, expect, sync_playwright
from scipy import ndimage

MODEL = "her2st-breast"
WIDTH_PX, HEIGHT_PX, MPP = 12_000, 9_000, 1.0
DIAMETER_UM = {5000: 55.0, 100_000: 16.0}
N_GENES = 200
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--use-gl=swiftshader", "--enable-unsafe-swiftshader",
             "--disable-background-networking"]  # fmt: skip
GENE_BOX = re.compile(r"Gene( \(type|$)")
# When a gene was chosen, and when the map of the wanted layers was on the screen.
WATCH = """([wanted]) => {
  window.began = null
  addEventListener("keydown", event => {
    if (event.key === "Enter") window.began = performance.now()
  }, { capture: true, once: true })
  window.shown = new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error(`${wanted} was not painted`)), 60000)
    const look = () => {
      const viewer = document.querySelector(".viewer") ??
        [...document.querySelectorAll("*")].find(e => e.shadowRoot?.querySelector(".viewer"))
          ?.shadowRoot.querySelector(".viewer")
      if (window.began !== null && viewer?.dataset.paintedLayer === wanted) {
        resolve(performance.now() - window.began)
      } else requestAnimationFrame(look)
    }
    look()
  })
}"""


def draw_slide(path: Path) -> None:
    """Write a made section as a tiled pyramid."""
    small = np.random.default_rng(0).normal(size=(HEIGHT_PX // 12, WIDTH_PX // 12))
    nests = ndimage.gaussian_filter(small, 6.0) > 0.01
    picture = np.where(nests[..., None], (95, 65, 150), (225, 150, 195)).astype(np.uint8)
    full = Image.fromarray(picture).resize((WIDTH_PX, HEIGHT_PX), Image.Resampling.BILINEAR)
    with tifffile.TiffWriter(path) as tiff:
        for level in range(5):
            shown = np.asarray(full if level == 0 else full.reduce(2**level))
            tiff.write(
                shown, photometric="rgb", tile=(256, 256), compression="zlib",
                resolution=(1e4 / MPP / 2**level,) * 2, resolutionunit="CENTIMETER",
                subfiletype=1 if level else 0, metadata=None,
            )  # fmt: skip


def lattice(count: int) -> NDArray[np.float64]:
    """Return `count` places on a hexagonal lattice in the middle of the slide, in pixels."""
    pitch = np.sqrt(0.72 * WIDTH_PX * HEIGHT_PX / count / 0.866)
    half = int(WIDTH_PX / pitch)
    rows, columns = np.mgrid[-half:half, -half:half]
    x = pitch * (columns + 0.5 * (rows % 2)).ravel()
    y = pitch * 0.866 * rows.ravel()
    nearest = np.argsort((x / WIDTH_PX) ** 2 + (y / HEIGHT_PX) ** 2, kind="stable")[:count]
    return np.stack([x + WIDTH_PX / 2, y + HEIGHT_PX / 2], 1)[np.sort(nearest)]


def make_run(home: Path, slide: Path, count: int) -> str:
    """Write a finished run of `count` spots as the app would have; return its id."""
    from app import uploads
    from app.jobs.folder import JobFolder, Progress
    from app.jobs.model import JobRequest, new_job_id
    from stem_core.prediction.export import write_prediction
    from stem_core.prediction.result import Prediction
    from stem_core.slides.reading import open_slide
    from stem_core.slides.spots import Spots
    from zoo.registry import find_model

    name = f"made-{count}.tif"
    upload = uploads.store_upload(slide.read_bytes(), name)
    folder = JobFolder(new_job_id())
    folder.make(
        JobRequest(upload.id, name, MODEL, None, "standard", "angle", 4, 4, 0, "layout",
                   None, None, None)
    )  # fmt: skip
    rng = np.random.default_rng(count)
    at = lattice(count)
    manifest = find_model(MODEL).manifest
    genes = tuple(gene.symbol for gene in manifest.panel)[:N_GENES]
    waves = np.sin(at[:, :1] / rng.uniform(400, 4000, len(genes))) + np.cos(
        at[:, 1:] / rng.uniform(400, 4000, len(genes))
    )
    mean = (2 + waves + rng.normal(0, 0.2, waves.shape)).clip(0).astype(np.float32)
    std = rng.uniform(0.2, 0.8, mean.shape).astype(np.float32)
    places = np.arange(count, dtype=np.int32)
    with open_slide(uploads.upload_path(upload.id)) as opened:
        facts = {"sha256": opened.fingerprint(), "width_px": WIDTH_PX, "height_px": HEIGHT_PX}
        thumbnail = opened.thumbnail(2000)
    write_prediction(
        Prediction(
            slide_name=name,
            spots=Spots(
                ids=tuple(f"{i // 400}x{i % 400}" for i in places), x_px=at[:, 0], y_px=at[:, 1],
                diameter_um=DIAMETER_UM.get(count, 55.0), pitch_um=100.0, source="measured",
                array_row=places // 400, array_col=places % 400,
                in_tissue=np.ones(count, bool), tissue_fraction=np.ones(count, np.float32),
            ),
            mpp=MPP, symbols=genes, ensembl=("",) * len(genes), mean=mean, std=std,
            q05=mean - 2 * std, q95=mean + 2 * std,
            domain_distance=rng.gamma(4, 0.15, count).astype(np.float32),
            gene_table=pd.read_csv(find_model(MODEL).folder / "genes.csv").set_index("symbol"),
            run={"model": {"name": MODEL}, "slide": facts, "samples": 4},
            thumbnail=thumbnail, thumbnail_scale=thumbnail.shape[1] / WIDTH_PX,
        ),
        folder.result_dir,
    )  # fmt: skip
    now = time.time()
    folder.write_progress(
        Progress("done", created_s=now, started_s=now, finished_s=now, n_spots=count)
    )
    return folder.id


def runs_of(home: Path, count: int, copies: int) -> list[str]:
    """Return equal runs of `count` spots, made where they are missing."""
    from app.jobs.folder import JobFolder
    from app.jobs.model import new_job_id

    kept = home / f"runs-{count}.txt"
    ids = kept.read_text().split() if kept.is_file() else []
    if not ids:
        slide = home / "slide.tif"
        if not slide.is_file():
            draw_slide(slide.with_suffix(".part"))
            slide.with_suffix(".part").rename(slide)
        ids = [make_run(home, slide, count)]
    while len(ids) < copies:
        ids.append(new_job_id())
        shutil.copytree(JobFolder(ids[0]).path, JobFolder(ids[-1]).path, copy_function=os.link)
    kept.write_text(" ".join(ids))
    return ids


class Received:
    """Bytes that a page received, told by Chromium."""

    def __init__(self, page: Page) -> None:
        self.socket = self.requests = 0
        session: CDPSession = page.context.new_cdp_session(page)
        session.send("Network.enable")
        session.on("Network.webSocketFrameReceived", self._frame)
        session.on("Network.loadingFinished", self._loaded)

    def _frame(self, event: dict) -> None:
        frame = event["response"]
        data = frame["payloadData"]
        self.socket += len(base64.b64decode(data)) if frame["opcode"] == 2 else len(data)

    def _loaded(self, event: dict) -> None:
        self.requests += int(event["encodedDataLength"])


def wait_painted(page: Page, layers: str) -> None:
    expect(page.locator(".viewer")).to_have_attribute("data-painted-layer", layers, timeout=60_000)


def first_map(page: Page, address: str, where: str, run: str, layer: str) -> float:
    """Return seconds from leaving another page of the app to the painted map."""
    page.goto(f"{address}/runs")
    expect(page.get_by_role("button", name="Open").first).to_be_visible()
    page.wait_for_timeout(1500)
    start = time.perf_counter()
    page.goto(f"{address}/{where}?run={run}", wait_until="commit")
    wait_painted(page, layer)
    return time.perf_counter() - start


def switch_gene(page: Page, gene: str, layers: str) -> float:
    """Choose a gene as a user does; return milliseconds from the choosing key to the map."""
    box = page.get_by_role("combobox", name=GENE_BOX)
    box.click()
    page.keyboard.type(gene)
    expect(page.get_by_role("option").filter(has_text=gene).first).to_be_visible()
    page.evaluate(WATCH, [layers])
    page.keyboard.press("Enter")
    return float(page.evaluate("window.shown"))


def pan_rate(page: Page) -> float:
    """Return frames a second while six maps are dragged."""
    page.locator(".stage").nth(1).scroll_into_view_if_needed()
    box = page.locator(".stage").nth(1).bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 3, box["y"] + box["height"] / 3
    clock = "root => [performance.now(), Number(root.dataset.frames)]"
    viewer = page.locator(".viewer")
    page.mouse.move(x, y)
    page.mouse.down()
    began, first = viewer.evaluate(clock)
    for step in range(120):
        page.mouse.move(x + 1.4 * (step % 60), y + step % 30)
    ended, last = viewer.evaluate(clock)
    page.mouse.up()
    return float((last - first) / (ended - began) * 1000)


def measure(browser: Browser, address: str, runs: list[str], count: int, switches: int) -> None:
    from app.components.gene_choice import best_predicted_first
    from app.jobs.folder import JobFolder
    from stem_core.prediction.result import read_prediction

    prediction = read_prediction(JobFolder(runs[0]).result_dir / "prediction.h5ad")
    genes = best_predicted_first(prediction) or list(prediction.symbols)
    opens = len(runs) // 2
    for where, unseen in (("results", runs[:opens]), ("maps", runs[opens:])):
        context = browser.new_context(viewport={"width": 1440, "height": 1000})
        page = context.new_page()
        firsts = [first_map(page, address, where, run, f"mean:{genes[0]}") for run in unseen]
        again = first_map(page, address, where, unseen[-1], f"mean:{genes[0]}")
        page.wait_for_timeout(3000)
        received = Received(page)
        took, sent = [], []
        for gene in genes[1 : switches + 1]:
            before = received.socket, received.requests
            took.append(switch_gene(page, gene, f"mean:{gene}"))
            page.wait_for_timeout(1200)
            sent.append((received.socket - before[0], received.requests - before[1]))
        socket, requests = (statistics.median(part) / 1e3 for part in zip(*sent, strict=True))
        print(
            f"| {where} | {count:,} | {statistics.median(firsts):.2f} ({max(firsts):.2f}) "
            f"| {again:.2f} | {statistics.median(took):.0f} ({max(took):.0f}) "
            f"| {requests:.1f} + {socket:.1f} |",
            flush=True,
        )
        context.close()
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    page = context.new_page()
    layers = [f"mean:{gene}" for gene in genes[:6]]
    page.goto(f"{address}/maps?run={runs[-1]}&maps={';'.join(layers)}")
    wait_painted(page, "|".join(layers))
    page.wait_for_timeout(3000)
    print(f"six panels of {count:,} spots: {pan_rate(page):.0f} frames a second while dragging")
    context.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--home", type=Path)
    parser.add_argument("--spots", type=int, nargs="+", default=[5000, 100_000])
    parser.add_argument("--switches", type=int, default=20)
    parser.add_argument("--opens", type=int, default=3)
    expect.set_options(timeout=60_000)
    asked = parser.parse_args()
    home = asked.home or Path(tempfile.mkdtemp(prefix="stem-map-pages-"))
    home.mkdir(parents=True, exist_ok=True)
    os.environ["STEM_HOME"] = str(home)
    runs = {count: runs_of(home, count, 2 * asked.opens) for count in asked.spots}
    with (home / "app.log").open("wb") as log:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("stem"), "app", "--port", "0"],
            stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
    assert process.stdout is not None
    found = re.search(r"http://[\w.]+:\d+", process.stdout.readline())
    assert found, "the app did not start"
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=ARGUMENTS
            )
            print("| page | spots | first map, s: median (worst) | opened before, s "
                  "| gene switch, ms: median (worst) | kB a switch: values + page |")  # fmt: skip
            print("|---|---|---|---|---|---|")
            for count in asked.spots:
                measure(browser, found[0], runs[count], count, asked.switches)
            browser.close()
    finally:
        process.terminate()
        process.wait(20)


if __name__ == "__main__":
    main()
