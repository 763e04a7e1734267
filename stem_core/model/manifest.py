"""The manifest: everything that must be known about a model, as a checked `config.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import Field, JsonValue, ValidationError, model_validator

from stem_core.constants import Units
from stem_core.errors import ModelFileError
from stem_core.model.config import (
    Config,
    DenoiserConfig,
    ModelConfig,
    ModelName,
    Positive,
    RegressionConfig,
)

__all__ = [
    "UNPINNED",
    "Baseline",
    "EncoderRef",
    "FoldFigures",
    "Gene",
    "HeldOut",
    "Manifest",
    "Metrics",
    "ReportedFigures",
    "read_manifest",
]

SCHEMA_VERSION = 1
UNPINNED = "unpinned"  # a revision that is not known


class Gene(Config):
    """One gene of the panel; `ensembl` is empty where it is not known."""

    symbol: str
    ensembl: str = ""


class EncoderRef(Config):
    """One of the encoders that make the condition, and the exact weights it must have.

    `revision` is `unpinned`, and `sha256` empty, where the exact weights cannot be known: in
    converted models, and in those trained on embeddings that other tools made, which
    `imported_from` names (file -> sha256).
    """

    name: ModelName
    revision: str
    width: int = Field(gt=0)
    sha256: str = ""
    imported_from: dict[str, str] = Field(default_factory=dict)


class Metrics(Config):
    """Figures of one method on one held-out section; log2(1 + count) units where units apply."""

    pcc_10: float
    pcc_50: float
    pcc_all: float
    mse: float
    mae: float
    rvd: float
    rvd_single_draw: float | None = None
    crps: float | None = None
    coverage_90: float | None = None


class Baseline(Config):
    """A baseline on the same inputs."""

    name: str
    metrics: Metrics


class FoldFigures(Config):
    """One leave-one-section-out fold."""

    held_out: str
    trained_on: tuple[str, ...]
    n_spots: int
    metrics: Metrics
    baselines: tuple[Baseline, ...]


class ReportedFigures(Config):
    """Figures that somebody else reported and that were not measured again here."""

    source: str
    held_out: str
    pcc_10: float | None = None
    pcc_50: float | None = None
    pcc_all: float | None = None
    mse: float | None = None
    mae: float | None = None
    rvd: float | None = None


class HeldOut(Config):
    """Held-out figures with the protocol that gave them.

    `folds` were measured with this program; without folds, mean and range are empty. `reported`
    are others' figures.
    """

    protocol: str
    note: str
    folds: tuple[FoldFigures, ...] = ()
    pcc_all_mean: float | None = None
    pcc_all_range: tuple[float, float] | None = None
    reported: tuple[ReportedFigures, ...] = ()

    @property
    def summary(self) -> str:
        """PCC over the whole panel as words: mean and range of the folds, or what was reported."""
        if self.pcc_all_mean is not None and self.pcc_all_range is not None:
            low, high = self.pcc_all_range
            return f"{self.pcc_all_mean:.2f} ({low:.2f} to {high:.2f})"
        found = [r.pcc_all for r in self.reported if r.pcc_all is not None]
        return f"{max(found):.2f} (reported, not measured here)" if found else "not known"


class QualityPoint(Config):
    """Held-out figures of one sampling procedure, means over the folds' whole sections."""

    sampler: str
    steps: int = Field(gt=0)
    samples: int = Field(gt=0)
    pcc_all: float
    mse: float
    crps: float
    rvd_single_draw: float
    coverage_90: float


class AgainstPublished(Config):
    """The standard preset against the published procedure on the same spots.

    Means over the folds; ratios are standard over published.
    """

    spots: int = Field(gt=0)
    pcc_all: float
    mse_ratio: float
    crps_ratio: float
    variance_ratio: float
    correlation_ratio: float


class QualityCurve(Config):
    """Quality against cost, from `benchmarks/quality_vs_cost.py`."""

    points: tuple[QualityPoint, ...]
    against_published: AgainstPublished


class Manifest(ModelConfig):
    """A model's `config.json`; unknown fields are refused.

    Units: lengths in microns (`_um`) or pixels (`_px`); expression in log2(1 + raw count).

    Attributes
    ----------
    panel
        Genes in the order of the model's outputs.
    encoders
        Encoders whose embeddings, in this order, make the condition.
    condition_width
        C, values of the condition of a spot.
    target
        What is diffused: the `residual` around the regression mean, or, as `published`, expression
        itself.
    calibrated
        Whether there is a reference.safetensors, with interval, domain and ridge baseline.
    settings
        The recipe as `stem train` read it, without what stands in the manifest itself.
    """

    schema_version: Literal[1]
    units: Units
    panel: tuple[Gene, ...] = Field(min_length=1)
    encoders: tuple[EncoderRef, ...] = Field(min_length=1)
    condition_width: int = Field(gt=0)
    target: Literal["published", "residual"]
    regression: RegressionConfig | None
    denoiser: DenoiserConfig
    calibrated: bool = True
    diffusion_steps: int = Field(gt=0)
    beta_start: Positive
    beta_end: Positive
    training_slides: tuple[str, ...]
    held_out: HeldOut
    quality: QualityCurve | None = None
    recipe: str
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    seed: int
    created: str

    @model_validator(mode="after")
    def _fits_together(self) -> Manifest:
        symbols = [gene.symbol for gene in self.panel]
        if len(set(symbols)) != len(symbols):
            msg = "the panel names a gene twice"
            raise ValueError(msg)
        if (self.target == "residual") != (self.regression is not None):
            msg = "a residual target needs a regression, a published target has none"
            raise ValueError(msg)
        if self.target == "residual" and self.condition.survey_pitch_um is None:
            msg = "a residual target needs the tissue around a spot (context_um)"
            raise ValueError(msg)
        if self.denoiser.genes != len(self.panel):
            msg = "the denoiser has another number of genes than the panel"
            raise ValueError(msg)
        return self

    def __repr__(self) -> str:
        return (
            f"Manifest({self.name} {self.version}: {len(self.panel)} genes, {self.species} "
            f"{self.tissue}, encoder {'+'.join(ref.name for ref in self.encoders)})"
        )

    __str__ = __repr__

    @property
    def encoder_width(self) -> int:
        """Values per patch of all encoders together."""
        return sum(encoder.width for encoder in self.encoders)

    @property
    def symbols(self) -> list[str]:
        """Gene symbols in panel order."""
        return [gene.symbol for gene in self.panel]


def read_manifest(path: Path) -> Manifest:
    """Read and check a `config.json`.

    Raises
    ------
    ModelFileError
        The file is missing, is not JSON, has an unknown schema version, or a field is wrong.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = (
            f"The model's {path.name} in {path.parent.name} cannot be read ({error}); "
            "install the model again."
        )
        raise ModelFileError(msg) from error
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if version != SCHEMA_VERSION:
        msg = (
            f"The model {path.parent.name} has manifest version {version!r}, this program reads "
            f"version {SCHEMA_VERSION}; update the program or choose another model."
        )
        raise ModelFileError(msg)
    try:
        return Manifest.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        why = str(first["msg"]).removeprefix("Value error, ").rstrip(".")
        msg = (
            f"The model {path.parent.name} has a faulty manifest: "
            f"{f'{where}: ' if where else ''}{why}; "
            "install the model again or correct its config.json."
        )
        raise ModelFileError(msg) from error
