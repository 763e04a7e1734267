"""Drawing what the denoiser models; shared by prediction, calibration and benchmarks."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stem_core.diffusion.denoiser import Denoiser
from stem_core.diffusion.noise import gaussian_noise
from stem_core.diffusion.parameterisation import estimate_noise
from stem_core.diffusion.samplers import (
    Denoise,
    antithetic,
    sample_ancestral,
    sample_angle,
    sample_ddim,
    sample_dpmpp_2m,
    sample_dpmpp_2m_sde,
)
from stem_core.diffusion.schedule import Schedule, visited_timesteps
from stem_core.model.config import DenoiserConfig
from stem_core.model.stem_model import Generator
from stem_core.prediction.settings import SamplingSettings

__all__ = ["denoise_function", "draw_expression", "draw_targets", "sequences_at_once", "spread"]

log = logging.getLogger(__name__)

# On CPUs a pass is quickest while its working set stays in the caches, but not with fewer samples
# than keep the matrix products busy (measured: 32 at width 48, 16 at width 384).
_CPU_CACHE_BYTES = 1e7
_CPU_AT_LEAST, _CPU_AT_MOST = 16, 256
_GPU_SHARE = 0.5  # of the free memory
_GPU_AT_MOST = 16_384


def denoise_function(
    denoiser: Denoiser, schedule: Schedule, label: Tensor, gene_mean: Tensor | None
) -> Denoise:
    """Make what samplers call: x (N,K,G) and a timestep -> ε̂ and v, (N,K,G) each.

    A symmetric denoiser is made odd, ε̂(x) = (ε(x) - ε(-x)) / 2: a residual then has mean 0
    whatever the network remembers of its training spots, and a ± pair of draws its mean exactly at
    the regression mean. The opposite draw comes free with a pair, so a pair costs what it did.
    """
    symmetric = denoiser.config.symmetric

    def denoise(x: Tensor, t: int) -> tuple[Tensor, Tensor]:
        count = x.shape[1]
        both = torch.cat([x, -x], 1) if symmetric else x
        eps, v = estimate_noise(denoiser, schedule, both, np.full(len(x), t), label, gene_mean)
        if not symmetric:
            return eps, v
        return (eps[:, :count] - eps[:, count:]) / 2, (v[:, :count] + v[:, count:]) / 2

    return denoise


def sequences_at_once(size: DenoiserConfig, device: torch.device) -> int:
    """How many samples to denoise in one pass: what the caches, or the GPU's free memory, hold."""
    # Per gene: the token, its queries, keys and values, and the hidden layer, in 4 bytes.
    bytes_each = 4 * size.genes * size.width * (4 + size.mlp_ratio)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(max(1, min(_GPU_AT_MOST, _GPU_SHARE * free / bytes_each)))
    return int(min(_CPU_AT_MOST, max(_CPU_AT_LEAST, _CPU_CACHE_BYTES / bytes_each)))


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

    Spots are taken in as large groups as memory serves; should it run out, in groups half as large.

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
        (N,K,G), float32, on the device of `label`.
    """
    per_spot = settings.samples
    if denoiser.config.symmetric and not settings.paired:
        per_spot *= 2
    at_once = max(1, sequences_at_once(denoiser.config, label.device) // per_spot)
    parts = [label.new_zeros((0, settings.samples, denoiser.config.genes))]
    start = 0
    while start < len(spot_ids):
        chosen = slice(start, start + at_once)
        means = None if gene_mean is None else gene_mean[chosen]
        try:
            part = _draw(denoiser, schedule, label[chosen], means, spot_ids[chosen], settings)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not _out_of_memory(error) or at_once == 1:
                raise
            at_once = -(-at_once // 2)
            log.warning("memory ran out: going on with %d spots at once", at_once)
            if label.device.type == "cuda":
                torch.cuda.empty_cache()
            continue
        parts.append(part)
        start += at_once
    return torch.cat(parts)


def draw_expression(
    generator: Generator,
    schedule: Schedule,
    condition: Tensor,
    mean: Tensor,
    spot_ids: Sequence[str],
    settings: SamplingSettings,
    *,
    denoiser: Denoiser | None = None,
) -> Tensor:
    """Draw expression around the regression mean.

    Parameters
    ----------
    generator, schedule
        As trained.
    condition
        (N,C).
    mean
        (N,G), from `Generator.regression_mean`.
    spot_ids, settings
        As in `draw_targets`.
    denoiser
        The generator's own in another precision; without one, the generator's.

    Returns
    -------
    Tensor
        (N,K,G), log2(1 + count), not clipped at 0.
    """
    targets = draw_targets(
        generator.denoiser if denoiser is None else denoiser,
        schedule,
        generator.label(condition),
        generator.relative_mean(mean),
        spot_ids,
        settings,
    )
    return mean[:, None] + generator.residual(targets)


def _out_of_memory(error: Exception) -> bool:
    """Torch's CPU allocator says so in the text of a plain RuntimeError only."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        "can't allocate memory" in str(error)
    )


def _draw(
    denoiser: Denoiser,
    schedule: Schedule,
    label: Tensor,
    gene_mean: Tensor | None,
    spot_ids: Sequence[str],
    settings: SamplingSettings,
) -> Tensor:
    timesteps = visited_timesteps(schedule, settings.steps, settings.timestep_spacing)
    denoise = denoise_function(denoiser, schedule, label, gene_mean)
    # The draw of the opposite noise from a symmetric denoiser is the opposite draw.
    mirrored = settings.paired and denoiser.config.symmetric
    drawn = settings.samples // 2 if settings.paired else settings.samples

    def noise(step: int) -> Tensor:
        values = gaussian_noise(
            settings.seed, spot_ids, range(drawn), denoiser.config.genes, step=step
        )
        fresh = torch.from_numpy(values).to(label.device)
        return antithetic(fresh) if settings.paired and not mirrored else fresh

    first = noise(0)
    match settings.sampler:
        case "angle":
            out = sample_angle(denoise, first, schedule, timesteps)
        case "ancestral":
            out = sample_ancestral(denoise, first, schedule, timesteps, noise)
        case "dpmpp-2m-sde":
            out = sample_dpmpp_2m_sde(denoise, first, schedule, timesteps, noise)
        case "ddim":
            out = sample_ddim(denoise, first, schedule, timesteps)
        case "dpmpp-2m":
            out = sample_dpmpp_2m(denoise, first, schedule, timesteps)
        case other:
            msg = f"the sampler {other!r} is listed in SAMPLERS, but nothing runs it"
            raise NotImplementedError(msg)
    return antithetic(out) if mirrored else out


def spread(samples: NDArray[np.float32], settings: SamplingSettings) -> NDArray[np.float32]:
    """Take the standard deviation over the draws of a spot, (N,K,G) -> (N,G); 0 for a single draw.

    A ± pair has its mean fixed, so nothing is lost to estimating it; independent draws lose one.
    """
    ddof = 0 if settings.paired or settings.samples == 1 else 1
    out: NDArray[np.float32] = samples.std(1, ddof=ddof)
    return out
