"""What each step learns from: spots, their views, noise levels and noises.

All of it is a function of seed and step alone. Every process draws the whole batch and works on its
share, so the number of processes does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stem_core.training.settings import DenoiserTraining

__all__ = ["Batch", "BatchStream", "TrainingPairs"]


@dataclass(frozen=True)
class Batch:
    """What one step learns from, B = spots × noises.

    Attributes
    ----------
    x0, noise
        (B,1,G).
    t
        int64 (B,), timesteps.
    label
        (B,P), the condition with its noise.
    gene_mean
        (B,G) or None.
    """

    x0: Tensor
    t: NDArray[np.int64]
    noise: Tensor
    label: Tensor
    gene_mean: Tensor | None

    def __len__(self) -> int:
        """Return B."""
        return len(self.t)

    def share(self, which: slice, device: torch.device) -> Batch:
        """Take a part of it to a device."""
        return Batch(
            self.x0[which].to(device),
            self.t[which],
            self.noise[which].to(device),
            self.label[which].to(device),
            None if self.gene_mean is None else self.gene_mean[which].to(device),
        )


@dataclass(frozen=True)
class TrainingPairs:
    """What the denoiser learns from: N spots with their condition.

    Attributes
    ----------
    target
        (N,G), what is diffused: log2(1 + count), or the scaled residual.
    condition
        (N,P), or (V,N,P) for V views of each spot, of which one is taken each time.
    gene_mean
        (N,G), the second input of each gene's token, or None.
    """

    target: NDArray[np.float32]
    condition: NDArray[np.float32]
    gene_mean: NDArray[np.float32] | None = None


class BatchStream:
    """Draws batches; its state can be kept and restored.

    Parameters
    ----------
    pairs
        Spots to draw from.
    timesteps
        T.
    symmetric
        Whether targets may change their sign.
    settings
        See `DenoiserTraining`.
    """

    def __init__(
        self, pairs: TrainingPairs, timesteps: int, symmetric: bool, settings: DenoiserTraining
    ) -> None:
        views = pairs.condition if pairs.condition.ndim == 3 else pairs.condition[None]
        self._target, self._views = torch.from_numpy(pairs.target), torch.from_numpy(views)
        self._mean = None if pairs.gene_mean is None else torch.from_numpy(pairs.gene_mean)
        self._timesteps, self._symmetric, self._settings = timesteps, symmetric, settings
        self._random = np.random.default_rng(settings.seed)
        self._generator = torch.Generator().manual_seed(settings.seed)

    def draw(self) -> Batch:
        """Draw the batch of the next step."""
        random, settings = self._random, self._settings
        chosen = np.repeat(random.integers(0, len(self._target), settings.batch), settings.noises)
        t = random.integers(0, self._timesteps, len(chosen))
        x0 = self._target[chosen][:, None]
        if self._symmetric:
            x0 = x0 * torch.from_numpy(random.choice([-1.0, 1.0], (len(chosen), 1, 1))).to(x0)
        noise = torch.randn(x0.shape, generator=self._generator)
        shift = torch.randn(len(chosen), self._views.shape[2], generator=self._generator)
        view = np.zeros(len(chosen), np.int64)
        if len(self._views) > 1:
            view = random.integers(0, len(self._views), len(chosen))
        label = self._views[view, chosen] + settings.condition_noise * shift
        return Batch(x0, t, noise, label, None if self._mean is None else self._mean[chosen])

    def state(self) -> tuple[dict[str, Any], Tensor]:
        """Return where the random numbers are: numpy's as plain values, torch's as bytes."""
        return dict(self._random.bit_generator.state), self._generator.get_state()

    def restore(self, numbers: dict[str, Any], generator: Tensor) -> None:
        """Go on from a state."""
        self._random.bit_generator.state = numbers
        self._generator.set_state(generator)
