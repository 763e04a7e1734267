"""How long a run will take on this machine: measured once a model by the worker, read by pages.

A probe of about a second per model times what a run is made of: a patch through the encoder, a spot
through the regression mean, and one sample through one evaluation of the denoiser.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from app import paths
from stem_core.files import folder_state, write_atomically
from stem_core.model.manifest import Manifest

if TYPE_CHECKING:
    from stem_core.prediction.predictor import Predictor

__all__ = ["ModelSpeed", "expected_s", "measure_all", "measure_model", "read_speed"]

LOG = logging.getLogger("app.jobs.speed")

_PATCHES, _SPOTS, _TRIES = 32, 64, 3
_START_S = 3.0  # opening the slide, finding its tissue, writing the files
_MOST_SURVEYED = 20_000


@dataclass(frozen=True)
class ModelSpeed:
    """Seconds of a patch, a spot's regression, and one evaluation of one sample."""

    patch_s: float
    spot_s: float
    evaluation_s: float
    precision: str


def measure_model(predictor: Predictor) -> ModelSpeed:
    """Time the parts of a run."""
    import numpy as np
    import torch

    from stem_core.diffusion.precision import time_evaluation

    model = predictor.model
    random = np.random.default_rng(0)
    side = model.manifest.condition.size_px
    patches = random.integers(0, 255, (_PATCHES, 3, side, side), dtype=np.uint8)
    condition = torch.zeros(_SPOTS, model.generator.condition_width, device=predictor.device)

    def best_s(work: object) -> float:
        assert callable(work)
        times = []
        for _ in range(_TRIES):
            started = time.perf_counter()
            work()
            times.append(time.perf_counter() - started)
        return min(times)

    with torch.inference_mode():
        level = model.generator.slide_level(condition)
        return ModelSpeed(
            best_s(lambda: model.encoder.encode(patches)) / _PATCHES,
            best_s(lambda: model.generator.regression_mean(condition, level)) / _SPOTS,
            time_evaluation(model.generator.denoiser.config, predictor.device, predictor.precision),
            predictor.precision,
        )


def measure_all() -> None:
    """Time the installed models that are new or changed, and write all figures down.

    What fails is left out.
    """
    from stem_core.errors import StemError
    from stem_core.prediction.predictor import Predictor
    from zoo.loader import load_model
    from zoo.registry import list_models

    before = _read_all()
    found: dict[str, object] = {}
    for entry in list_models():
        try:
            state = folder_state(entry.folder)
            known = before.get(entry.name)
            if isinstance(known, dict) and known.get("state") == state:
                found[entry.name] = known
                continue
            speed = measure_model(Predictor(load_model(entry.folder)))
            found[entry.name] = {"state": state, "speed": asdict(speed)}
        except (StemError, OSError, RuntimeError):
            LOG.warning("the speed of %s could not be measured", entry.name, exc_info=True)
    try:
        write_atomically(paths.speed_file(), json.dumps(found, allow_nan=False))
    except StemError:
        LOG.warning("the speed of the models could not be written")


def read_speed(model: str) -> ModelSpeed | None:
    """Read what was measured; None where nothing was."""
    try:
        return ModelSpeed(**_read_all()[model]["speed"])
    except (KeyError, TypeError):
        return None


def _read_all() -> dict[str, Any]:
    try:
        found = json.loads(paths.speed_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def expected_s(
    speed: ModelSpeed,
    manifest: Manifest,
    *,
    sampler: str,
    steps: int,
    samples: int,
    n_spots: int,
    tissue_um2: float,
) -> float:
    """Estimate the seconds of a run.

    Parameters
    ----------
    speed
        Of the model, here.
    manifest
        Of the model.
    sampler, steps, samples
        Sampling settings.
    n_spots
        Spots to predict.
    tissue_um2
        Area of tissue, which is surveyed as well.
    """
    pitch_um = manifest.condition.survey_pitch_um
    surveyed = 0.0 if pitch_um is None else min(_MOST_SURVEYED, tissue_um2 / pitch_um**2)
    evaluations = steps * samples
    if manifest.denoiser.symmetric and sampler == "ancestral":
        evaluations *= 2  # unpaired draws need their mirror images computed
    per_spot = speed.patch_s + speed.spot_s + evaluations * speed.evaluation_s
    return _START_S + surveyed * speed.patch_s + n_spots * per_spot
