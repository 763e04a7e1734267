"""The regression mean that the diffusion model adds its residual to (CARD, Han et al. 2022).

An equal-weight average of seven small regressors with different errors: linear and Gaussian kernel
ridge, and ensembles of shallow networks, on the condition as it is and relative to the slide. Two
of them know only the pattern within a slide; the others give them its level. Fitting is in
`stem_core.training.conditional_mean`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stem_core.model.config import RegressionConfig

__all__ = [
    "ConditionalMean",
    "KernelRidge",
    "Linear",
    "ShallowNetworks",
    "SlideLevel",
    "StandardScaler",
    "build_conditional_mean",
]


class StandardScaler(nn.Module):
    """Choose columns of the condition, scale them to unit variance, and clip to ±5."""

    columns: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, columns: int, total: int) -> None:
        super().__init__()
        self.register_buffer("columns", torch.zeros(columns, dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(columns))
        self.register_buffer("std", torch.ones(columns))
        self.total = total

    @torch.no_grad()
    def fit(self, condition: NDArray[np.float32], columns: NDArray[np.int64]) -> Tensor:
        """Learn columns, mean and deviation from (N,C) training spots, and give them scaled."""
        chosen = condition[:, columns]
        self.columns.copy_(torch.from_numpy(columns))
        self.mean.copy_(torch.from_numpy(chosen.mean(0)))
        self.std.copy_(torch.from_numpy(chosen.std(0) + 1e-6))
        out: Tensor = self(torch.from_numpy(condition))
        return out

    def forward(self, condition: Tensor) -> Tensor:
        """(N,C) -> (N,columns)."""
        chosen = condition[:, self.columns]
        return ((chosen - self.mean) / self.std).clamp(-5, 5)


class Linear(nn.Module):
    """Ridge regression, as fitted weights."""

    def __init__(self, columns: int, total: int, genes: int) -> None:
        super().__init__()
        self.inputs = StandardScaler(columns, total)
        self.linear = nn.Linear(columns, genes)

    def forward(self, condition: Tensor) -> Tensor:
        """(N,C) -> (N,G)."""
        out: Tensor = self.linear(self.inputs(condition))
        return out


class KernelRidge(nn.Module):
    """Gaussian kernel ridge regression over S support spots."""

    support: Tensor
    weights: Tensor
    offset: Tensor
    gamma: Tensor

    def __init__(self, columns: int, total: int, genes: int, support: int) -> None:
        super().__init__()
        self.inputs = StandardScaler(columns, total)
        self.register_buffer("support", torch.zeros(support, columns))
        self.register_buffer("weights", torch.zeros(support, genes))
        self.register_buffer("offset", torch.zeros(genes))
        self.register_buffer("gamma", torch.ones(()))

    def kernel(self, a: Tensor, b: Tensor) -> Tensor:
        """exp(-γ |a - b|²), (N,S)."""
        squared = (a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * a @ b.T
        return torch.exp(-self.gamma * squared.clamp_min(0))

    def forward(self, condition: Tensor) -> Tensor:
        """(N,C) -> (N,G)."""
        return self.kernel(self.inputs(condition), self.support) @ self.weights + self.offset


class ShallowNetworks(nn.Module):
    """M networks with two hidden layers, evaluated at once and averaged."""

    scale: Tensor
    offset: Tensor

    def __init__(self, columns: int, total: int, genes: int, size: RegressionConfig) -> None:
        super().__init__()
        self.inputs = StandardScaler(columns, total)
        sizes = [columns, size.hidden, size.bottleneck, genes]
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(size.networks, b, a) * a**-0.5) for a, b in pairwise(sizes)
        )
        self.biases = nn.ParameterList(
            nn.Parameter(torch.zeros(size.networks, 1, b)) for b in sizes[1:]
        )
        self.register_buffer("scale", torch.ones(genes))
        self.register_buffer("offset", torch.zeros(genes))

    def each(self, inputs: Tensor, *, dropout: tuple[float, float] = (0.0, 0.0)) -> Tensor:
        """Run every member: (N,columns) or (M,N,columns) -> (M,N,G).

        Inputs are standardised, outputs in scaled units.
        """
        x = inputs if inputs.dim() == 3 else inputs.expand(len(self.weights[0]), -1, -1)
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            rate = dropout[0] if layer == 0 else dropout[1]
            x = nn.functional.dropout(x, rate, training=rate > 0)
            x = torch.baddbmm(bias, x, weight.transpose(1, 2))
            if layer < 2:
                x = nn.functional.gelu(x)
        return x

    def forward(self, condition: Tensor) -> Tensor:
        """(N,C) -> (N,G)."""
        out: Tensor = self.each(self.inputs(condition)).mean(0) * self.scale + self.offset
        return out


@dataclass(frozen=True)
class SlideLevel:
    """How much is expressed on one slide, as the regression mean judges it from its whole tissue.

    Attributes
    ----------
    shift
        (G,), log2(1 + count): what members lack that know the pattern only.
    doubt
        How far the other members disagree about the level: root mean square over genes of the
        standard deviation between them. Large on tissue unlike that of the training sections.
    """

    shift: Tensor
    doubt: float


class ConditionalMean(nn.Module):
    """Average of the members.

    Parameters
    ----------
    members
        (N,C) -> (N,G) each.
    patterns
        Which of them predict expression relative to its slide's average only. Which level a slide
        has they cannot say; the average of the other members over the slide's tissue does.
    """

    def __init__(self, members: list[nn.Module], patterns: Sequence[int]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.patterns = list(patterns)

    def _each(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate the members that know the level, and the patterns: (·,N,G) each."""
        each = [member(condition) for member in self.members]
        levels = [out for index, out in enumerate(each) if index not in self.patterns]
        return torch.stack(levels), torch.stack([each[index] for index in self.patterns])

    def slide_level(self, lattice: Tensor) -> SlideLevel:
        """Judge the level of one slide.

        Parameters
        ----------
        lattice
            (M,C) float32, the condition of points all over the slide's tissue.
        """
        levels, patterns = (part.mean(1) for part in self._each(lattice))
        doubt = levels.var(0, correction=0).mean().sqrt()
        return SlideLevel(levels.mean(0) - patterns.mean(0), float(doubt))

    def forward(self, condition: Tensor, shift: Tensor) -> Tensor:
        """Regression mean.

        Parameters
        ----------
        condition
            (N,C) float32.
        shift
            (G,) of the spots' slide, from `slide_level`.

        Returns
        -------
        Tensor
            (N,G), log2(1 + count).
        """
        levels, patterns = self._each(condition)
        total: Tensor = levels.sum(0) + (patterns + shift).sum(0)
        return total / len(self.members)


def build_conditional_mean(
    groups: Mapping[str, slice],
    total: int,
    genes: int,
    size: RegressionConfig,
) -> ConditionalMean:
    """Make the members, unfitted.

    In order: ridge and kernel ridge on the condition as it is; ridge, then networks, relative to
    the slide and for expression relative to its section; networks on everything, as it is, and
    relative to the slide.

    Parameters
    ----------
    groups
        Columns of the condition by meaning, from `condition_groups`.
    total, genes
        C and G.
    size
        Sizes of kernel ridge and network ensembles.
    """
    counts = {name: len(range(total)[which]) for name, which in groups.items()}
    as_is, relative = (counts[name] + counts["geometry"] for name in ("raw", "relative"))
    return ConditionalMean(
        [
            Linear(as_is, total, genes),
            KernelRidge(as_is, total, genes, size.support),
            Linear(relative, total, genes),
            *(
                ShallowNetworks(columns, total, genes, size)
                for columns in (relative, total, as_is, relative)
            ),
        ],
        patterns=(2, 3),
    )
