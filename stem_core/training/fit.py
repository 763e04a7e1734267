"""Fit a whole model on measured spots: regression mean, residual diffusion, calibration, domain.

Everything is learned from the spots it is given, so a fold that leaves a section out leaks nothing
of it. Residuals are out-of-fold (each training section predicted by a mean fitted on the others):
in-sample residuals are far too small, and draws made from them too sure of themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stem_core.diffusion.conditional_mean import ConditionalMean
from stem_core.diffusion.denoiser import Denoiser
from stem_core.diffusion.schedule import Schedule
from stem_core.errors import SettingsError, TrainingError
from stem_core.evaluation.metrics import crps, evaluate_arrays
from stem_core.model.stem_model import Bands, DomainReference, Generator
from stem_core.prediction.sampling import draw_targets
from stem_core.prediction.settings import SamplingSettings
from stem_core.training.batches import TrainingPairs
from stem_core.training.calibration import (
    calibrate_bands,
    domain_reference,
    match_variance,
    whiten,
    within_sections,
)
from stem_core.training.conditional_mean import (
    RegressionTraining,
    TrainingSection,
    fit_conditional_mean,
)
from stem_core.training.fit_settings import FitSettings, denoiser_size, require_components
from stem_core.training.random_state import random_state_kept
from stem_core.training.trainer import TrainingRun, Validate, train_denoiser

__all__ = ["FitSettings", "TrainedModel", "evenly", "fit", "watch_sections"]

_CALIBRATION_SPOTS = 2000  # of the published target, whose draws are costly
Array = NDArray[np.float32]


@dataclass(frozen=True)
class TrainedModel:
    """What `fit` learned; `schedule` is the one the denoiser was trained on."""

    generator: Generator
    schedule: Schedule
    bands: Bands
    domain: DomainReference


def _out_of_fold(
    sections: Sequence[TrainingSection], groups: Mapping[str, slice], settings: RegressionTraining
) -> tuple[Array, Array]:
    """Predict each section by a mean fitted on the others, (N,G), with its doubts, (S,)."""
    parts, doubts = [], []
    for held_out in sections:
        others = [s for s in sections if s is not held_out]
        mean = fit_conditional_mean(others, groups, settings)
        level = mean.slide_level(torch.from_numpy(held_out.lattice))
        parts.append(mean(torch.from_numpy(held_out.condition), level.shift).numpy())
        doubts.append(level.doubt)
    return np.concatenate(parts), np.array(doubts, np.float32)


@torch.no_grad()
def _set_inputs(generator: Generator, condition: Array, width: int | None) -> None:
    """Whitened principal components of the standardised condition, or nothing."""
    if generator.inputs is None:
        return
    z = generator.inputs.fit(condition, np.arange(condition.shape[1]))
    _, s, v = torch.linalg.svd(z - z.mean(0), full_matrices=False)
    scale = s[:width] / np.sqrt(len(condition))
    generator.projection.copy_(v[:width].T / scale)


def _new_generator(
    condition: Array, genes: int, mean: ConditionalMean | None, settings: FitSettings
) -> Generator:
    """Untrained: for residuals around `mean`, or as published where there is none."""
    torch.manual_seed(settings.denoiser.seed)
    size = denoiser_size(settings, genes, condition.shape[1])
    generator = Generator(
        Denoiser(size),
        mean,
        condition_width=condition.shape[1],
        projected_width=settings.projected_width,
    )
    _set_inputs(generator, condition, settings.projected_width)
    return generator


def _labels(generator: Generator, sections: Sequence[TrainingSection]) -> Array:
    """Make what the denoiser is conditioned on: (N,P), or (V,N,P) where there are views."""
    if any(s.views is None for s in sections):
        condition = np.concatenate([s.condition for s in sections])
        out: Array = generator.label(torch.from_numpy(condition)).numpy()
        return out
    views = np.concatenate([s.views for s in sections if s.views is not None], axis=1)
    return np.stack([generator.label(torch.from_numpy(view)).numpy() for view in views])


def _draw(
    generator: Generator,
    schedule: Schedule,
    label: Tensor,
    relative: Tensor | None,
    ids: Sequence[str],
    how: SamplingSettings,
    device: torch.device,
) -> Tensor:
    """Draw from the denoiser on a device, (N,K,G) on the CPU."""
    relative = None if relative is None else relative.to(device)
    drawn = draw_targets(
        generator.denoiser.to(device), schedule, label.to(device), relative, ids, how
    ).cpu()
    generator.denoiser.cpu()
    return drawn


def _fit_published(
    sections: Sequence[TrainingSection],
    own_width: int,
    settings: FitSettings,
    run: TrainingRun,
    validation: Sequence[TrainingSection],
) -> TrainedModel:
    """Diffuse expression itself and predict noise, as published.

    The band is calibrated on training spots, so it is too narrow on new ones.
    """
    condition, target, section = _together(sections)
    generator = _new_generator(condition, target.shape[1], None, settings)
    schedule, device = Schedule(), run.ranks.device
    generator.denoiser = train_denoiser(
        generator.denoiser,
        schedule,
        TrainingPairs(target, _labels(generator, sections)),
        settings.denoiser,
        run,
        watch_sections(generator, schedule, validation, settings.calibration, device),
    )
    chosen = evenly(len(target), _CALIBRATION_SPOTS)
    ids = [f"{section[i]}/{i}" for i in chosen]
    label = generator.label(torch.from_numpy(condition[chosen]))
    draws = _draw(generator, schedule, label, None, ids, settings.calibration, device).numpy()
    bands = calibrate_bands(draws, target[chosen], section[chosen], None, settings.calibration)
    domain = domain_reference(condition[:, :own_width], section, settings.domain_components)
    return TrainedModel(generator.eval().requires_grad_(False), schedule, bands, domain)


def _together(sections: Sequence[TrainingSection]) -> tuple[Array, Array, NDArray[np.int64]]:
    """Condition (N,C), target (N,G) and section (N,) of all spots."""
    condition = np.concatenate([s.condition for s in sections])
    target = np.concatenate([s.target for s in sections])
    section = np.repeat(np.arange(len(sections)), [len(s.target) for s in sections])
    return condition, target, section


@random_state_kept()
def fit(
    sections: Sequence[TrainingSection],
    groups: Mapping[str, slice],
    own_width: int,
    settings: FitSettings,
    run: TrainingRun | None = None,
    validation: Sequence[TrainingSection] = (),
) -> TrainedModel:
    """Fit on measured sections.

    Parameters
    ----------
    sections
        At least 2, since residuals come from sections left out; 1 for the published target.
    groups
        Columns of the condition by meaning.
    own_width
        Width of the own-patch embedding, the first columns of the condition.
    settings, run
        What to do, and where the denoiser is trained.
    validation
        Sections that are watched while the denoiser learns, and teach it nothing.

    Raises
    ------
    SettingsError
        There are too few sections, or too few spots for `projected_width`.
    TrainingError
        The memory does not suffice.
    StemError
        As `train_denoiser`.
    """
    if len(sections) < (2 if settings.target == "residual" else 1):
        msg = (
            f"There are {len(sections)} sections to train on; a residual target needs 2 at least, "
            "the published one 1."
        )
        raise SettingsError(msg)
    spots = sum(len(s.condition) for s in sections)
    require_components(settings, sections[0].condition.shape[1], spots)
    run = TrainingRun() if run is None else run
    try:
        if settings.target == "published":
            return _fit_published(sections, own_width, settings, run, validation)
        return _fit_residual(sections, groups, own_width, settings, run, validation)
    except torch.OutOfMemoryError as error:
        msg = (
            "The memory of the GPU does not suffice for this training; work through each batch in "
            f"more parts (training.denoiser.accumulate, now {settings.denoiser.accumulate}) and go "
            "on with --resume, or choose a smaller training.denoiser.batch."
        )
        raise TrainingError(msg) from error


def _fit_residual(
    sections: Sequence[TrainingSection],
    groups: Mapping[str, slice],
    own_width: int,
    settings: FitSettings,
    run: TrainingRun,
    validation: Sequence[TrainingSection],
) -> TrainedModel:
    """Diffuse the residual around a regression mean."""
    condition, target, section = _together(sections)
    inner = replace(settings.mean, networks=settings.inner_networks)
    expected, doubts = _out_of_fold(sections, groups, inner)
    residual = target - expected
    # Level shifts between sections belong into the band, not into single draws, which are to vary
    # as tissue does.
    within = within_sections(residual, section)
    mean: ConditionalMean = fit_conditional_mean(sections, groups, settings.mean)
    generator = _new_generator(condition, target.shape[1], mean, settings)
    root, white = whiten(within)
    generator.residual_root.copy_(torch.from_numpy(root))
    generator.gene_offset.copy_(torch.from_numpy(expected.mean(0)))
    generator.gene_scale.copy_(torch.from_numpy(expected.std(0) + 1e-3))
    schedule, device = Schedule(), run.ranks.device
    relative = generator.relative_mean(torch.from_numpy(expected))
    assert relative is not None
    generator.denoiser = train_denoiser(
        generator.denoiser,
        schedule,
        TrainingPairs(white, _labels(generator, sections), relative.numpy()),
        settings.denoiser,
        run,
        watch_sections(generator, schedule, validation, settings.calibration, device),
    )
    ids = [f"{s}/{i}" for i, s in enumerate(section)]
    label = generator.label(torch.from_numpy(condition))
    drawn = _draw(generator, schedule, label, relative, ids, settings.calibration, device)
    draws = generator.residual(drawn).numpy()
    factor = match_variance(draws, expected, target, section)
    generator.residual_root *= torch.from_numpy(factor)[:, None]
    bands = calibrate_bands(draws * factor, residual, section, doubts, settings.calibration)
    domain = domain_reference(condition[:, :own_width], section, settings.domain_components)
    return TrainedModel(generator.eval().requires_grad_(False), schedule, bands, domain)


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
