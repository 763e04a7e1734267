"""From a slide and its spots to a prediction, in pieces that can be interrupted and resumed."""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stem_core.constants import NOTICE, UNITS
from stem_core.diffusion.conditional_mean import SlideLevel
from stem_core.diffusion.precision import choose_precision, in_precision
from stem_core.encoders.condition import SlideSurvey, spot_condition, survey_condition, survey_slide
from stem_core.errors import Cancelled, SettingsError
from stem_core.model.stem_model import StemModel, normal_band
from stem_core.prediction.draws import Draws
from stem_core.prediction.result import Prediction
from stem_core.prediction.sampling import draw_expression, spread
from stem_core.prediction.settings import SamplingSettings
from stem_core.prediction.values import PredictedArrays
from stem_core.slides.content import slide_content
from stem_core.slides.reading import Slide
from stem_core.slides.spots import Spots
from stem_core.slides.tissue import TissueMask, find_tissue

__all__ = [
    "Predictor",
    "Progress",
    "choose_device",
]

_THUMBNAIL_PX = 2000


@dataclass(frozen=True)
class Progress:
    """How far a prediction is: `done` of `total` `unit`s of a stage.

    Stages are `survey`, `predict` and `write`.
    """

    stage: str
    done: int
    total: int
    unit: str


def choose_device(name: str) -> torch.device:
    """`auto` takes CUDA where there is one.

    Raises
    ------
    SettingsError
        The name is unknown, or CUDA was asked for and there is none.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", name):
        msg = f"There is no device '{name}'; choose auto, cpu, cuda or cuda:N."
        raise SettingsError(msg)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name.startswith("cuda") and not count:
        msg = "This machine has no CUDA device that PyTorch can use; choose cpu or auto."
        raise SettingsError(msg)
    if ":" in name and int(name.split(":")[1]) >= count:
        msg = f"This machine has no device {name}: its CUDA devices are 0 to {count - 1}."
        raise SettingsError(msg)
    if name == "auto":
        name = "cuda" if count else "cpu"
    return torch.device(name)


class Predictor:
    """A model on a device.

    Parameters
    ----------
    model
        From `zoo.loader.load_model`.
    device
        `auto`, `cpu`, `cuda` or `cuda:N`.
    precision
        Of the denoiser: `auto` (see `choose_precision`), `fp32` or `bf16`. All else is in fp32.

    Raises
    ------
    SettingsError
        The device or the precision cannot be had.
    """

    def __init__(self, model: StemModel, device: str = "auto", precision: str = "auto") -> None:
        self.model = model
        self.device = choose_device(device)
        self._generator = model.generator.to(self.device).eval()
        denoiser = self._generator.denoiser
        self.precision = choose_precision(denoiser.config, self.device, precision)
        self._denoiser = in_precision(denoiser, self.precision)
        model.encoder.to(self.device)

    def __repr__(self) -> str:
        return f"Predictor({self.model!r}, {self.device}, {self.precision})"

    def survey(
        self, slide: Slide, tissue: TissueMask, progress: Callable[[int, int], None] | None = None
    ) -> SlideSurvey:
        """Look over the slide's tissue once; every spot's context comes from it."""
        return survey_slide(
            slide, tissue, self.model.encoder, self.model.manifest.condition, progress
        )

    def condition(self, slide: Slide, spots: Spots, survey: SlideSurvey) -> NDArray[np.float32]:
        """Make the condition of spots, (n,C); each spot alone, so any chunking gives the same."""
        return spot_condition(
            slide, spots, survey, self.model.encoder, self.model.manifest.condition
        )

    @torch.inference_mode()
    def slide_level(self, survey: SlideSurvey) -> SlideLevel:
        """Judge the slide's level of expression from its whole tissue, once per slide."""
        lattice = torch.from_numpy(survey_condition(survey, self.model.manifest.condition)).to(
            self.device
        )
        return self._generator.slide_level(lattice)

    @torch.inference_mode()
    def samples(
        self,
        condition: NDArray[np.float32],
        level: SlideLevel,
        spot_ids: Sequence[str],
        settings: SamplingSettings,
    ) -> NDArray[np.float32]:
        """Single draws.

        Parameters
        ----------
        condition
            (n,C).
        level
            Of the slide, from `slide_level`.
        spot_ids
            n names; with the seed and the sample's index they alone decide the noise.
        settings
            See `SamplingSettings`.

        Returns
        -------
        float32 array, shape (n,K,G)
            log2(1 + count), not clipped at 0.
        """
        given = torch.from_numpy(condition).to(self.device)
        mean = self._generator.regression_mean(given, level)
        drawn = draw_expression(
            self._generator,
            self.model.schedule,
            given,
            mean,
            spot_ids,
            settings,
            denoiser=self._denoiser,
        )
        out: NDArray[np.float32] = drawn.cpu().numpy()
        return out

    def draw(
        self,
        condition: NDArray[np.float32],
        level: SlideLevel,
        spot_ids: Sequence[str],
        settings: SamplingSettings,
        *,
        keep: Sequence[int] = (),
    ) -> Draws:
        """Draw K samples of each spot and sum them up.

        Each spot alone, so any chunking gives the same. The mean is never below 0, since counts are
        not.

        Parameters
        ----------
        condition, level, spot_ids, settings
            As in `samples`.
        keep
            Numbers of draws, from 0, to keep one by one (`singles_to_keep`).
        """
        samples = self.samples(condition, level, spot_ids, settings)
        mean = samples.mean(1)
        std = spread(samples, settings)
        if self.model.bands is None:
            q05, q95 = normal_band(mean, std)
        else:
            q05, q95 = self.model.bands.around(mean, std, level.doubt)
        domain, width = self.model.domain, self.model.encoder.width
        ridge = self.model.ridge
        return Draws(
            mean=mean.clip(0),
            std=std,
            q05=q05.clip(0),
            q95=q95.clip(0),
            domain_distance=None if domain is None else domain.distance(condition[:, :width]),
            singles=samples[:, list(keep)].astype(np.float16) if keep else None,
            baseline=None if ridge is None else ridge.predict(condition).astype(np.float16),
        )

    def predict(
        self,
        slide: Slide,
        spots: Spots,
        settings: SamplingSettings,
        *,
        tissue: TissueMask | None = None,
        progress: Callable[[Progress], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
        chunk: int = 64,
    ) -> Prediction:
        """Do the whole journey.

        Raises
        ------
        Cancelled
            `should_stop` said so; it is asked between chunks of `chunk` spots.
        """
        started = time.monotonic()

        def report(stage: str, done: int, total: int, unit: str) -> None:
            if should_stop is not None and should_stop():
                msg = "The prediction was stopped."
                raise Cancelled(msg)
            if progress is not None:
                progress(Progress(stage, done, total, unit))

        report("survey", 0, 0, "patches")
        mask = find_tissue(slide) if tissue is None else tissue
        survey = self.survey(
            slide, mask, lambda done, total: report("survey", done, total, "patches")
        )
        level = self.slide_level(survey)
        parts = []
        for start in range(0, len(spots), chunk):
            report("predict", start, len(spots), "spots")
            part = spots.take(slice(start, start + chunk))
            condition = self.condition(slide, part, survey)
            parts.append(self.draw(condition, level, part.ids, settings))
        report("predict", len(spots), len(spots), "spots")
        report("write", 0, 1, "files")
        return self.finish(
            slide, spots, Draws.join(parts), settings, elapsed_s=time.monotonic() - started
        )

    def finish(
        self,
        slide: Slide,
        spots: Spots,
        draws: Draws,
        settings: SamplingSettings,
        *,
        elapsed_s: float,
        command: str = "",
    ) -> Prediction:
        """Put the draws of all spots together with the run record and a picture of the slide."""
        model = self.model
        thumbnail = slide.thumbnail(_THUMBNAIL_PX)
        return Prediction(
            slide_name=slide.path.name,
            spots=spots,
            mpp=slide.require_mpp(),
            symbols=model.symbols,
            ensembl=model.ensembl,
            values=PredictedArrays(
                draws.mean,
                draws.std,
                draws.q05,
                draws.q95,
                None if draws.baseline is None else draws.baseline.astype(np.float32).clip(0),
            ),
            domain_distance=draws.domain_distance,
            gene_table=model.genes,
            run=self._record(slide, spots, settings, elapsed_s, command),
            thumbnail=thumbnail,
            thumbnail_scale=thumbnail.shape[1] / slide.width_px,
        )

    def _record(
        self, slide: Slide, spots: Spots, settings: SamplingSettings, elapsed_s: float, command: str
    ) -> dict[str, Any]:
        return {
            "notice": NOTICE,
            "program": {"name": "stem-in-a-browser", "version": _installed("stem-in-a-browser")},
            "model": dict(self.model.identity),
            "units": UNITS,
            "sampler": settings.sampler,
            "spacing": settings.timestep_spacing,
            "precision": self.precision,
            "steps": settings.steps,
            "samples": settings.samples,
            "seed": settings.seed,
            "band": "normal approximation" if self.model.bands is None else "calibrated",
            "slide": {
                "sha256": slide_content(slide),
                "fingerprint": slide.fingerprint(),
                "width_px": slide.width_px,
                "height_px": slide.height_px,
                "mpp": slide.require_mpp(),
                "mpp_source": slide.mpp_source,
            },
            "spots": {
                "n": len(spots),
                "source": spots.source,
                "diameter_um": spots.diameter_um,
                "pitch_um": spots.pitch_um,
            },
            "patch": {
                "side_um": self.model.manifest.condition.side_um,
                "size_px": self.model.manifest.condition.size_px,
                "mode": self.model.manifest.condition.patch_mode,
            },
            "device": self.device.type,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "elapsed_s": round(elapsed_s, 2),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": command,
        }


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
