"""A loaded model: everything the predictor needs, and nothing about where it came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stem_core.diffusion.conditional_mean import ConditionalMean, Standardise
from stem_core.diffusion.denoiser import Denoiser
from stem_core.diffusion.schedule import Schedule
from stem_core.encoders.compact import CompactEncoder
from stem_core.encoders.condition import ConditionSpec

__all__ = ["Bands", "DomainReference", "Generator", "StemModel"]


class Generator(nn.Module):
    """The generative part: regression mean (or none), residual scale and denoiser.

    With `target="published"` the denoiser models log2(1 + count) itself; with `"residual"` it
    models (log2(1 + count) - regression mean) / residual scale.
    """

    projection: Tensor
    residual_scale: Tensor
    gene_offset: Tensor
    gene_scale: Tensor

    def __init__(
        self,
        denoiser: Denoiser,
        mean: ConditionalMean | None,
        *,
        condition_width: int,
        projected_width: int,
    ) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.mean = mean
        genes = denoiser.size.genes
        self.inputs = Standardise(condition_width, condition_width)
        self.register_buffer("projection", torch.zeros(condition_width, projected_width))
        self.register_buffer("residual_scale", torch.ones(genes))
        self.register_buffer("gene_offset", torch.zeros(genes))
        self.register_buffer("gene_scale", torch.ones(genes))

    @property
    def target(self) -> str:
        """`published` or `residual`."""
        return "published" if self.mean is None else "residual"

    def regression_mean(self, condition: Tensor) -> Tensor:
        """(N,C) -> (N,G), log2(1 + count); zeros for the published target."""
        if self.mean is None:
            return condition.new_zeros(len(condition), self.denoiser.size.genes)
        out: Tensor = self.mean(condition)
        return out

    def label(self, condition: Tensor) -> Tensor:
        """(N,C) -> (N,P): what the denoiser is conditioned on."""
        out: Tensor = self.inputs(condition) @ self.projection
        return out

    def relative_mean(self, mean: Tensor) -> Tensor | None:
        """Scale the regression mean to the second input of the gene tokens, (N,G).

        None for the published target.
        """
        return None if self.mean is None else (mean - self.gene_offset) / self.gene_scale


@dataclass(frozen=True)
class Bands:
    """Calibration of the 90 % band, per gene, all float32 (G,).

    The band is mean - `below` · s to mean + `above` · s, with s² = (spread² + `typical`²) / 2: with
    few draws the spread of one spot is itself uncertain and is steadied by the gene's typical
    spread.
    """

    typical: NDArray[np.float32]
    below: NDArray[np.float32]
    above: NDArray[np.float32]

    def around(
        self, mean: NDArray[np.float32], std: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Lower and upper bound of the band, (N,G) each."""
        steadied = np.sqrt((std**2 + self.typical**2) / 2)
        return mean - self.below * steadied, mean + self.above * steadied


@dataclass(frozen=True)
class DomainReference:
    """Where the training tissue lies in embedding space.

    Attributes
    ----------
    mean, projection
        (W,) and (W,P): whitening of the own-patch embedding.
    unit
        Distance that 95 % of training spots stay below; distances are given in this unit.
    """

    mean: NDArray[np.float32]
    projection: NDArray[np.float32]
    unit: float

    def distance(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N,W) -> (N,): 1 is as far out as the most unusual 5 % of the training spots."""
        z = (embeddings - self.mean) @ self.projection
        out: NDArray[np.float32] = np.sqrt((z**2).mean(1)) / np.float32(self.unit)
        return out


@dataclass(frozen=True)
class StemModel:
    """A model in memory.

    Attributes
    ----------
    manifest
        The checked `config.json` (a `zoo.manifest.Manifest`); only shown and recorded here.
    symbols, ensembl
        The panel.
    genes
        `genes.csv`, indexed by symbol.
    encoder, spec
        What makes the condition.
    generator, schedule
        What makes the draws.
    bands, domain
        What makes the 90 % band and the domain distance.
    identity
        For the run record: name, version, sha256 of the weights and of the encoder.
    """

    manifest: Any
    symbols: tuple[str, ...]
    ensembl: tuple[str, ...]
    genes: pd.DataFrame
    encoder: CompactEncoder
    spec: ConditionSpec
    generator: Generator
    schedule: Schedule
    bands: Bands
    domain: DomainReference
    identity: dict[str, str] = field(default_factory=dict)
    folder: Path | None = None
