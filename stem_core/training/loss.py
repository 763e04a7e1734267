"""The loss of the denoiser: noise and variance (Nichol & Dhariwal 2021)."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stem_core.diffusion.denoiser import Denoiser
from stem_core.diffusion.parameterisation import estimate_noise
from stem_core.diffusion.schedule import Schedule
from stem_core.training.batches import Batch

__all__ = ["DiffusionLoss", "diffusion_loss"]


class DiffusionLoss(nn.Module):
    """The loss as a module, so that `DistributedDataParallel` can hold the denoiser."""

    def __init__(self, denoiser: Denoiser, schedule: Schedule) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.schedule = schedule

    def forward(self, batch: Batch) -> Tensor:
        """Batch -> mean loss over it."""
        return diffusion_loss(
            self.denoiser,
            self.schedule,
            batch.x0,
            batch.t,
            batch.noise,
            batch.label,
            batch.gene_mean,
        )


def diffusion_loss(
    denoiser: Denoiser,
    schedule: Schedule,
    x0: Tensor,
    t: NDArray[np.int64],
    noise: Tensor,
    condition: Tensor,
    gene_mean: Tensor | None,
) -> Tensor:
    """Mean squared noise error + variational bound in bits per dimension for the variance.

    Parameters
    ----------
    x0, noise
        (N,1,G).
    t
        (N,).
    condition
        (N,P).
    gene_mean
        (N,G) or None.

    Returns
    -------
    Tensor
        Scalar.
    """

    def at(values: NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(values[t]).to(x0)[:, None, None]

    alpha_bar = at(schedule.alphas_bar)
    xt = alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * noise
    eps, v = estimate_noise(denoiser, schedule, xt, t, condition, gene_mean)
    # The error of the velocity is that of the noise divided by √ᾱ.
    weight = 1 / alpha_bar if denoiser.config.predicts == "velocity" else torch.ones_like(alpha_bar)
    simple = (weight * (eps - noise).pow(2)).mean()
    beta, before = at(schedule.betas), at(schedule.alphas_bar_before)

    def posterior_mean(x0_: Tensor) -> Tensor:
        return (before.sqrt() * beta * x0_ + (1 - beta).sqrt() * (1 - before) * xt) / (
            1 - alpha_bar
        )

    low, high = (at(a) for a in schedule.log_variance_range)
    share = (v + 1) / 2
    log_variance = share * high + (1 - share) * low
    guess = (xt - (1 - alpha_bar).sqrt() * eps.detach()) / alpha_bar.sqrt()
    squared = (posterior_mean(x0) - posterior_mean(guess)).pow(2)
    kl = 0.5 * (
        log_variance - low + torch.exp(low - log_variance) + squared * torch.exp(-log_variance) - 1
    )
    # The last step has no posterior to compare with: negative log-likelihood of x0 itself, as a
    # density. The published code integrates it over 256 grey levels in [-1, 1], which is right for
    # pixels; expression and residuals have no such levels, and reach beyond those bounds.
    nll = 0.5 * (
        math.log(2 * math.pi) + log_variance + (x0 - guess).pow(2) * torch.exp(-log_variance)
    )
    first = torch.from_numpy(t == 0).to(x0.device)[:, None, None]
    bound = torch.where(first, nll, kl).mean() / math.log(2.0)
    loss: Tensor = simple + bound
    return loss
