"""Train the denoiser: noise and variance loss, AdamW, EMA with a warmed-up decay.

The loss is that of Nichol & Dhariwal 2021.
"""

from __future__ import annotations

import copy
import logging
import math
import time

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stem_core.diffusion.denoiser import Denoiser
from stem_core.diffusion.parameterisation import estimate_noise
from stem_core.diffusion.schedule import Schedule
from stem_core.training.settings import DenoiserTraining

__all__ = ["diffusion_loss", "train_denoiser"]

log = logging.getLogger(__name__)


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
    weight = 1 / alpha_bar if denoiser.size.predicts == "velocity" else torch.ones_like(alpha_bar)
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
    # The last step has no posterior to compare with: negative log-likelihood of x0 itself.
    nll = 0.5 * (
        math.log(2 * math.pi) + log_variance + (x0 - guess).pow(2) * torch.exp(-log_variance)
    )
    first = torch.from_numpy(t == 0).to(x0.device)[:, None, None]
    bound = torch.where(first, nll, kl).mean() / math.log(2.0)
    loss: Tensor = simple + bound
    return loss


def train_denoiser(
    denoiser: Denoiser,
    schedule: Schedule,
    target: NDArray[np.float32],
    condition: NDArray[np.float32],
    gene_mean: NDArray[np.float32] | None,
    settings: DenoiserTraining,
) -> Denoiser:
    """Train in place and return the average of weights.

    Parameters
    ----------
    denoiser
        Fresh.
    target
        (N,G), what is diffused: log2(1 + count), or the scaled residual.
    condition
        (N,P).
    gene_mean
        (N,G) or None, the second input of each gene's token.
    """
    random = np.random.default_rng(settings.seed)
    generator = torch.Generator().manual_seed(settings.seed)
    y, c = torch.from_numpy(target), torch.from_numpy(condition)
    g = None if gene_mean is None else torch.from_numpy(gene_mean)
    average = copy.deepcopy(denoiser).requires_grad_(False)
    optimiser = torch.optim.AdamW(
        denoiser.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule_lr = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.learning_rate, total_steps=settings.steps, pct_start=0.1
    )
    denoiser.train()
    started, running = time.monotonic(), 0.0
    for step in range(settings.steps):
        chosen = np.repeat(random.integers(0, len(y), settings.batch), settings.noises)
        t = random.integers(0, schedule.steps, len(chosen))
        x0 = y[chosen][:, None]
        if denoiser.size.symmetric:
            x0 = x0 * torch.from_numpy(random.choice([-1.0, 1.0], (len(chosen), 1, 1))).to(x0)
        noise = torch.randn(x0.shape, generator=generator)
        label = c[chosen] + settings.condition_noise * torch.randn(
            len(chosen), c.shape[1], generator=generator
        )
        loss = diffusion_loss(
            denoiser, schedule, x0, t, noise, label, None if g is None else g[chosen]
        )
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(denoiser.parameters(), 1.0)
        optimiser.step()
        schedule_lr.step()
        decay = min(settings.ema, (1 + step) / (10 + step))
        with torch.no_grad():
            for a, b in zip(average.parameters(), denoiser.parameters(), strict=True):
                a.lerp_(b, 1 - decay)
        running += loss.item()
        if (step + 1) % 100 == 0:
            log.info(
                "step %d loss %.4f after %.0f s",
                step + 1,
                running / 100,
                time.monotonic() - started,
            )
            running = 0.0
    return average.eval()
