"""Draw a synthetic slide that looks like an H&E section: no patient's tissue, no download.

The picture is made from two stain maps, haematoxylin and eosin, that absorb light as on a real
section. It shows regions that differ in structure (tumour nests, fibrous stroma, glands,
lymphocytes, fat, a vessel), so that predictions differ across it. Same program, same picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from scipy.spatial import cKDTree

from stem_core.files import atomic_write

__all__ = ["SAMPLE_MPP", "SAMPLE_NAME", "make_sample_slide", "sample_slide"]

SAMPLE_MPP = 0.8
SAMPLE_NAME = "synthetic-sample.tif"
SIZE_PX = 4096
CAPTION = "SYNTHETIC SAMPLE\ndrawn by a program, no patient's tissue"

_COARSE = 8  # regions are planned on a map this many times smaller
_BAND_PX = 512
_SEED = 20150
_GLASS = np.array([243.0, 241.0, 244.0], dtype=np.float32)
_HAEMATOXYLIN = np.array([1.05, 1.10, 0.48], dtype=np.float32)
_EOSIN = np.array([0.10, 0.72, 0.30], dtype=np.float32)

Field = NDArray[np.float32]


@dataclass(frozen=True)
class _Plan:
    """Coarse maps, each float32 (SIZE_PX / 8, SIZE_PX / 8), 0 to 1 where they are shares."""

    tissue: Field
    tumour: Field
    fat: Field
    lymph: Field
    gland: Field  # epithelium
    lumen: Field
    collagen: Field  # how dense the stroma is
    flow: Field  # fibres run along its level lines, in pixels


@dataclass(frozen=True)
class _Nuclei:
    """One kind of nuclei: lengths in pixels, `pitch` between neighbours."""

    where: Field
    pitch: float
    length: tuple[float, float]
    roundness: tuple[float, float]
    depth: tuple[float, float]
    aligned: bool = False


def make_sample_slide(path: str | Path) -> Path:
    """Draw the sample and write it as a pyramidal tiled TIFF with microns per pixel.

    Parameters
    ----------
    path
        The file to write; written aside and renamed, so that a file that exists is complete.

    Returns
    -------
    Path
        The file.
    """
    path = Path(path)
    image = Image.fromarray(_draw())
    with atomic_write(path, parents=True) as temporary, tifffile.TiffWriter(temporary) as tiff:
        for level in range(5):
            pixels = np.asarray(image.reduce(2**level) if level else image)
            per_cm = 1e4 / SAMPLE_MPP / 2**level
            tiff.write(
                pixels,
                photometric="rgb",
                tile=(256, 256),
                compression="zlib",
                compressionargs={"level": 1},
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
                subfiletype=1 if level else 0,
                description=None if level else CAPTION.replace("\n", ": "),
                metadata=None,
            )
    return path


def sample_slide(cache_dir: Path) -> Path:
    """Return the sample in a folder, drawn on first use (some seconds); safe between processes."""
    path = Path(cache_dir) / SAMPLE_NAME
    return path if path.is_file() else make_sample_slide(path)


def _draw() -> NDArray[np.uint8]:
    rng = np.random.default_rng(_SEED)
    plan = _plan(rng)
    nuclei = np.zeros((SIZE_PX, SIZE_PX), dtype=np.float16)
    for kind in _kinds(plan):
        _stamp(nuclei, kind, plan.flow, rng)
    grain = _tileable(rng, 1.0, 1.0)
    blotch = _tileable(rng, 9.0, 9.0)
    fibre = 0.7 * _tileable(rng, 2.0, 34.0) + 0.5 * _tileable(rng, 5.0, 70.0)
    membrane = _fat_membranes(rng)
    image = np.empty((SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
    for top in range(0, SIZE_PX, _BAND_PX):
        image[top : top + _BAND_PX] = _stain(plan, nuclei, grain, blotch, fibre, membrane, top)
    return _with_caption(image)


def _plan(rng: np.random.Generator) -> _Plan:
    n = SIZE_PX // _COARSE
    y, x = (np.mgrid[0:n, 0:n].astype(np.float32) + 0.5) / n
    wide, middle, fine = (_noise(rng, n, sigma) for sigma in (60, 17, 6))
    angle = np.arctan2(y - 0.5, x - 0.5)
    radius = np.hypot((x - 0.5) / 1.06, (y - 0.515) / 0.93)
    edge = 0.405 + 0.03 * np.cos(2 * angle + 0.5) + 0.02 * np.cos(3 * angle - 1.0)
    edge += 0.014 * middle + 0.005 * fine
    tissue = _soft(edge - radius, 0.004)
    fat = _soft(x + 0.9 * y - 1.30 + 0.05 * wide + 0.02 * middle, 0.008) * tissue
    nests = middle + 0.30 * fine + 2.0 * (0.70 - x - 0.4 * y) + 0.25 * wide
    tumour = _soft(nests, 0.05) * tissue * (1 - fat)
    lymph = np.zeros_like(x)
    for cx, cy, r in ((0.60, 0.26, 0.048), (0.35, 0.72, 0.055), (0.72, 0.43, 0.032)):
        lymph = np.maximum(lymph, _soft(r - np.hypot(x - cx, y - cy) + 0.008 * fine, 0.006))
    gland, lumen = np.zeros_like(x), np.zeros_like(x)
    for _ in range(400):
        cx, cy = rng.uniform(0.30, 0.9), rng.uniform(0.12, 0.75)
        r = rng.uniform(0.016, 0.034)
        row, col = int(cy * n), int(cx * n)
        reach = np.hypot(x - cx, y - cy) < 1.5 * r
        if tissue[row, col] < 1 or max(f[reach].max() for f in (gland, fat, lymph, tumour)) > 0.05:
            continue
        if (tissue[reach] < 0.99).any():
            continue
        ripple = 1 + 0.12 * np.cos(3 * np.arctan2(y - cy, x - cx) + rng.uniform(0, 6))
        distance = np.hypot(x - cx, (y - cy) * rng.uniform(0.8, 1.25)) / ripple
        gland = np.maximum(gland, _soft(r - distance, 0.0012))
        lumen = np.maximum(lumen, _soft(0.5 * r - distance + 0.001 * fine, 0.0012))
    vessel = np.hypot(x - 0.30, (y - 0.585) * 1.5)
    lumen = np.maximum(lumen, _soft(0.022 - vessel, 0.0015) * tissue)
    tumour = tumour * (1 - _soft(0.036 - vessel, 0.004)) * (1 - lymph)
    lymph = lymph * tissue * (1 - fat) * (1 - gland)
    cracks = _soft(np.abs(_noise(rng, n, 16)) - 0.05, 0.02)  # thin clefts as in a cut section
    collagen = np.clip(0.78 + 0.20 * wide + 0.10 * middle, 0.40, 1.1) * (0.75 + 0.25 * cracks)
    flow = SIZE_PX * (y + 0.35 * x) + 150 * wide + 60 * middle + 9 * fine
    flow += 160 * np.exp(-((vessel / 0.06) ** 2))
    maps = (tissue, tumour, fat, lymph, gland, lumen, collagen, flow)
    return _Plan(*(field.astype(np.float32) for field in maps))


def _kinds(plan: _Plan) -> list[_Nuclei]:
    stroma = plan.tissue
    for other in (plan.tumour, plan.fat, plan.lymph, plan.gland, plan.lumen):
        stroma = stroma * (1 - other)
    wall = plan.gland * (1 - plan.lumen)
    return [
        _Nuclei(plan.tumour, 15.5, (10, 17), (0.65, 1.0), (0.55, 1.0)),
        _Nuclei(plan.lymph, 9.5, (7, 9), (0.85, 1.0), (0.95, 1.3)),
        _Nuclei(wall, 11.5, (10, 13), (0.55, 0.8), (0.75, 1.05)),
        _Nuclei(stroma, 30.0, (13, 24), (0.22, 0.4), (0.6, 1.0), aligned=True),
        _Nuclei(stroma * 0.22, 24.0, (7, 9), (0.8, 1.0), (0.9, 1.2)),
        _Nuclei(plan.fat * 0.16, 26.0, (7, 13), (0.3, 0.7), (0.8, 1.1)),
    ]


def _stamp(
    nuclei: NDArray[np.float16], kind: _Nuclei, flow: Field, rng: np.random.Generator
) -> None:
    """Place nuclei on a jittered grid and deepen the haematoxylin map under them."""
    n = int(SIZE_PX / kind.pitch)
    rows, cols = np.mgrid[0:n, 0:n]
    jitter = rng.uniform(-0.42, 0.42, size=(2, n, n))
    y = ((rows + 0.5 + jitter[0]) * kind.pitch).ravel()
    x = ((cols + 0.5 + 0.5 * (rows % 2) + jitter[1]) * kind.pitch).ravel()
    inside = (x > 20) & (y > 20) & (x < SIZE_PX - 20) & (y < SIZE_PX - 20)
    place = (
        (y / _COARSE).astype(int).clip(0, len(flow) - 1),
        (x / _COARSE).astype(int).clip(0, len(flow) - 1),
    )
    kept = inside & (kind.where[place] > rng.uniform(0.25, 1.0, len(x)))
    slope_y, slope_x = np.gradient(flow, axis=0), np.gradient(flow, axis=1)
    along = np.arctan2(-np.asarray(slope_x)[place], np.asarray(slope_y)[place])
    angles = along + rng.normal(0, 0.25, len(x)) if kind.aligned else rng.uniform(0, np.pi, len(x))
    shapes = [
        _nucleus(kind, angle, rng)
        for angle in np.linspace(0, np.pi, 24, endpoint=False)
        for _ in range(4)
    ]
    choice = np.rint(angles / np.pi * 24).astype(int) % 24 * 4 + rng.integers(0, 4, len(x))
    depth = rng.uniform(*kind.depth, len(x)).astype(np.float16)
    for index in np.flatnonzero(kept):
        shape = shapes[choice[index]]
        half = shape.shape[0] // 2
        row, col = int(y[index]), int(x[index])
        part = nuclei[row - half : row + half + 1, col - half : col + half + 1]
        np.maximum(part, shape * depth[index], out=part)


def _nucleus(kind: _Nuclei, angle: float, rng: np.random.Generator) -> NDArray[np.float16]:
    """One nucleus with a darker rim, uneven chromatin."""
    length = rng.uniform(*kind.length) / 2
    width = length * rng.uniform(*kind.roundness)
    half = int(np.ceil(length)) + 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    u = x * np.cos(angle) + y * np.sin(angle)
    v = -x * np.sin(angle) + y * np.cos(angle)
    distance = np.hypot(u / length, v / width) * (
        1 + 0.06 * np.cos(3 * np.arctan2(v, u) + rng.uniform(0, 6))
    )
    body = _soft((1 - distance) * width, 0.9)
    rim = np.exp(-(((1 - distance) * width - 1.0) ** 2) / 1.5)
    chromatin = ndimage.gaussian_filter(rng.normal(size=x.shape), 1.0) * 0.7
    depth = body * np.clip(0.72 + 0.25 * rim + chromatin, 0.35, 1.25)
    return np.asarray(depth, dtype=np.float16)


def _stain(
    plan: _Plan,
    nuclei: NDArray[np.float16],
    grain: Field,
    blotch: Field,
    fibre: Field,
    membrane: Field,
    top: int,
) -> NDArray[np.uint8]:
    """Colour a band of rows."""
    rows = slice(top, top + _BAND_PX)
    tissue, tumour, fat, lymph, gland, lumen, collagen, flow = (
        _enlarge(field, top)
        for field in (
            plan.tissue, plan.tumour, plan.fat, plan.lymph,
            plan.gland, plan.lumen, plan.collagen, plan.flow,
        )
    )  # fmt: skip
    y, x = np.mgrid[top : top + _BAND_PX, 0:SIZE_PX].astype(np.int32)
    side = len(grain)
    fine, rough = grain[y % side, x % side], blotch[y % side, x % side]
    along = (x - 0.35 * y).astype(np.int32)
    strands = fibre[np.rint(flow).astype(np.int32) % side, along % side]
    solid = np.clip(tumour + lymph + gland, 0, 1)
    # pale clefts between the bundles of collagen
    bundle = np.clip(0.56 + 0.36 * strands + 0.12 * rough, 0.03, 1.15)
    stroma = collagen * bundle * (1 - solid)
    eosin = stroma + tumour * (0.50 + 0.10 * rough) + lymph * 0.22 + gland * (0.62 + 0.08 * rough)
    eosin *= 1 + 0.10 * fine
    haematoxylin = 0.30 * tumour + 0.26 * lymph + 0.22 * gland + 0.05 * stroma
    haematoxylin *= 1 + 0.25 * rough + 0.15 * fine
    lines = _enlarge(membrane, top)
    fatty = np.clip(lines * (0.75 + 0.2 * fine), 0, 1)
    eosin = eosin * (1 - fat) + fat * 0.62 * fatty
    haematoxylin = haematoxylin * (1 - fat) + fat * 0.05 * fatty
    body = tissue * (1 - lumen)
    core = nuclei[rows].astype(np.float32) * (tissue > 0.5) * (lumen < 0.5)
    core *= np.where(fat > 0.5, lines > 0.3, True)
    haematoxylin = np.maximum(haematoxylin * body, 0.92 * core)
    eosin = eosin * body * (1 - 0.35 * np.clip(core, 0, 1)) + 0.05 * lumen * tissue
    density = haematoxylin[:, :, None] * _HAEMATOXYLIN + 0.9 * eosin[:, :, None] * _EOSIN
    light = _GLASS * np.exp(-density) + 0.7 * (tissue * fine)[:, :, None]
    return np.asarray(np.clip(light + 0.5, 0, 255), dtype=np.uint8)


def _fat_membranes(rng: np.random.Generator) -> Field:
    """Walls between fat cells: 1 where a point is as near to its second cell as to its first."""
    step, pitch = 4, 72.0
    n, cells = SIZE_PX // step, int(SIZE_PX / pitch) + 2
    rows, cols = np.mgrid[0:cells, 0:cells]
    jitter = rng.uniform(-0.36, 0.36, size=(2, cells, cells))
    y = (rows + jitter[0]) * pitch
    x = (cols + 0.5 * (rows % 2) + jitter[1]) * pitch
    centres = cKDTree(np.stack([y.ravel(), x.ravel()], axis=1))
    points = (np.mgrid[n // 3 : n, n // 3 : n].reshape(2, -1).T + 0.5) * step
    distance, _ = centres.query(points, k=2)
    gap = (distance[:, 1] - distance[:, 0]).reshape(n - n // 3, -1)
    walls = np.zeros((n, n), dtype=np.float32)
    walls[n // 3 :, n // 3 :] = np.exp(-((gap / 7.0) ** 2))
    return walls


def _with_caption(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    # the blue of a marker pen, which the tissue mask leaves out
    draw.multiline_text(
        (60, 50), CAPTION, fill=(70, 120, 175), font=ImageFont.load_default(size=58), spacing=14
    )
    return np.asarray(canvas)


def _noise(rng: np.random.Generator, n: int, sigma: float) -> Field:
    field = ndimage.gaussian_filter(rng.normal(size=(n, n)), sigma)
    return np.asarray((field - field.mean()) / field.std(), dtype=np.float32)


def _tileable(rng: np.random.Generator, sigma_y: float, sigma_x: float, n: int = 1024) -> Field:
    field = ndimage.gaussian_filter(rng.normal(size=(n, n)), (sigma_y, sigma_x), mode="wrap")
    return np.asarray(field / field.std(), dtype=np.float32)


def _soft(distance: NDArray[np.floating], width: float) -> Field:
    """Step from 0 to 1 where the distance passes 0, as wide as given."""
    return np.asarray(np.clip(0.5 + distance / (2 * width), 0, 1), dtype=np.float32)


def _enlarge(field: Field, top: int) -> Field:
    """Interpolate a coarse map for a band of rows at full size."""
    per_px = len(field) / SIZE_PX
    box = (0, top * per_px, len(field), (top + _BAND_PX) * per_px)
    size = (SIZE_PX, _BAND_PX)
    enlarged = Image.fromarray(field).resize(size, Image.Resampling.BICUBIC, box=box)
    return np.asarray(enlarged, dtype=np.float32)
