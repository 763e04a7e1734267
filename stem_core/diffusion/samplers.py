"""Samplers: plain functions of a denoiser, starting noise and a schedule.

`denoise(x, t)` takes x (N,K,G) and a timestep of the full schedule and returns ε̂ and v, each
(N,K,G).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stem_core.diffusion.schedule import Schedule

__all__ = ["SAMPLERS", "Denoise", "antithetic", "sample_ancestral", "sample_ddim"]

Denoise = Callable[[Tensor, int], tuple[Tensor, Tensor]]
SAMPLERS = ("ddim", "ancestral")


def antithetic(noise: Tensor) -> Tensor:
    """(N,ceil(K/2),G) -> (N,K',G), K' even: each noise followed by its negative.

    So its first-order effect on the mean cancels.
    """
    return torch.stack([noise, -noise], 2).flatten(1, 2)


@torch.inference_mode()
def sample_ddim(
    denoise: Denoise, noise: Tensor, schedule: Schedule, timesteps: NDArray[np.int64]
) -> Tensor:
    """Deterministic sampling, η = 0 (Song et al. 2021, eq. 12).

    Parameters
    ----------
    denoise
        See the module.
    noise
        Starting noise, (N,K,G).
    schedule
        The full schedule.
    timesteps
        Visited timesteps, ascending.

    Returns
    -------
    Tensor
        (N,K,G).
    """
    alphas = schedule.alphas_bar[timesteps]
    before = np.append(1.0, alphas[:-1])
    x = noise
    for t, a, a_next in zip(timesteps[::-1], alphas[::-1], before[::-1], strict=True):
        eps, _ = denoise(x, int(t))
        x0 = (x - np.sqrt(1 - a) * eps) / np.sqrt(a)
        x = np.sqrt(a_next) * x0 + np.sqrt(1 - a_next) * eps
    return x


@torch.inference_mode()
def sample_ancestral(
    denoise: Denoise,
    noise: Tensor,
    schedule: Schedule,
    timesteps: NDArray[np.int64],
    step_noise: Callable[[int], Tensor],
) -> Tensor:
    """Sample as published: DDPM with learned-range variance, no clipping.

    The variance is that of Nichol & Dhariwal 2021, eq. 15.

    Parameters
    ----------
    denoise, noise, schedule, timesteps
        As in `sample_ddim`.
    step_noise
        Gives the noise (N,K,G) of the i-th step counted from 1; not asked for the last.

    Returns
    -------
    Tensor
        (N,K,G).
    """
    spaced = schedule.respaced(timesteps)
    low, high = spaced.log_variance_range
    x = noise
    for i in range(len(timesteps) - 1, -1, -1):
        eps, v = denoise(x, int(timesteps[i]))
        beta, a, before = spaced.betas[i], spaced.alphas_bar[i], spaced.alphas_bar_before[i]
        x0 = (x - np.sqrt(1 - a) * eps) / np.sqrt(a)
        mean = (np.sqrt(before) * beta * x0 + np.sqrt(1 - beta) * (1 - before) * x) / (1 - a)
        share = (v + 1) / 2
        log_variance = share * high[i] + (1 - share) * low[i]
        x = (
            mean
            if i == 0
            else mean + torch.exp(0.5 * log_variance) * step_noise(len(timesteps) - i)
        )
    return x
