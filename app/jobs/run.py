"""One run, piece by piece: each piece leaves a file, so that a later worker can go on from there.

The pieces are plain functions of the run's folder; `app.jobs.workflow` puts them in order. What a
piece needs in memory (slide, model, survey) is loaded when it is first asked for, so a run that is
taken up again loads only what is still to do.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from app import paths, uploads
from app.jobs.draws_file import save_draws
from app.jobs.folder import JobFolder
from app.jobs.spots_file import choose_spots, load_spots, save_spots
from stem_core.diffusion.conditional_mean import SlideLevel
from stem_core.encoders.condition import SlideSurvey
from stem_core.errors import Cancelled, OutputError
from stem_core.files import atomic_write, folder_state
from stem_core.prediction.draws import Draws, singles_to_keep
from stem_core.prediction.export import write_prediction
from stem_core.prediction.predictor import Predictor
from stem_core.slides.reading import Slide, open_slide
from stem_core.slides.spots import Spots
from stem_core.slides.tissue import TissueMask, find_tissue
from zoo.loader import load_model
from zoo.registry import find_model

__all__ = ["CHUNK_SPOTS", "Run"]

CHUNK_SPOTS = 64
_LEAST_TO_START_BYTES = 200_000_000
_LEAST_TO_GO_ON_BYTES = 50_000_000
_STATUS_EVERY_S = 0.25
_PREVIEW_PX = 1024


class Run:
    """The work on one run in this process.

    Parameters
    ----------
    folder
        The run's folder.
    predictor_for
        Gives the predictor for a model name, device and precision (kept between runs by the
        worker).
    """

    def __init__(
        self, folder: JobFolder, predictor_for: Callable[[str, str, str], Predictor]
    ) -> None:
        self.folder = folder
        self.request = folder.read_request()
        self.progress = replace(folder.read_progress(), eta_s=None)
        self._predictor_for = predictor_for
        self._status_written_s = 0.0
        self._worked_until_s = time.monotonic()
        self._stage_from: tuple[str, float, int] = ("", 0.0, 0)

    # What the pieces need ---------------------------------------------------------------------

    @cached_property
    def slide(self) -> Slide:
        """The slide, opened once."""
        return open_slide(uploads.upload_path(self.request.upload_id), mpp=self.request.mpp)

    @cached_property
    def tissue(self) -> TissueMask:
        """Where there is tissue."""
        return find_tissue(self.slide)

    @cached_property
    def spots(self) -> Spots:
        """The spots as written by `prepare`."""
        return load_spots(self.folder.spots_file)

    @cached_property
    def survey(self) -> SlideSurvey:
        """The survey as written by `make_survey`."""
        return SlideSurvey.load(self.folder.survey_file)

    @cached_property
    def slide_level(self) -> SlideLevel:
        """The slide's level of expression, judged from the survey."""
        return self.predictor.slide_level(self.survey)

    @cached_property
    def predictor(self) -> Predictor:
        """The model on its device, in the precision the run began with.

        A worker that takes the run up might measure another one to be faster; all spots are to be
        predicted alike.
        """
        predictor = self._predictor_for(
            self.request.model, self.request.device, self.progress.precision or "auto"
        )
        if predictor.precision != self.progress.precision:
            self.write_progress(precision=predictor.precision)
        return predictor

    @cached_property
    def singles(self) -> tuple[int, ...]:
        """Numbers of the draws that are kept one by one."""
        genes = len(find_model(self.request.model).manifest.panel)
        return singles_to_keep(self.request.settings, len(self.spots), genes)

    # The pieces -------------------------------------------------------------------------------

    def prepare(self) -> int:
        """Open everything once, place the spots, and write them; return their number."""
        self.report("prepare", 0, 0, "")
        self._require_space(_LEAST_TO_START_BYTES)
        manifest = find_model(self.request.model).manifest
        self.slide.require_mpp()
        self.stop_if_asked()
        spots = choose_spots(self.request, manifest.layout, self.slide, self.tissue)
        genes = len(manifest.panel)
        # Single draws and baseline, in 2 bytes a value, lie in chunks and then in a file as well.
        kept = 1 + len(singles_to_keep(self.request.settings, len(spots), genes))
        self._require_space(_LEAST_TO_START_BYTES + 2 * 2 * kept * len(spots) * genes)
        save_spots(spots, self.folder.spots_file)
        self.progress = replace(self.progress, n_spots=len(spots))
        self.report("prepare", 1, 1, "", now=True)
        return len(spots)

    def make_preview(self) -> None:
        """Write a small picture of the slide for the pages."""
        target = self.folder.preview_file
        target.parent.mkdir(mode=paths.PRIVATE_MODE, exist_ok=True)
        picture = Image.fromarray(self.slide.thumbnail(_PREVIEW_PX))
        with atomic_write(target, only_writer=True) as temporary:
            picture.save(temporary, "JPEG", quality=85)

    def make_survey(self) -> None:
        """Look over the whole slide once."""
        self.report("survey", 0, 0, "patches", now=True)
        survey = self.predictor.survey(
            self.slide,
            self.tissue,
            lambda done, total: self.report("survey", done, total, "patches"),
        )
        self.stop_if_asked()
        with atomic_write(self.folder.survey_file, only_writer=True) as temporary:
            survey.save(temporary)

    def draw_chunk(self, index: int) -> None:
        """Predict the spots of one chunk; a chunk that is there and whole is left alone."""
        target = self.folder.chunk_file(index)
        spots = self.spots
        first = index * CHUNK_SPOTS
        last = min(first + CHUNK_SPOTS, len(spots))
        self.stop_if_asked()
        if self._load_chunk(index) is None:
            self._require_space(_LEAST_TO_GO_ON_BYTES)
            self.report("predict", first, len(spots), "spots")
            chunk = spots.take(np.arange(first, last))
            condition = self.predictor.condition(self.slide, chunk, self.survey)
            self.stop_if_asked()
            draws = self.predictor.draw(
                condition, self.slide_level, chunk.ids, self.request.settings, keep=self.singles
            )
            self.folder.chunks_dir.mkdir(mode=paths.PRIVATE_MODE, exist_ok=True)
            with atomic_write(target, only_writer=True) as temporary:
                draws.save(temporary)
        self.progress = replace(self.progress, attempts=0)
        self.report("predict", last, len(spots), "spots", now=True)

    def write_result(self) -> None:
        """Put the chunks together and write the files of the result."""
        chunks: list[Draws] = []
        for index in range(self.n_chunks):
            self.stop_if_asked()
            chunk = self._load_chunk(index)
            if chunk is None:  # lost or damaged since it was made
                self.draw_chunk(index)
                chunk = self._load_chunk(index)
            assert chunk is not None
            chunks.append(chunk)
        self.report("write", 0, 1, "files", now=True)
        draws = Draws.join(chunks)
        save_draws(draws, self.request.settings.samples, self.folder.draws_file)
        prediction = self.predictor.finish(
            self.slide,
            self.spots,
            draws,
            self.request.settings,
            elapsed_s=self.progress.worked_s,
        )
        prediction = replace(prediction, slide_name=self.request.slide_name)
        self.stop_if_asked()
        write_prediction(prediction, self.folder.result_dir, overwrite=True)
        shutil.rmtree(self.folder.chunks_dir, ignore_errors=True)

    @property
    def n_chunks(self) -> int:
        """The number of chunks the spots are cut into."""
        return -(-len(self.spots) // CHUNK_SPOTS)

    def close(self) -> None:
        """Let go of the slide."""
        slide = self.__dict__.pop("slide", None)
        if slide is not None:
            slide.close()

    # Progress and stopping --------------------------------------------------------------------

    def report(self, stage: str, done: int, total: int, unit: str, *, now: bool = False) -> None:
        """Write how far the run is, at most four times a second within a stage; stop if asked."""
        clock_s = time.monotonic()
        if stage != self._stage_from[0]:
            self._stage_from = (stage, clock_s, done)
            now = True
        worked_s = self.progress.worked_s + clock_s - self._worked_until_s
        self._worked_until_s = clock_s
        self.progress = replace(
            self.progress,
            stage=stage,
            done=done,
            total=total,
            unit=unit,
            worked_s=worked_s,
            eta_s=self._eta_s(clock_s, stage, done, total),
        )
        if now or clock_s - self._status_written_s >= _STATUS_EVERY_S:
            self.stop_if_asked()
            self.write_progress()
            self._status_written_s = clock_s

    def write_progress(self, **changes: Any) -> None:
        """Change fields of the status and write it."""
        self.progress = self.folder.write_progress(replace(self.progress, **changes))

    def stop_if_asked(self) -> None:
        """Raise Cancelled if the run was cancelled or deleted."""
        if self.folder.cancel_asked():
            msg = "The run was cancelled."
            raise Cancelled(msg)

    def _require_space(self, least_bytes: int) -> None:
        """Stop before the disk is full: neither status nor job database could be written then."""
        free_bytes = shutil.disk_usage(self.folder.path).free
        if free_bytes < least_bytes:
            msg = (
                f"Only {free_bytes / 1e6:.0f} MB are free in {paths.home()}, a run needs at least "
                f"{least_bytes / 1e6:.0f} MB; free space or delete runs, then start it again."
            )
            raise OutputError(msg)

    def _eta_s(self, clock_s: float, stage: str, done: int, total: int) -> float | None:
        """Return the time left at the pace of this worker; None until one chunk was predicted."""
        _, from_s, from_done = self._stage_from
        if stage != "predict":
            return None
        if done <= from_done:
            return self.progress.eta_s
        return (clock_s - from_s) / (done - from_done) * (total - done)

    def _load_chunk(self, index: int) -> Draws | None:
        path = self.folder.chunk_file(index)
        if not path.is_file():
            return None
        expected = min(CHUNK_SPOTS, len(self.spots) - index * CHUNK_SPOTS)
        try:
            draws = Draws.load(path)
            if draws.singles is None or draws.singles.shape[1] != len(self.singles):
                return None  # of a version that kept other draws
            return draws if len(draws.mean) == expected else None
        except Exception:  # noqa: BLE001 - a damaged file of any kind is computed again
            return None


def load_predictor(model: str, device: str, precision: str) -> Predictor:
    """Load an installed model onto a device; the last one is kept until its files change."""
    folder = find_model(model).folder
    return _load_predictor(folder, folder_state(folder), device, precision)


@lru_cache(maxsize=1)
def _load_predictor(folder: Path, state: str, device: str, precision: str) -> Predictor:
    """Load a model folder; `state` tells its versions apart."""
    return Predictor(load_model(folder), device, precision)
