"""Fit a whole model on measured spots: regression mean, residual diffusion, calibration, domain.

Everything is learned from the spots it is given, so a fold that leaves a section out leaks nothing
of it. Residuals are out-of-fold (each training section predicted by a mean fitted on the others):
in-sample residuals are far too small, and draws made from them too sure of themselves.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from stem_core.diffusion.conditional_mean import ConditionalMean
from stem_core.diffusion.denoiser import Denoiser, DenoiserSize
from stem_core.diffusion.schedule import Schedule
from stem_core.errors import SettingsError
from stem_core.prediction.model import Bands, DomainReference, Generator
from stem_core.prediction.sampling import draw_targets, spread
from stem_core.prediction.settings import SamplingSettings
from stem_core.training.conditional_mean import (
    MeanTraining,
    TrainingSection,
    fit_conditional_mean,
)
from stem_core.training.settings import STRICT, DenoiserTraining
from stem_core.training.trainer import train_denoiser

__all__ = ["FitSettings", "Fitted", "fit"]

log = logging.getLogger(__name__)
Array = NDArray[np.float32]


@dataclass(frozen=True)
class FitSettings:
    """Arguments of `fit`.

    Attributes
    ----------
    target
        What is diffused: the residual around a regression mean, or expression itself.
    mean, denoiser
        Of the two training steps.
    inner_networks
        Networks per ensemble where training sections are left out in turn for their residuals.
    depth, width, heads
        Of the denoiser.
    projected_width
        Principal components of the condition the denoiser sees; None: the condition as it is, as
        published.
    domain_components
        Principal components of the own-patch embedding for the domain distance.
    calibration
        How draws are made that the band is calibrated on: as in the standard preset.
    """

    target: Literal["residual", "published"] = "residual"
    mean: MeanTraining = field(default_factory=MeanTraining)
    denoiser: DenoiserTraining = field(default_factory=DenoiserTraining)
    inner_networks: int = 2
    depth: int = 2
    width: int = 48
    heads: int = 2
    projected_width: int | None = 32
    domain_components: int = 24
    calibration: SamplingSettings = field(default_factory=lambda: SamplingSettings("angle", 4, 4))

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    def __post_init__(self) -> None:
        """Check the values."""
        if self.width % self.heads:
            msg = f"A width of {self.width} does not divide into {self.heads} attention heads."
            raise SettingsError(msg)
        if self.target == "residual" and self.projected_width is None:
            msg = "A residual target needs a projected_width; only the published one goes without."
            raise SettingsError(msg)


@dataclass(frozen=True)
class Fitted:
    """What `fit` learned; `schedule` is the one the denoiser was trained on."""

    generator: Generator
    schedule: Schedule
    bands: Bands
    domain: DomainReference


def _out_of_fold(
    sections: Sequence[TrainingSection], groups: Mapping[str, slice], settings: MeanTraining
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


def _within(values: Array, section: NDArray[np.int64]) -> Array:
    out = values.copy()
    for s in np.unique(section):
        out[section == s] -= values[section == s].mean(0)
    return out


def _whiten(residual: Array) -> tuple[Array, Array]:
    """Find the symmetric root of the residuals' covariance, (G,G), and the whitened residuals.

    The correlation is shrunk (Ledoit & Wolf 2004), since there are few more spots than genes. The
    symmetric root keeps every whitened variable as close to its own gene as can be.
    """
    from sklearn.covariance import ledoit_wolf

    std = residual.std(0) + 1e-3
    scaled = (residual / std).astype(np.float64)
    correlation, _ = ledoit_wolf(scaled, assume_centered=True)
    values, vectors = np.linalg.eigh(correlation)
    root = (vectors * np.sqrt(values)) @ vectors.T
    white = scaled @ ((vectors / np.sqrt(values)) @ vectors.T)
    return (std[:, None] * root).astype(np.float32), white.astype(np.float32)


@torch.no_grad()
def _set_inputs(generator: Generator, condition: Array, width: int) -> None:
    """Whitened principal components of the standardised condition."""
    assert generator.inputs is not None
    z = generator.inputs.fit(condition, np.arange(condition.shape[1]))
    _, s, v = torch.linalg.svd(z - z.mean(0), full_matrices=False)
    scale = s[:width] / np.sqrt(len(condition))
    generator.projection.copy_(v[:width].T / scale)


def _domain(embeddings: Array, section: NDArray[np.int64], components: int) -> DomainReference:
    mean, std = embeddings.mean(0), embeddings.std(0) + 1e-6
    _, s, v = np.linalg.svd((embeddings - mean) / std, full_matrices=False)
    projection = (v[:components].T / (s[:components] / np.sqrt(len(embeddings)))) / std[:, None]
    reference = DomainReference(mean, projection.astype(np.float32), 1.0)
    return replace(reference, unit=float(np.quantile(reference.distance(embeddings), 0.95)))


def _match_variance(
    draws: Array, expected: Array, target: Array, section: NDArray[np.int64]
) -> Array:
    """Per gene, the factor on residual draws that makes single draws vary as the tissue does.

    Over a section; the median over sections, drawn halfway to the median over genes.
    """
    factors = []
    for s in np.unique(section):
        here = section == s
        missing = target[here].var(0) - expected[here].var(0)
        drawn = draws[here].var(0).mean(0)
        factors.append(missing / np.maximum(drawn, 1e-6))
    squared = np.median(np.stack(factors), 0).clip(0.1, 3.0)
    shrunk = (0.5 * squared + 0.5 * np.median(squared)).clip(0.2, 2.5)
    out: Array = np.sqrt(shrunk).astype(np.float32)
    return out


def _calibrate(
    draws: Array,
    residual: Array,
    section: NDArray[np.int64],
    doubts: Array,
    settings: SamplingSettings,
) -> Bands:
    """Fit the band to the errors of sections left out: within them per gene, of their level once.

    A section's misjudged level is one error, not one a spot, so it is kept apart.
    """
    error = residual - draws.mean(1)
    std = spread(draws, settings)
    typical = np.sqrt((std**2).mean(0))
    relative = _within(error, section) / np.sqrt((std**2 + typical**2) / 2)
    low, high = np.quantile(relative, (0.05, 0.95), axis=0)
    per_doubt = [
        (error[section == s].mean(0) ** 2).mean() / max(doubt, 1e-3) ** 2
        for s, doubt in enumerate(doubts)
    ]
    return Bands(
        typical.astype(np.float32),
        (-low).clip(0).astype(np.float32),
        high.clip(0).astype(np.float32),
        float(np.sqrt(np.mean(per_doubt))),
    )


def _new_generator(
    condition: Array, genes: int, mean: ConditionalMean | None, settings: FitSettings
) -> Generator:
    """Untrained: for residuals around `mean`, or as published where there is none."""
    torch.manual_seed(settings.denoiser.seed)
    residual = mean is not None
    size = DenoiserSize(
        genes=genes,
        condition_width=settings.projected_width,
        depth=settings.depth,
        width=settings.width,
        heads=settings.heads,
        gene_inputs=2 if residual else 1,
        predicts="velocity" if residual else "noise",
        symmetric=residual,
        label_width=settings.width if residual else None,
    )
    generator = Generator(
        Denoiser(size),
        mean,
        condition_width=condition.shape[1],
        projected_width=settings.projected_width,
    )
    _set_inputs(generator, condition, settings.projected_width)
    return generator


def _fit_published(
    condition: Array,
    target: Array,
    section: NDArray[np.int64],
    own_width: int,
    settings: FitSettings,
) -> Fitted:
    """Diffuse expression itself and predict noise, as published.

    The band is calibrated on the training spots, so it is too narrow on new ones.
    """
    generator = _new_generator(condition, target.shape[1], None, settings)
    schedule, label = Schedule(), generator.label(torch.from_numpy(condition))
    generator.denoiser = train_denoiser(
        generator.denoiser, schedule, target, label.numpy(), None, settings.denoiser
    )
    ids = [f"{s}/{i}" for i, s in enumerate(section)]
    draws = draw_targets(
        generator.denoiser, schedule, label, None, ids, settings.calibration
    ).numpy()
    no_doubt = np.full(int(section.max()) + 1, np.inf, np.float32)
    bands = _calibrate(draws, target, section, no_doubt, settings.calibration)
    domain = _domain(condition[:, :own_width], section, settings.domain_components)
    return Fitted(generator.eval().requires_grad_(False), schedule, bands, domain)


def fit(
    sections: Sequence[TrainingSection],
    groups: Mapping[str, slice],
    own_width: int,
    settings: FitSettings,
) -> Fitted:
    """Fit on measured sections.

    Parameters
    ----------
    sections
        At least 2, since residuals come from sections left out.
    groups
        Columns of the condition by meaning.
    own_width
        Width of the own-patch embedding, the first columns of the condition.
    settings
        See `FitSettings`.
    """
    condition = np.concatenate([s.condition for s in sections])
    target = np.concatenate([s.target for s in sections])
    section = np.repeat(np.arange(len(sections)), [len(s.target) for s in sections])
    if settings.target == "published":
        return _fit_published(condition, target, section, own_width, settings)
    inner = replace(settings.mean, networks=settings.inner_networks)
    expected, doubts = _out_of_fold(sections, groups, inner)
    residual = target - expected
    # Level shifts between sections belong into the band, not into single draws, which are to vary
    # as tissue does.
    within = _within(residual, section)
    mean: ConditionalMean = fit_conditional_mean(sections, groups, settings.mean)
    generator = _new_generator(condition, target.shape[1], mean, settings)
    root, white = _whiten(within)
    generator.residual_root.copy_(torch.from_numpy(root))
    generator.gene_offset.copy_(torch.from_numpy(expected.mean(0)))
    generator.gene_scale.copy_(torch.from_numpy(expected.std(0) + 1e-3))
    schedule = Schedule()
    label = generator.label(torch.from_numpy(condition)).numpy()
    relative = generator.relative_mean(torch.from_numpy(expected))
    assert relative is not None
    generator.denoiser = train_denoiser(
        generator.denoiser, schedule, white, label, relative.numpy(), settings.denoiser
    )
    ids = [f"{s}/{i}" for i, s in enumerate(section)]
    drawn = draw_targets(
        generator.denoiser, schedule, torch.from_numpy(label), relative, ids, settings.calibration
    )
    draws = generator.residual(drawn).numpy()
    factor = _match_variance(draws, expected, target, section)
    generator.residual_root *= torch.from_numpy(factor)[:, None]
    bands = _calibrate(draws * factor, residual, section, doubts, settings.calibration)
    domain = _domain(condition[:, :own_width], section, settings.domain_components)
    return Fitted(generator.eval().requires_grad_(False), schedule, bands, domain)
