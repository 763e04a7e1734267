"""Serve the page of `viewer_page.py` and a made-up section: `python -m … viewer_server PORT`.

The slide is drawn once, its tiles are cut as they are asked for; spots lie on a hexagonal lattice
inside an ellipse. `COUNTS` tells how often values were asked for.
"""

from __future__ import annotations

import io
import sys
from collections import Counter
from functools import lru_cache
from pathlib import Path

import numpy as np
import streamlit as st
import uvicorn
from numpy.typing import NDArray
from PIL import Image
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from streamlit import config

ROOT = Path(__file__).resolve().parents[2]
WIDTH_PX, HEIGHT_PX, LEVELS, TILE_PX = 4096, 3072, 13, 254
KEPT = {"Cache-Control": "private, max-age=3600"}
COUNTS: Counter[str] = Counter()


@lru_cache
def slide() -> Image.Image:
    """Return pink tissue with purple nuclei on white, 4096 x 3072 px."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[0:HEIGHT_PX, 0:WIDTH_PX].astype(np.float32)
    inside = ((x - 2048) / 1800) ** 2 + ((y - 1536) / 1300) ** 2
    inside += 0.08 * np.sin(x / 210) + 0.08 * np.sin(y / 160 + 1)
    pixels = np.full((HEIGHT_PX, WIDTH_PX, 3), 243, np.float32)
    waves = 0.5 + 0.5 * np.sin(x / 61 + 3 * np.sin(y / 190)) * np.sin(y / 47)
    pixels[inside < 1] = (226, 158, 194)
    pixels[..., 1] -= np.where(inside < 1, 35 * waves, 0)
    seeds = np.zeros((HEIGHT_PX, WIDTH_PX), np.uint8)
    seeds[rng.integers(4, HEIGHT_PX - 4, 60_000), rng.integers(4, WIDTH_PX - 4, 60_000)] = 1
    nuclei = sum(
        np.roll(seeds, (a, b), (0, 1)) for a in range(-2, 3) for b in range(-2, 3) if a * b < 4
    )
    pixels[(np.asarray(nuclei) > 0) & (inside < 1)] = (98, 62, 138)
    pixels += rng.normal(0, 4, pixels.shape).astype(np.float32)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


@lru_cache
def level_image(level: int) -> Image.Image:
    shrink = 2 ** (LEVELS - 1 - level)
    size = (-(-WIDTH_PX // shrink), -(-HEIGHT_PX // shrink))
    return slide().resize(size, Image.Resampling.BOX)


@lru_cache
def spots(count: int) -> NDArray[np.float32]:
    """Return `count` places (x_px, y_px) from the middle of the tissue outwards."""
    pitch = float(np.sqrt(np.pi * 1700 * 1200 / count / 0.866))
    rows, columns = np.mgrid[-900:900, -900:900] if count > 20_000 else np.mgrid[-200:200, -200:200]
    x = 2048 + pitch * (columns + 0.5 * (rows % 2)).ravel()
    y = 1536 + pitch * 0.866 * rows.ravel()
    nearest = np.argsort(((x - 2048) / 1700) ** 2 + ((y - 1536) / 1200) ** 2, kind="stable")
    return np.stack([x, y], 1)[nearest[:count]].astype("<f4")


def values(count: int, gene: str) -> NDArray[np.float32]:
    """Return smooth waves that differ by gene, with noise; a few spots have no value."""
    x, y = spots(count).T / 1000
    turn = sum(map(ord, gene))
    found = 2 + 1.4 * np.sin(x * (1 + turn % 3) + turn) * np.cos(y * (1 + turn % 2) + turn / 7)
    found += np.random.default_rng(turn).normal(0, 0.25, count)
    found[7::97] = np.nan
    return found.astype("<f4")


def jpeg(image: Image.Image) -> Response:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=85)
    return Response(out.getvalue(), media_type="image/jpeg", headers=KEPT)


def give_spots(request: Request) -> Response:
    return Response(spots(request.path_params["count"]).tobytes(), headers=KEPT)


def give_values(request: Request) -> Response:
    layer = request.query_params["layer"]
    COUNTS[layer] += 1
    gene = layer.removeprefix("mean:")
    if gene == "MISSING":
        sentence = "This result has no gene MISSING; choose another."
        return JSONResponse({"error": sentence}, 400)
    return Response(values(request.path_params["count"], gene).tobytes(), headers=KEPT)


def give_ids(request: Request) -> Response:
    COUNTS["ids"] += 1
    return JSONResponse([f"case-{i}" for i in range(request.path_params["count"])], headers=KEPT)


def give_tile(request: Request) -> Response:
    level, column, row = (request.path_params[name] for name in ("level", "column", "row"))
    whole = level_image(level)
    left, top = max(0, column * TILE_PX - 1), max(0, row * TILE_PX - 1)
    right = min(whole.width, (column + 1) * TILE_PX + 1)
    bottom = min(whole.height, (row + 1) * TILE_PX + 1)
    if left >= right or top >= bottom:
        return Response(status_code=404)
    COUNTS["tiles"] += 1
    return jpeg(whole.crop((left, top, right, bottom)))


def give_thumbnail(request: Request) -> Response:
    return jpeg(level_image(10))


def give_counts(request: Request) -> Response:
    return JSONResponse(dict(COUNTS))


ROUTES = [
    Route("/made/counts", give_counts),
    Route("/made/{count:int}/map/spots", give_spots),
    Route("/made/{count:int}/map/values", give_values),
    Route("/made/{count:int}/map/ids", give_ids),
    Route("/made/{count:int}/map/thumbnail", give_thumbnail),
    Route("/made/{count:int}/tiles/{level:int}/{column:int}_{row:int}.jpeg", give_tile),
]


def main(port: int) -> None:
    """Serve on the loopback address until the process ends."""
    theme = str(ROOT / "app" / "theme.toml")
    config.get_config_options(force_reparse=True, options_from_flags={"theme.base": theme})
    for name, value in {
        "browser.gatherUsageStats": False,
        "browser.serverAddress": "localhost",
        "client.toolbarMode": "minimal",
        "server.fileWatcherType": "none",
        "server.headless": True,
    }.items():
        config.set_option(name, value)
    slide()
    page = st.App(Path(__file__).with_name("viewer_page.py"), routes=ROUTES)
    uvicorn.run(page, host="127.0.0.1", port=port, log_level="warning", ws="websockets-sansio")


if __name__ == "__main__":
    main(int(sys.argv[1]))
