"""Small real image files: a section-like picture, written in every format that is read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from scipy import ndimage

Picture = NDArray[np.uint8]
WritePyramid = Callable[..., Path]


def draw_section(width: int = 700, height: int = 500, seed: int = 0) -> Picture:
    """White glass and, in its middle, an ellipse of pink tissue with purple nuclei."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    tissue = ((x - width / 2) / (0.3 * width)) ** 2 + ((y - height / 2) / (0.3 * height)) ** 2 < 1
    nuclei = ndimage.gaussian_filter(rng.normal(size=(height, width)), 2.0)
    purple = tissue & (nuclei > 0.12)
    picture = np.full((height, width, 3), (243, 241, 244), dtype=np.float64)
    picture[tissue] = (225, 150, 195)
    picture[purple] = (95, 65, 150)
    picture += rng.normal(0, 1.5, size=picture.shape)
    return picture.clip(0, 255).astype(np.uint8)


def write_pyramid(
    path: Path,
    picture: Picture,
    *,
    mpp: float | None = 0.5,
    levels: int = 3,
    description: str | None = None,
    tile: tuple[int, int] | None = (128, 128),
    compression: str | None = "zlib",
    software: str | None = None,
) -> Path:
    """A tiled pyramidal TIFF whose levels are halved by area average."""
    with tifffile.TiffWriter(path) as tiff:
        for level in range(levels):
            if level:
                h, w = (picture.shape[0] // 2) * 2, (picture.shape[1] // 2) * 2
                quads = picture[:h, :w].reshape(h // 2, 2, w // 2, 2, 3)
                picture = np.rint(quads.mean(axis=(1, 3))).astype(np.uint8)
            resolution = None if mpp is None else (1e4 / mpp / 2**level,) * 2
            tiff.write(
                picture,
                photometric="rgb",
                tile=tile,
                compression=compression,
                resolution=resolution,
                resolutionunit="CENTIMETER" if mpp else None,
                subfiletype=1 if level else 0,
                description=description if level == 0 else None,
                metadata=None,
                software=software or False,
            )
    return path


@pytest.fixture(scope="session")
def section() -> Picture:
    return draw_section()


@pytest.fixture(scope="session")
def pyramid_path(tmp_path_factory: pytest.TempPathFactory, section: Picture) -> Path:
    return write_pyramid(tmp_path_factory.mktemp("slides") / "section.tif", section)


@pytest.fixture(scope="session")
def pyramid() -> WritePyramid:
    return write_pyramid


@pytest.fixture(scope="session")
def draw() -> Callable[..., Picture]:
    return draw_section


@pytest.fixture(scope="session")
def real_data() -> Path:
    folder = os.environ.get("STEM_TEST_DATA")
    if not folder:
        pytest.skip("STEM_TEST_DATA is not set: the real sections are not here")
    return Path(folder)
