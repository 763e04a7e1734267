"""Finished runs for a running app, written as its worker would: nothing is predicted."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from stem_core.slides.content import slide_content
from tests.app.maps.conftest import draw_section, make_prediction, pyramid_bytes

SPOTS = 300
GENES = 12


def make_runs(home: Path, model: str, count: int = 1) -> list[str]:
    """Write `count` finished runs of one made slide into an app's home; their ids."""
    from app import uploads
    from app.jobs.folder import JobFolder, Progress
    from app.jobs.model import JobRequest, new_job_id
    from stem_core.prediction.export import write_prediction
    from stem_core.slides.reading import open_slide
    from zoo.registry import find_model

    ids = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEM_HOME", str(home))
        upload = uploads.store_upload(pyramid_bytes(draw_section()), "case.tif")
        with open_slide(uploads.upload_path(upload.id)) as slide:
            facts = {
                "sha256": slide_content(slide),
                "fingerprint": slide.fingerprint(),
                "width_px": slide.width_px,
                "height_px": slide.height_px,
            }
        genes = tuple(gene.symbol for gene in find_model(model).manifest.panel)[:GENES]
        prediction = make_prediction(SPOTS, genes, slide=facts, samples=4, model={"name": model})
        for seed in range(count):
            folder = JobFolder(new_job_id())
            folder.make(
                JobRequest(upload.id, "case.tif", model, None, "standard", "angle", 4, 4, seed,
                           "layout", None, None, None)
            )  # fmt: skip
            write_prediction(prediction, folder.result_dir)
            now = time.time()
            folder.write_progress(
                Progress("done", created_s=now, started_s=now, finished_s=now, n_spots=SPOTS)
            )
            ids.append(folder.id)
    return ids
