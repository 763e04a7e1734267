"""What a fold gives to its evaluation: predictions of a section that the model has not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from stem_core.diffusion.schedule import Schedule
from stem_core.evaluation.baseline_choice import choose_baselines
from stem_core.evaluation.baselines import BASELINES, predict_baseline, rank_genes
from stem_core.evaluation.records import EvaluationInput
from stem_core.model.stem_model import Bands, Generator
from stem_core.prediction.sampling import draw_expression, spread
from stem_core.prediction.settings import SamplingSettings

__all__ = ["DRAWS", "fold_input"]

Array = NDArray[np.float32]

DRAWS = 20  # independent draws of each spot: as many as the publication takes


@torch.inference_mode()
def fold_input(
    section: str,
    symbols: Sequence[str],
    spot_ids: Sequence[str],
    x_um: NDArray[np.float64],
    y_um: NDArray[np.float64],
    condition: Array,
    lattice: Array,
    measured: Array,
    generator: Generator,
    schedule: Schedule,
    bands: Bands,
    settings: SamplingSettings,
    training_conditions: Sequence[Array],
    training_targets: Sequence[Array],
    training_positions: Sequence[NDArray[np.float64]],
    *,
    trained_on: Mapping[str, str],
    patient: str = "",
    protocol: Literal["strict", "paper", ""] = "strict",
    draws: int = DRAWS,
) -> EvaluationInput:
    """Predict a held-out section by the fold's model and by every baseline.

    Parameters
    ----------
    section, patient, trained_on, protocol
        As in `EvaluationInput`.
    symbols
        The panel, G genes.
    spot_ids
        Names of the N spots, which decide the noise.
    x_um, y_um
        (N,).
    condition, lattice
        Of the held-out section: of its spots (N,C), and all over its tissue (M,C).
    measured
        (N,G), log2(1 + count).
    generator, schedule, bands
        What the fold learned; it predicts on the device that the generator is on.
    settings
        Of the prediction itself: the model's standard preset.
    training_conditions, training_targets, training_positions
        (n,C), (n,G) and (n,2) of each training section; baselines learn from the same condition.
    draws
        Independent single draws of each spot, besides the preset's own: for what single draws are
        judged by (CRPS, calibration, variance, pattern).
    """
    device = next(generator.parameters()).device
    given = torch.from_numpy(condition).to(device)
    level = generator.slide_level(torch.from_numpy(lattice).to(device))
    mean = generator.regression_mean(given, level)

    def draw(how: SamplingSettings) -> Array:
        out: Array = draw_expression(generator, schedule, given, mean, spot_ids, how).cpu().numpy()
        return out

    samples = draw(settings)
    predicted, std = samples.mean(1), spread(samples, settings)
    low, high = bands.around(predicted, std, level.doubt)
    # Opposite noises of one index would make pairs too different, so one of each pair is taken.
    step = 2 if settings.paired else 1
    single = draw(
        SamplingSettings(settings.sampler, settings.steps, step * draws, settings.seed + 1)
    )[:, ::step]
    seen, target = np.concatenate(training_conditions), np.concatenate(training_targets)
    chosen = choose_baselines(training_conditions, training_targets, training_positions)
    return EvaluationInput(
        section=section,
        symbols=tuple(symbols),
        x_um=x_um,
        y_um=y_um,
        measured=measured,
        predicted=predicted.clip(0),
        samples=single.clip(0),
        band=(low, high),  # not cut off at 0: the calibration curve scales it
        baselines={
            name: predict_baseline(name, seen, target, condition, chosen.settings).clip(0)
            for name in BASELINES
        },
        spreads=chosen.spreads,
        baseline_settings=chosen.by_name,
        baselines_chosen=chosen.how,
        patient=patient,
        trained_on=dict(trained_on),
        protocol=protocol,
        ranked_genes=rank_genes(
            training_conditions, training_targets, symbols, chosen.settings.ridge_penalty
        ),
    )
