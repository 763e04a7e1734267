"""Look at validation sections while the denoiser learns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from stem_core.diffusion.denoiser import Denoiser
from stem_core.diffusion.schedule import Schedule
from stem_core.evaluation.metrics import crps, evaluate_arrays
from stem_core.model.stem_model import Generator
from stem_core.prediction.sampling import draw_targets
from stem_core.prediction.settings import SamplingSettings
from stem_core.training.conditional_mean import TrainingSection
from stem_core.training.trainer import Validate

__all__ = ["evenly", "watch_sections"]

_WATCHED_SPOTS = 500  # of a section


def watch_sections(
    generator: Generator,
    schedule: Schedule,
    sections: Sequence[TrainingSection],
    preset: SamplingSettings,
    device: torch.device,
) -> Validate | None:
    """Make what looks at validation sections while the denoiser learns; None without any."""
    if not sections:
        return None
    labels, means, measured = [], [], []
    for s in sections:
        chosen = evenly(len(s.target), _WATCHED_SPOTS)
        condition = torch.from_numpy(s.condition[chosen])
        level = generator.slide_level(torch.from_numpy(s.lattice))
        labels.append(generator.label(condition))
        means.append(generator.regression_mean(condition, level))
        measured.append(s.target[chosen])
    label, mean, truth = torch.cat(labels), torch.cat(means), np.concatenate(measured)
    relative = generator.relative_mean(mean)
    # The mean is of all; for the score of single draws, of ± pairs the first of each.
    step = 2 if preset.paired else 1
    how = replace(preset, samples=step * max(2, preset.samples))
    ids = [f"watched/{i}" for i in range(len(truth))]

    def look(denoiser: Denoiser) -> dict[str, float]:
        given = None if relative is None else relative.to(device)
        drawn = draw_targets(denoiser.eval(), schedule, label.to(device), given, ids, how).cpu()
        draws = (mean[:, None] + generator.residual(drawn)).numpy()
        figures = evaluate_arrays(draws.mean(1).clip(0), truth)
        found = {name: value for name in ("pcc_all", "mse") if (value := figures[name]) is not None}
        return {**found, "crps": crps(draws[:, ::step].clip(0), truth)}

    return look


def evenly(count: int, most: int) -> NDArray[np.int64]:
    """Choose at most so many places, evenly."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)
