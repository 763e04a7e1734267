"""What the network's output means: the noise (as published) or the velocity.

With x_t = √ᾱ x0 + √(1-ᾱ) ε the velocity is v = √ᾱ ε - √(1-ᾱ) x0 (Salimans & Ho 2022), so that
ε̂ = √(1-ᾱ) x_t + √ᾱ v̂. For targets of unit variance v̂ = 0 is already the best guess that knows
nothing: an untrained network draws independent Gaussians of the right size, and the network only
has to learn what differs from that. Trained on a thousand spots, predicted noise lets single draws
explode (its error is divided by √ᾱ, which is 0.006 at the first step); predicted velocity cannot.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stem_core.diffusion.denoiser import Denoiser
from stem_core.diffusion.schedule import Schedule

__all__ = ["estimate_noise"]


def estimate_noise(
    denoiser: Denoiser,
    schedule: Schedule,
    x: Tensor,
    t: NDArray[np.int64],
    condition: Tensor,
    gene_mean: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Estimate the noise in x, whatever the network predicts.

    Parameters
    ----------
    denoiser, schedule
        As trained.
    x
        (N,K,G).
    t
        Timesteps of the full schedule, (N,).
    condition, gene_mean
        See `Denoiser`.

    Returns
    -------
    tuple of Tensor
        Noise estimate ε̂ and variance interpolation, each (N,K,G), in the precision of x, whatever
        the network's own.
    """
    kind = next(denoiser.parameters()).dtype
    out, variance = (
        part.to(x.dtype)
        for part in denoiser(
            x.to(kind),
            torch.from_numpy(t).to(x.device),
            condition.to(kind),
            None if gene_mean is None else gene_mean.to(kind),
        )
    )
    if denoiser.config.predicts == "noise":
        return out, variance
    alpha_bar = torch.from_numpy(schedule.alphas_bar[t]).to(x)[:, None, None]
    return (1 - alpha_bar).sqrt() * x + alpha_bar.sqrt() * out, variance
