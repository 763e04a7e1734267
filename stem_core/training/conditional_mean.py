"""Fit the regression mean: closed form for the ridges, a few seconds of AdamW for the networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from stem_core.diffusion.conditional_mean import (
    ConditionalMean,
    KernelRidge,
    Linear,
    ShallowNetworks,
    Standardise,
    build_conditional_mean,
)

__all__ = ["MeanTraining", "fit_conditional_mean"]

_BATCH = 64


@dataclass(frozen=True)
class MeanTraining:
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


def _standardise(
    into: Standardise, condition: NDArray[np.float32], columns: NDArray[np.int64]
) -> torch.Tensor:
    chosen = condition[:, columns]
    into.columns.copy_(torch.from_numpy(columns))
    into.mean.copy_(torch.from_numpy(chosen.mean(0)))
    into.std.copy_(torch.from_numpy(chosen.std(0) + 1e-6))
    out: torch.Tensor = into(torch.from_numpy(condition))
    return out


@torch.no_grad()
def _fit_ridge(
    member: Linear,
    condition: NDArray[np.float32],
    target: NDArray[np.float32],
    offset: NDArray[np.float32],
    columns: NDArray[np.int64],
    alpha: float,
) -> None:
    x = _standardise(member.inputs, condition, columns).double()
    y = torch.from_numpy(target).double()
    centre, level = x.mean(0), y.mean(0)
    gram = (x - centre).T @ (x - centre) + alpha * torch.eye(x.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(gram, (x - centre).T @ (y - level))
    member.linear.weight.copy_(weights.T)
    member.linear.bias.copy_(level - centre @ weights + torch.from_numpy(offset))


@torch.no_grad()
def _fit_kernel(
    member: KernelRidge,
    condition: NDArray[np.float32],
    target: NDArray[np.float32],
    offset: NDArray[np.float32],
    columns: NDArray[np.int64],
    settings: MeanTraining,
) -> None:
    x = _standardise(member.inputs, condition, columns)
    member.gamma.fill_(settings.kernel_gamma / len(columns))
    member.support.copy_(
        x.half().float()
    )  # kept in half precision on disk: fit on what will be loaded
    level = target.mean(0)
    kernel = member.kernel(member.support, member.support).double()
    kernel += settings.kernel_alpha * torch.eye(len(kernel), dtype=torch.float64)
    member.weights.copy_(torch.linalg.solve(kernel, torch.from_numpy(target - level).double()))
    member.offset.copy_(torch.from_numpy(level + offset))


def _fit_networks(
    member: ShallowNetworks,
    condition: NDArray[np.float32],
    target: NDArray[np.float32],
    offset: NDArray[np.float32],
    columns: NDArray[np.int64],
    settings: MeanTraining,
) -> None:
    x = _standardise(member.inputs, condition, columns)
    level, scale = target.mean(0), target.std(0) + 1e-3
    member.offset.copy_(torch.from_numpy(level + offset))
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


def fit_conditional_mean(
    condition: NDArray[np.float32],
    target: NDArray[np.float32],
    section: NDArray[np.int64],
    groups: Mapping[str, slice],
    settings: MeanTraining,
) -> ConditionalMean:
    """Fit all members on training spots.

    Members that see the condition relative to its slide are fitted to expression relative to its
    section: levels differ between sections for reasons no image shows.

    Parameters
    ----------
    condition
        (N,C).
    target
        (N,G), log2(1 + count).
    section
        (N,), which section a spot is of, 0 to S-1.
    groups
        Columns by meaning, from `condition_groups`.
    settings
        See `MeanTraining`.
    """
    torch.manual_seed(settings.seed)
    n, total = condition.shape
    mean = build_conditional_mean(
        groups,
        total,
        target.shape[1],
        support=n,
        networks=settings.networks,
        hidden=settings.hidden,
        bottleneck=settings.bottleneck,
    )
    columns = {name: np.arange(total)[which] for name, which in groups.items()}
    as_is = np.concatenate([columns["raw"], columns["geometry"]])
    relative = np.concatenate([columns["relative"], columns["geometry"]])
    levels = np.stack([target[section == s].mean(0) for s in range(int(section.max()) + 1)])
    within = (target - levels[section]).astype(np.float32)
    level, none = target.mean(0), np.zeros(target.shape[1], np.float32)
    everything = np.arange(total)
    plain_ridge, ridge = (m for m in mean.members if isinstance(m, Linear))
    (plain_kernel,) = (m for m in mean.members if isinstance(m, KernelRidge))
    networks = [m for m in mean.members if isinstance(m, ShallowNetworks)]
    _fit_ridge(plain_ridge, condition, target, none, as_is, settings.ridge_alpha)
    _fit_kernel(plain_kernel, condition, target, none, as_is, settings)
    _fit_ridge(ridge, condition, within, level, relative, settings.ridge_alpha)
    for member, wanted, offset, chosen in zip(
        networks,
        (within, target, target, target),
        (level, none, none, none),
        (relative, everything, as_is, relative),
        strict=True,
    ):
        _fit_networks(member, condition, wanted, offset, chosen, settings)
    return mean.eval().requires_grad_(False)
