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

__all__ = [
    "Denoise",
    "antithetic",
    "sample_ancestral",
    "sample_angle",
    "sample_ddim",
    "sample_dpmpp_2m",
    "sample_dpmpp_2m_sde",
]

Denoise = Callable[[Tensor, int], tuple[Tensor, Tensor]]


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


@torch.inference_mode()
def sample_angle(
    denoise: Denoise, noise: Tensor, schedule: Schedule, timesteps: NDArray[np.int64]
) -> Tensor:
    """Follow the probability flow in the angle φ, α = cos φ and σ = sin φ: dx/dφ = v.

    v = (ε̂ - σ x) / α is the velocity of Salimans & Ho 2022. Of white data of unit variance it is 0
    at every φ: noise already is a draw. So for whitened residuals the flow hardly moves, and a few
    plain steps, each with the velocity at the middle of its cell of φ, follow it closely, where
    solvers that hold x̂0 or ε̂ still (DDIM, DPM-Solver++) have to follow both around the arc.

    Parameters
    ----------
    denoise, noise, schedule
        As in `sample_ddim`.
    timesteps
        Visited timesteps, ascending; cells end half way between their angles, at φ = 0 and at the
        last timestep's angle.

    Returns
    -------
    Tensor
        (N,K,G).
    """
    angles = schedule.angles[timesteps]
    edges = np.concatenate([[0.0], (angles[1:] + angles[:-1]) / 2, schedule.angles[-1:]])
    x = noise
    for i in range(len(timesteps) - 1, -1, -1):
        eps, _ = denoise(x, int(timesteps[i]))
        velocity = (eps - np.sin(angles[i]) * x) / np.cos(angles[i])
        x = x - (edges[i + 1] - edges[i]) * velocity
    return x


def _half_log_snr(alpha_bar: NDArray[np.float64]) -> NDArray[np.float64]:
    """λ = log(α/σ) with α = √ᾱ, σ = √(1-ᾱ)."""
    out: NDArray[np.float64] = 0.5 * np.log(alpha_bar / (1 - alpha_bar))
    return out


def _extrapolated(
    x0: Tensor, x0_before: Tensor | None, step: float, step_before: float, order_two: float
) -> Tensor:
    """x̂0 drawn on along its last change: `order_two` is 1/2 for the ODE and the midpoint SDE."""
    if x0_before is None:
        return x0
    return x0 + (order_two * step / step_before) * (x0 - x0_before)


@torch.inference_mode()
def sample_dpmpp_2m(
    denoise: Denoise, noise: Tensor, schedule: Schedule, timesteps: NDArray[np.int64]
) -> Tensor:
    """DPM-Solver++(2M): deterministic, second order in log-SNR, one evaluation a step.

    Lu et al. 2022 (arXiv 2211.01095), algorithm 2. The first and the last step are of first order.

    Parameters
    ----------
    denoise, noise, schedule, timesteps
        As in `sample_ddim`.

    Returns
    -------
    Tensor
        (N,K,G).
    """
    return _dpmpp_2m(denoise, noise, schedule, timesteps)


@torch.inference_mode()
def sample_dpmpp_2m_sde(
    denoise: Denoise,
    noise: Tensor,
    schedule: Schedule,
    timesteps: NDArray[np.int64],
    step_noise: Callable[[int], Tensor],
) -> Tensor:
    """SDE-DPM-Solver++(2M): the stochastic relative of `sample_dpmpp_2m`, midpoint form.

    Parameters
    ----------
    denoise, noise, schedule, timesteps, step_noise
        As in `sample_ancestral`.

    Returns
    -------
    Tensor
        (N,K,G).
    """
    return _dpmpp_2m(denoise, noise, schedule, timesteps, step_noise)


def _dpmpp_2m(
    denoise: Denoise,
    noise: Tensor,
    schedule: Schedule,
    timesteps: NDArray[np.int64],
    step_noise: Callable[[int], Tensor] | None = None,
) -> Tensor:
    alphas_bar = schedule.alphas_bar[timesteps]
    alpha, sigma, lambdas = np.sqrt(alphas_bar), np.sqrt(1 - alphas_bar), _half_log_snr(alphas_bar)
    x, x0_before, step_before = noise, None, 0.0
    for i in range(len(timesteps) - 1, -1, -1):
        eps, _ = denoise(x, int(timesteps[i]))
        x0 = (x - sigma[i] * eps) / alpha[i]
        if i == 0:  # on to σ = 0
            x = x0
            break
        step = float(lambdas[i - 1] - lambdas[i])
        guess = _extrapolated(x0, x0_before, step, step_before, 0.5)
        if step_noise is None:
            x = (sigma[i - 1] / sigma[i]) * x - alpha[i - 1] * np.expm1(-step) * guess
        else:
            fresh = -np.expm1(-2 * step)  # share of the variance that comes from new noise
            x = (
                (sigma[i - 1] / sigma[i] * np.exp(-step)) * x
                + alpha[i - 1] * fresh * guess
                + float(sigma[i - 1] * np.sqrt(fresh)) * step_noise(len(timesteps) - i)
            )
        x0_before, step_before = x0, step
    return x
