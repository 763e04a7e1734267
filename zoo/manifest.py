"""The manifest: everything that must be known about a model, as a checked `config.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from stem_core.errors import ModelFileError

__all__ = [
    "Baseline",
    "DenoiserConfig",
    "EncoderRef",
    "FoldFigures",
    "Gene",
    "HeldOut",
    "Layout",
    "Licences",
    "Manifest",
    "Metrics",
    "Preset",
    "Presets",
    "RegressionConfig",
    "ReportedFigures",
    "View",
    "read_manifest",
]

SCHEMA_VERSION = 1
NAME_PATTERN = r"^[a-z0-9][a-z0-9-]{1,63}$"
Positive = Annotated[float, Field(gt=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Gene(_Strict):
    """One gene of the panel; `ensembl` is empty where it is not known."""

    symbol: str
    ensembl: str = ""


class EncoderRef(_Strict):
    """One of the encoders that make the condition, and the exact weights it must have.

    `revision` is `unpinned`, and `sha256` empty, where the exact weights cannot be known: in
    converted models, and in those trained on embeddings that other tools made, which
    `imported_from` names (file -> sha256).
    """

    name: str = Field(pattern=NAME_PATTERN)
    revision: str
    width: int = Field(gt=0)
    sha256: str = ""
    imported_from: dict[str, str] = {}


class View(_Strict):
    """A square image around a spot: physical side in microns, side in pixels as encoded."""

    side_um: Positive
    size_px: int = Field(gt=0)


class Layout(_Strict):
    """How spots lie on the training platform; used when no spots are given."""

    kind: Literal["visium", "st", "grid"]
    pitch_um: Positive
    spot_diameter_um: Positive


class DenoiserConfig(_Strict):
    """Size of the denoiser (see `stem_core.diffusion.denoiser`)."""

    depth: int = Field(gt=0)
    width: int = Field(gt=0)
    heads: int = Field(gt=0)
    mlp_ratio: Positive = 4.0
    condition_width: int = Field(gt=0)
    label_width: int | None = Field(default=None, gt=0)
    predicts: Literal["noise", "velocity"]
    symmetric: bool


class RegressionConfig(_Strict):
    """Sizes of the regression mean under a residual model.

    See `stem_core.diffusion.conditional_mean`.
    """

    support: int = Field(gt=0)
    networks: int = Field(gt=0)
    hidden: int = Field(gt=0)
    bottleneck: int = Field(gt=0)


class Preset(_Strict):
    """A named choice of sampler, steps and samples per spot."""

    sampler: str
    steps: int = Field(gt=0, le=1000)
    samples: int = Field(gt=0, le=1000)


class Presets(_Strict):
    """The three named choices of the Predict page and of `stem predict --preset`."""

    preview: Preset
    standard: Preset
    published: Preset


class Metrics(_Strict):
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


class Baseline(_Strict):
    """A baseline on the same inputs."""

    name: str
    metrics: Metrics


class FoldFigures(_Strict):
    """One leave-one-section-out fold."""

    held_out: str
    trained_on: tuple[str, ...]
    n_spots: int
    metrics: Metrics
    baselines: tuple[Baseline, ...]


class ReportedFigures(_Strict):
    """Figures that somebody else reported and that were not measured again here."""

    source: str
    held_out: str
    pcc_10: float | None = None
    pcc_50: float | None = None
    pcc_all: float | None = None
    mse: float | None = None
    mae: float | None = None
    rvd: float | None = None


class HeldOut(_Strict):
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


class QualityPoint(_Strict):
    """Held-out figures of one sampling procedure, means over the folds' whole sections."""

    sampler: str
    steps: int = Field(gt=0)
    samples: int = Field(gt=0)
    pcc_all: float
    mse: float
    crps: float
    rvd_single_draw: float
    coverage_90: float


class AgainstPublished(_Strict):
    """The standard preset against the published procedure on the same spots.

    Means over the folds; ratios are standard over published.
    """

    spots: int = Field(gt=0)
    pcc_all: float
    mse_ratio: float
    crps_ratio: float
    variance_ratio: float
    correlation_ratio: float


class QualityCurve(_Strict):
    """Quality against cost, from `benchmarks/quality_vs_cost.py`."""

    points: tuple[QualityPoint, ...]
    against_published: AgainstPublished


class Licences(_Strict):
    """Under which terms code, weights and training data may be used."""

    code: str
    weights: str
    data: str


class Manifest(_Strict):
    """A model's `config.json`; unknown fields are refused.

    The condition is the embeddings of a spot's patch by the `encoders`, in their order; with a
    `survey_pitch_um` also those of the tissue around it. `patch_mode` `paper`: the side of a patch
    is max(224, spot diameter) in pixels of the slide, and `view.side_um` what that was in training.
    `calibrated`: there is a reference.safetensors, with band, domain and ridge baseline.
    `settings`: the recipe as `stem train` took it, without what stands in the manifest itself.

    Units: lengths in microns (`_um`) or pixels (`_px`); expression in log2(1 + raw count).
    """

    schema_version: Literal[1]
    name: str = Field(pattern=NAME_PATTERN)
    version: str
    title: str
    tissue: str
    organ: str
    species: str
    platform: str
    disease: str
    units: Literal["log2(1 + count)"]
    panel: tuple[Gene, ...] = Field(min_length=1)
    panel_rule: str
    encoders: tuple[EncoderRef, ...] = Field(min_length=1)
    view: View
    survey_pitch_um: Positive | None
    context_um: tuple[Positive, ...]
    condition_width: int = Field(gt=0)
    regression: RegressionConfig | None
    layout: Layout
    patch_mode: Literal["physical", "paper"]
    target: Literal["published", "residual"]
    denoiser: DenoiserConfig
    calibrated: bool = True
    diffusion_steps: int = Field(gt=0)
    beta_start: Positive
    beta_end: Positive
    presets: Presets
    training_slides: tuple[str, ...]
    hub_datasets: tuple[str, ...] = ()
    held_out: HeldOut
    quality: QualityCurve | None = None
    licences: Licences
    citation: str
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
        if (self.survey_pitch_um is None) != (not self.context_um):
            msg = "context_um needs a survey_pitch_um, and the other way round"
            raise ValueError(msg)
        if self.target == "residual" and self.survey_pitch_um is None:
            msg = "a residual target needs the tissue around a spot (context_um)"
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
        The file is missing, is no JSON, has an unknown schema version, or a field is wrong.
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
        where = ".".join(str(part) for part in first["loc"]) or "the manifest"
        msg = (
            f"The model {path.parent.name} has a faulty manifest: {where}: {first['msg']}; "
            "install the model again or correct its config.json."
        )
        raise ModelFileError(msg) from error
