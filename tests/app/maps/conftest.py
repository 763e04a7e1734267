"""A small real finished run: a tiled pyramidal slide, and the files of a result."""

from __future__ import annotations

import functools
import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from starlette.applications import Starlette
from starlette.testclient import TestClient

from app import uploads
from app.jobs.folder import JobFolder, Progress
from app.jobs.model import JobRequest, new_job_id
from app.maps.routes import MAP_ROUTES
from stem_core.prediction.export import write_prediction
from stem_core.prediction.result import Prediction
from stem_core.prediction.values import PredictedArrays
from stem_core.slides.content import slide_content
from stem_core.slides.reading import open_slide
from stem_core.slides.spots import Spots

GENES = ("GNAS", "ERBB2", "HLA-DRB1", "MT-ND1", "AC1(2)/b.3_x", "A:B", "7SK")
WIDTH_PX, HEIGHT_PX = 1500, 1100


@dataclass
class MadeRun:
    folder: JobFolder
    prediction: Prediction
    picture: NDArray[np.uint8]

    @property
    def id(self) -> str:
        return self.folder.id

    @property
    def base(self) -> str:
        return f"/api/runs/{self.id}"

    @property
    def slide_file(self) -> Path:
        return uploads.upload_path(self.folder.read_request().upload_id)


@functools.cache
def draw_section(width: int = WIDTH_PX, height: int = HEIGHT_PX) -> NDArray[np.uint8]:
    """Pink tissue with purple nests up to the edges, whose corners differ."""
    rng = np.random.default_rng(0)
    nests = ndimage.gaussian_filter(rng.normal(size=(height, width)), 12.0) > 0.02
    picture = np.where(nests[..., None], (95.0, 65.0, 150.0), (225.0, 150.0, 195.0))
    picture = ndimage.gaussian_filter(picture, (2.0, 2.0, 0.0))  # a lens has no hard edges
    picture *= np.linspace(0.7, 1.0, width)[None, :, None]
    picture += rng.normal(0, 1.5, size=picture.shape)
    return picture.clip(0, 255).astype(np.uint8)


def pyramid_bytes(picture: NDArray[np.uint8]) -> bytes:
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as tiff:
        for level in range(3):
            shown = picture if level == 0 else np.asarray(Image.fromarray(picture).reduce(2**level))
            tiff.write(
                shown, photometric="rgb", tile=(128, 128), compression="zlib",
                resolution=(2e4 / 2**level,) * 2, resolutionunit="CENTIMETER",
                subfiletype=1 if level else 0, metadata=None,
            )  # fmt: skip
    return out.getvalue()


def make_prediction(
    n_spots: int, genes: tuple[str, ...], *, domain: bool = True, **record: object
) -> Prediction:
    rng = np.random.default_rng(3)
    shape = (n_spots, len(genes))
    mean = rng.random(shape, dtype=np.float32) * 6
    std = rng.random(shape, dtype=np.float32)
    places = np.arange(n_spots, dtype=np.int32)
    spots = Spots(
        ids=tuple(f"s{i}" for i in range(n_spots)),
        x_px=rng.uniform(0, WIDTH_PX, n_spots), y_px=rng.uniform(0, HEIGHT_PX, n_spots),
        diameter_um=55.0, pitch_um=100.0, source="measured", array_row=places, array_col=places,
        in_tissue=np.ones(n_spots, bool), tissue_fraction=np.ones(n_spots, np.float32),
    )  # fmt: skip
    return Prediction(
        slide_name="case.tif", spots=spots, mpp=0.5, symbols=genes, ensembl=("",) * len(genes),
        values=PredictedArrays(mean=mean, std=std, q05=mean - std, q95=mean + std * 2),
        domain_distance=rng.random(n_spots, dtype=np.float32) if domain else None,
        gene_table=pd.DataFrame(index=pd.Index(genes, name="symbol")), run=dict(record),
        thumbnail=np.asarray(Image.fromarray(draw_section()).reduce(5)), thumbnail_scale=0.2,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="session")
def slide_bytes() -> tuple[NDArray[np.uint8], bytes]:
    picture = draw_section()
    return picture, pyramid_bytes(picture)


@pytest.fixture
def make_run(slide_bytes: tuple[NDArray[np.uint8], bytes]) -> Callable[..., MadeRun]:
    """Make a run in any state, with the slide or another file, or of an upload that is there."""

    def make(
        state: str = "done", name: str = "case.tif", content: bytes | None = None,
        upload_id: str | None = None, mpp: float | None = None, **options: bool,
    ) -> MadeRun:  # fmt: skip
        if upload_id is None:
            upload_id = uploads.store_upload(content or slide_bytes[1], name).id
        folder = JobFolder(new_job_id())
        folder.make(
            JobRequest(upload_id, name, "m", mpp, "", "ddim", 2, 2, 0, "layout", None, None, None)
        )
        with open_slide(uploads.upload_path(upload_id), mpp=mpp) as slide:
            record = {
                "sha256": slide_content(slide),
                "fingerprint": slide.fingerprint(),
                "width_px": slide.width_px,
                "height_px": slide.height_px,
            }
        prediction = make_prediction(40, GENES, slide=record, **options)
        if state == "done":
            write_prediction(prediction, folder.result_dir)
        folder.write_progress(Progress(state, created_s=time.time()))  # type: ignore[arg-type]
        return MadeRun(folder, prediction, slide_bytes[0])

    return make


@pytest.fixture
def run(make_run: Callable[..., MadeRun]) -> MadeRun:
    return make_run()


@pytest.fixture
def client() -> TestClient:
    return TestClient(Starlette(routes=MAP_ROUTES))
