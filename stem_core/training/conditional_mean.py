"""Fit the regression mean: closed form for the ridges, a few seconds of AdamW for the networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from stem_core.diffusion.conditional_mean import (
    ConditionalMean,
    KernelRidge,
    Linear,
    ShallowNetworks,
    build_conditional_mean,
)
from stem_core.model.config import RegressionConfig
from stem_core.training.random_state import random_state_kept
from stem_core.training.settings import LARGEST_SEED, SMALLEST, STRICT, require_within

__all__ = ["RegressionTraining", "TrainingSection", "fit_conditional_mean"]

_BATCH = 64


@dataclass(frozen=True)
class TrainingSection:
    """A measured section as training sees it, all float32.

    Attributes
    ----------
    condition
        (N,C) of its spots.
    lattice
        (M,C) of points all over its tissue, from `survey_condition`.
    target
        (N,G), log2(1 + count).
    views
        (V,N,C): the condition from V views of each patch, for the denoiser; None: the condition
        alone.
    """

    condition: NDArray[np.float32]
    lattice: NDArray[np.float32]
    target: NDArray[np.float32]
    views: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class RegressionTraining:
    """Arguments of `fit_conditional_mean`.

    Attributes
    ----------
    ridge_alpha
        Penalty of the linear members on standardised columns.
    kernel_alpha, kernel_gamma
        Penalty and γ × number of columns of the kernel members.
    networks, hidden, bottleneck, epochs, learning_rate, weight_decay
        Of each of the four network ensembles.
    input_dropout, dropout, input_noise
        Regularisation of the networks.
    seed
        Of initial weights, order and dropout.

    Raises
    ------
    SettingsError
        A value is out of bounds.
    """

    ridge_alpha: float = 300.0
    kernel_alpha: float = 1.0
    kernel_gamma: float = 0.2
    networks: int = 4
    hidden: int = 256
    bottleneck: int = 64
    epochs: int = 40
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    input_dropout: float = 0.1
    dropout: float = 0.3
    input_noise: float = 0.1
    seed: int = 0

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    def __post_init__(self) -> None:
        """Check the values."""
        require_within(
            self,
            "training.mean",
            {
                **dict.fromkeys(("ridge_alpha", "kernel_alpha", "kernel_gamma"), (SMALLEST, 1e12)),
                **dict.fromkeys(("networks", "hidden", "bottleneck"), (1, 10_000)),
                "epochs": (1, 1_000_000),
                "learning_rate": (SMALLEST, 100),
                "weight_decay": (0, 100),
                **dict.fromkeys(("input_dropout", "dropout"), (0, 0.99)),
                "input_noise": (0, 1000),
                "seed": (0, LARGEST_SEED),
            },
        )


@torch.no_grad()
def _fit_ridge(
    member: Linear,
    condition: NDArray[np.float32],
    target: NDArray[np.float32],
    columns: NDArray[np.int64],
    alpha: float,
) -> None:
    x = member.inputs.fit(condition, columns).double()
    y = torch.from_numpy(target).double()
    centre, level = x.mean(0), y.mean(0)
    gram = (x - centre).T @ (x - centre) + alpha * torch.eye(x.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(gram, (x - centre).T @ (y - level))
    member.linear.weight.copy_(weights.T)
    member.linear.bias.copy_(level - centre @ weights)


@torch.no_grad()
def _fit_kernel(
    member: KernelRidge,
    condition: NDArray[np.float32],
    target: NDArray[np.float32],
    columns: NDArray[np.int64],
    settings: RegressionTraining,
) -> None:
    x = member.inputs.fit(condition, columns)
    member.gamma.fill_(settings.kernel_gamma / len(columns))
    member.support.copy_(
        x.half().float()
    )  # kept in half precision on disk: fit on what will be loaded
    level = target.mean(0)
    kernel = member.kernel(member.support, member.support).double()
    kernel += settings.kernel_alpha * torch.eye(len(kernel), dtype=torch.float64)
    member.weights.copy_(torch.linalg.solve(kernel, torch.from_numpy(target - level).double()))
    member.offset.copy_(torch.from_numpy(level))


def _fit_networks(
    member: ShallowNetworks,
    condition: NDArray[np.float32],
    target: NDArray[np.float32],
    columns: NDArray[np.int64],
    settings: RegressionTraining,
) -> None:
    x = member.inputs.fit(condition, columns)
    level, scale = target.mean(0), target.std(0) + 1e-3
    member.offset.copy_(torch.from_numpy(level))
    member.scale.copy_(torch.from_numpy(scale))
    y = torch.from_numpy((target - level) / scale)
    weight = torch.from_numpy(scale / scale.mean())
    parameters = [*member.weights, *member.biases]
    optimiser = torch.optim.AdamW(
        parameters, settings.learning_rate, weight_decay=settings.weight_decay
    )
    batch = min(_BATCH, len(x))
    per_epoch = len(x) // batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.learning_rate, total_steps=settings.epochs * per_epoch
    )
    for _ in range(settings.epochs):
        order = torch.stack([torch.randperm(len(x)) for _ in range(settings.networks)])
        for start in range(0, per_epoch * batch, batch):
            chosen = order[:, start : start + batch]  # every network sees its own order
            inputs = x[chosen] + settings.input_noise * torch.randn(*chosen.shape, x.shape[1])
            out = member.each(inputs, dropout=(settings.input_dropout, settings.dropout))
            loss = ((out - y[chosen]) ** 2 * weight).mean((1, 2)).sum()
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()


@random_state_kept()
def fit_conditional_mean(
    sections: Sequence[TrainingSection], groups: Mapping[str, slice], settings: RegressionTraining
) -> ConditionalMean:
    """Fit all members on training spots.

    The pattern members see the condition relative to its slide and are fitted to expression
    relative to its section's average: levels differ between sections for reasons that a spot's own
    surroundings do not show.

    Parameters
    ----------
    sections
        At least one.
    groups
        Columns of the condition by meaning, from `condition_groups`.
    settings
        See `RegressionTraining`.
    """
    torch.manual_seed(settings.seed)
    condition = np.concatenate([s.condition for s in sections])
    target = np.concatenate([s.target for s in sections])
    within = np.concatenate([s.target - s.target.mean(0) for s in sections])
    n, total = condition.shape
    size = RegressionConfig(
        support=n,
        networks=settings.networks,
        hidden=settings.hidden,
        bottleneck=settings.bottleneck,
    )
    mean = build_conditional_mean(groups, total, target.shape[1], size)
    columns = {name: np.arange(total)[which] for name, which in groups.items()}
    as_is = np.concatenate([columns["raw"], columns["geometry"]])
    relative = np.concatenate([columns["relative"], columns["geometry"]])
    looks_at = (as_is, as_is, relative, relative, np.arange(total), as_is, relative)
    for index, (member, chosen) in enumerate(zip(mean.members, looks_at, strict=True)):
        wanted = within if index in mean.patterns else target
        if isinstance(member, Linear):
            _fit_ridge(member, condition, wanted, chosen, settings.ridge_alpha)
        elif isinstance(member, KernelRidge):
            _fit_kernel(member, condition, wanted, chosen, settings)
        elif isinstance(member, ShallowNetworks):
            _fit_networks(member, condition, wanted, chosen, settings)
    return mean.eval().requires_grad_(False)
