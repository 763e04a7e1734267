"""How to sample, and drawing what the denoiser models; shared by prediction and calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stem_core.diffusion.denoiser import Denoiser
from stem_core.diffusion.noise import gaussian_noise
from stem_core.diffusion.parameterisation import estimate_noise
from stem_core.diffusion.samplers import SAMPLERS, antithetic, sample_ancestral, sample_ddim
from stem_core.diffusion.schedule import Schedule, spaced_timesteps
from stem_core.errors import SettingsError

__all__ = ["SamplingSettings", "draw_targets", "spread"]

_BATCH_SEQUENCES = 64  # spots × samples per pass: fits the caches of a small machine
_MAX_SAMPLES = 1000


@dataclass(frozen=True)
class SamplingSettings:
    """How to sample.

    Attributes
    ----------
    sampler
        One of `SAMPLERS`; `ddim` pairs every noise with its negative.
    steps
        Timesteps visited, 2 to T.
    samples
        Draws per spot, K.
    seed
        Of the noise, 0 to 2**63 - 1.

    Raises
    ------
    SettingsError
        A value is out of range.
    """

    sampler: str
    steps: int
    samples: int
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values."""
        if self.sampler not in SAMPLERS:
            msg = f"There is no sampler '{self.sampler}'; choose one of {', '.join(SAMPLERS)}."
            raise SettingsError(msg)
        for name, low, high in (
            ("number of steps", 2, 1000),
            ("number of samples", 1, _MAX_SAMPLES),
            ("seed", 0, 2**63 - 1),
        ):
            value = getattr(self, name.split()[-1])
            if not low <= value <= high:
                msg = f"The {name} is {value}; it must be between {low} and {high}."
                raise SettingsError(msg)

    @property
    def paired(self) -> bool:
        """Whether draws come in pairs of opposite noise."""
        return self.sampler == "ddim"


@torch.inference_mode()
def draw_targets(
    denoiser: Denoiser,
    schedule: Schedule,
    label: Tensor,
    gene_mean: Tensor | None,
    spot_ids: Sequence[str],
    settings: SamplingSettings,
) -> Tensor:
    """Draw from the denoiser.

    A symmetric denoiser is made odd, ε̂(x) = (ε(x) - ε(-x)) / 2: a residual then has mean 0
    whatever the network remembers of its training spots, and a ± pair of draws its mean exactly at
    the regression mean. The opposite draw comes free with a pair, so a pair costs what it did.

    Parameters
    ----------
    denoiser, schedule
        As trained.
    label
        (N,P), what the denoiser is conditioned on.
    gene_mean
        (N,G) or None, see `Denoiser`.
    spot_ids
        N names; with the seed and the sample's index they alone decide the noise.
    settings
        See `SamplingSettings`.

    Returns
    -------
    Tensor
        (N,K,G), on the device of `label`.
    """
    timesteps = spaced_timesteps(schedule.steps, settings.steps)
    k, genes = settings.samples, denoiser.size.genes
    at_once = max(1, _BATCH_SEQUENCES // k)
    parts = [label.new_zeros((0, k, genes))]
    for start in range(0, len(spot_ids), at_once):
        ids = spot_ids[start : start + at_once]
        part = label[start : start + at_once]
        means = None if gene_mean is None else gene_mean[start : start + at_once]

        def denoise(
            x: Tensor, t: int, part: Tensor = part, means: Tensor | None = means
        ) -> tuple[Tensor, Tensor]:
            count = x.shape[1]
            both = torch.cat([x, -x], 1) if denoiser.size.symmetric else x
            times = np.full(len(x), t)
            eps, v = estimate_noise(denoiser, schedule, both, times, part, means)
            if not denoiser.size.symmetric:
                return eps, v
            return (eps[:, :count] - eps[:, count:]) / 2, (v[:, :count] + v[:, count:]) / 2

        def noise(step: int, count: int, ids: Sequence[str] = ids) -> Tensor:
            drawn = gaussian_noise(settings.seed, ids, range(count), genes, step=step)
            return torch.from_numpy(drawn).to(label.device)

        if not settings.paired:
            step_noise = partial(noise, count=k)
            parts.append(sample_ancestral(denoise, noise(0, k), schedule, timesteps, step_noise))
        elif denoiser.size.symmetric:  # the draw of the opposite noise is the opposite draw
            half = sample_ddim(denoise, noise(0, -(-k // 2)), schedule, timesteps)
            parts.append(antithetic(half)[:, :k])
        else:
            first = antithetic(noise(0, -(-k // 2)))[:, :k]
            parts.append(sample_ddim(denoise, first, schedule, timesteps))
    return torch.cat(parts)


def spread(samples: NDArray[np.float32], settings: SamplingSettings) -> NDArray[np.float32]:
    """Take the standard deviation over the draws of a spot, (N,K,G) -> (N,G); 0 for a single draw.

    A ± pair has its mean fixed, so nothing is lost to estimating it; independent draws lose one.
    """
    ddof = 0 if settings.paired or settings.samples == 1 else 1
    out: NDArray[np.float32] = samples.std(1, ddof=ddof)
    return out
