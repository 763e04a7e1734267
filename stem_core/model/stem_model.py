"""A loaded model: everything the predictor needs, and nothing about where it came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stem_core.diffusion.conditional_mean import ConditionalMean, SlideLevel, StandardScaler
from stem_core.diffusion.denoiser import Denoiser
from stem_core.diffusion.schedule import Schedule
from stem_core.encoders.embedding import Encoder
from stem_core.model.manifest import Manifest
from stem_core.notebook import html_table, record_repr

__all__ = [
    "Bands",
    "DomainReference",
    "Generator",
    "RidgeBaseline",
    "StemModel",
    "normal_band",
]

_Z_90 = 1.645  # half width of the central 90 % of a Gaussian, in standard deviations


class Generator(nn.Module):
    """The generative part: regression mean (or none), residual root and denoiser.

    With `target="published"` the denoiser models log2(1 + count) itself. With `"residual"` it
    models the residual around the regression mean, whitened: residual = residual root · y, where
    root · rootᵀ is the covariance of residuals over genes. So genes vary together as they do in
    tissue whatever the network learns, and it starts from white noise, where few steps do.
    """

    projection: Tensor
    residual_root: Tensor
    gene_offset: Tensor
    gene_scale: Tensor

    def __init__(
        self,
        denoiser: Denoiser,
        mean: ConditionalMean | None,
        *,
        condition_width: int,
        projected_width: int | None,
    ) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.mean = mean
        genes = denoiser.config.genes
        self.condition_width = condition_width
        self.inputs = None
        if projected_width is not None:
            self.inputs = StandardScaler(condition_width, condition_width)
            self.register_buffer("projection", torch.zeros(condition_width, projected_width))
        self.register_buffer("residual_root", torch.eye(genes))
        self.register_buffer("gene_offset", torch.zeros(genes))
        self.register_buffer("gene_scale", torch.ones(genes))

    @property
    def target(self) -> str:
        """`published` or `residual`."""
        return "published" if self.mean is None else "residual"

    def slide_level(self, lattice: Tensor) -> SlideLevel:
        """(M,C) of points all over a slide -> see `ConditionalMean.slide_level`.

        Nothing for the published target.
        """
        if self.mean is None:
            return SlideLevel(lattice.new_zeros(self.denoiser.config.genes), 0.0)
        return self.mean.slide_level(lattice)

    def regression_mean(self, condition: Tensor, level: SlideLevel) -> Tensor:
        """(N,C) -> (N,G), log2(1 + count); zeros for the published target."""
        if self.mean is None:
            return condition.new_zeros(len(condition), self.denoiser.config.genes)
        out: Tensor = self.mean(condition, level.shift)
        return out

    def residual(self, drawn: Tensor) -> Tensor:
        """(N,K,G) of the denoiser's variables -> (N,K,G), log2(1 + count) around the mean."""
        return drawn if self.mean is None else drawn @ self.residual_root.T

    def label(self, condition: Tensor) -> Tensor:
        """(N,C) -> (N,P): what the denoiser is conditioned on."""
        if self.inputs is None:
            return condition
        out: Tensor = self.inputs(condition) @ self.projection
        return out

    def invented_condition(self, spots: int, random: np.random.Generator) -> NDArray[np.float32]:
        """Make conditions as a slide may give them, (spots,C), for timing."""
        z = random.standard_normal((spots, self.condition_width)).astype(np.float32)
        if self.inputs is None:
            return z
        mean, std = (part.cpu().numpy() for part in (self.inputs.mean, self.inputs.std))
        out: NDArray[np.float32] = mean + std * z
        return out

    def relative_mean(self, mean: Tensor) -> Tensor | None:
        """Scale the regression mean to the second input of the gene tokens, (N,G).

        None for the published target.
        """
        return None if self.mean is None else (mean - self.gene_offset) / self.gene_scale


@dataclass(frozen=True)
class Bands:
    """Calibration of the 90 % band, on training sections predicted by models without them.

    With few draws their own quantiles say little. So the band has two parts, added in quadrature:
    of the spot, `below` and `above` times s, where s² = (spread² + typical²) / 2 steadies the
    spread of one spot by the gene's own; and of the whole slide, whose level may be misjudged by
    `level` times the doubt about it (`SlideLevel`).

    Attributes
    ----------
    typical, below, above
        Per gene, float32 (G,).
    level
        Root mean square error of section averages per unit of doubt; a gene's share is in
        proportion to `typical`.
    """

    typical: NDArray[np.float32]
    below: NDArray[np.float32]
    above: NDArray[np.float32]
    level: float

    __repr__ = record_repr

    def around(
        self, mean: NDArray[np.float32], std: NDArray[np.float32], doubt: float
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Lower and upper bound of the band, (N,G) each."""
        steadied = np.sqrt((std**2 + self.typical**2) / 2)
        share = self.typical / np.sqrt((self.typical**2).mean())
        slide = np.float32(_Z_90 * self.level * doubt) * share
        below, above = (
            np.sqrt((side * steadied) ** 2 + slide**2) for side in (self.below, self.above)
        )
        return mean - below, mean + above


def normal_band(
    mean: NDArray[np.float32], std: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Lower and upper bound, (N,G) each, of a band that nothing calibrated: mean ± 1.645 spread."""
    half = np.float32(_Z_90) * std
    return mean - half, mean + half


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

    __repr__ = record_repr

    def distance(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N,W) -> (N,): 1 is as far out as the most unusual 5 % of the training spots."""
        z = (embeddings - self.mean) @ self.projection
        out: NDArray[np.float32] = np.sqrt((z**2).mean(1)) / np.float32(self.unit)
        return out


@dataclass(frozen=True)
class RidgeBaseline:
    """Plain ridge regression on the same condition, to set the model's maps beside.

    Attributes
    ----------
    mean, std
        (C,): the columns are scaled by these and clipped to ±5.
    weights, level
        (C,G) and (G,).
    """

    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    weights: NDArray[np.float32]
    level: NDArray[np.float32]

    __repr__ = record_repr

    def predict(self, condition: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N,C) -> (N,G), log2(1 + count)."""
        scaled = np.clip((condition - self.mean) / self.std, -5, 5)
        out: NDArray[np.float32] = scaled @ self.weights + self.level
        return out


@dataclass(frozen=True)
class StemModel:
    """A model in memory.

    Attributes
    ----------
    manifest
        The checked `config.json`.
    symbols, ensembl
        The panel.
    genes
        `genes.csv`, indexed by symbol.
    encoder
        Encoder of the patches.
    generator, schedule
        What makes the draws.
    bands, domain, ridge
        What makes the 90 % band, the domain distance and the baseline's map; None for a model
        that came without (see `normal_band`).
    identity
        For the run record: name, version, sha256 of the weights and of the encoder.
    """

    manifest: Manifest
    symbols: tuple[str, ...]
    ensembl: tuple[str, ...]
    genes: pd.DataFrame
    encoder: Encoder
    generator: Generator
    schedule: Schedule
    bands: Bands | None
    domain: DomainReference | None
    ridge: RidgeBaseline | None
    identity: dict[str, str] = field(default_factory=dict)
    folder: Path | None = None

    def __repr__(self) -> str:
        return (
            f"StemModel({self.manifest.name} {self.manifest.version}: {len(self.symbols)} genes, "
            f"{self.manifest.species} {self.manifest.tissue}, encoder {self.encoder.name}, "
            f"{self.generator.target} target)"
        )

    def _repr_html_(self) -> str:
        manifest = self.manifest
        return html_table(
            f"Model {manifest.name} {manifest.version}",
            {
                "title": manifest.title,
                "tissue": f"{manifest.species}, {manifest.tissue}",
                "platform": manifest.platform,
                "genes": f"{len(self.symbols)} ({', '.join(self.symbols[:3])}, …)",
                "encoder": f"{self.encoder.name}, {self.encoder.width} values a patch",
                "target": self.generator.target,
                "90 % interval": "normal approximation" if self.bands is None else "calibrated",
                "PCC on held-out sections": manifest.held_out.summary,
                "folder": self.folder,
            },
        )
