"""The description of a model, as checked pydantic records.

    ModelCard        what a model is: tissue, platform, licences, citation
    └── ModelConfig  and how it looks at a slide: condition, spot layout, presets

A recipe (`stem_core.training.recipe`) is a `ModelConfig` plus data and training, a manifest
(`stem_core.model.manifest`) is one plus panel, network sizes and held-out metrics, and an entry of
the registry (`zoo.entries`) is a `ModelCard` plus a source. Unknown fields are refused everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from stem_core.prediction.settings import SamplingSettings

__all__ = [
    "LAYOUTS",
    "NAME_PATTERN",
    "PUBLISHED_PRESETS",
    "ConditionConfig",
    "Config",
    "DenoiserConfig",
    "LayoutKind",
    "Licences",
    "ModelCard",
    "ModelConfig",
    "ModelName",
    "Positive",
    "Preset",
    "Presets",
    "RegressionConfig",
    "SpotLayout",
    "SpotSource",
]

NAME_PATTERN = r"^[a-z0-9][a-z0-9-]{1,63}$"
ModelName = Annotated[str, Field(pattern=NAME_PATTERN)]
Positive = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
Width = Annotated[int, Field(gt=0)]


class Config(BaseModel):
    """A frozen record that refuses unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


LayoutKind = Literal["visium", "st", "grid"]
SpotSource = Literal["measured", LayoutKind]


class SpotLayout(Config):
    """Arrangement of spots on the training platform, used where no spots are given.

    Attributes
    ----------
    kind
        `visium` (hexagonal), `st` or `grid` (square).
    pitch_um, spot_diameter_um
        Distance between the centres of neighbouring spots, and their diameter.
    """

    kind: LayoutKind
    pitch_um: Positive
    spot_diameter_um: Positive


LAYOUTS: dict[LayoutKind, SpotLayout] = {
    layout.kind: layout
    for layout in (
        SpotLayout(kind="visium", pitch_um=100.0, spot_diameter_um=55.0),
        SpotLayout(kind="st", pitch_um=200.0, spot_diameter_um=100.0),
        SpotLayout(kind="grid", pitch_um=100.0, spot_diameter_um=100.0),
    )
}


class ConditionConfig(Config):
    """What a model sees of a slide (see `stem_core.encoders.condition`).

    Attributes
    ----------
    side_um, size_px
        Side of a patch in microns, and in pixels as read in `physical` mode.
    survey_pitch_um
        Pitch of the context grid; None for a model that sees the spots' patches alone, as
        published.
    context_um
        Standard deviations of the Gaussian averages around a spot.
    patch_mode
        `physical`: a patch is `side_um` wide. `paper`: it is max(224, spot diameter) pixels of the
        slide wide, read pixel by pixel, and `side_um` is what that was in training.
    """

    side_um: Positive
    size_px: int = Field(gt=0, le=4096)
    survey_pitch_um: Positive | None = None
    context_um: tuple[Positive, ...] = ()
    patch_mode: Literal["physical", "paper"] = "physical"

    @model_validator(mode="after")
    def _fits_together(self) -> ConditionConfig:
        if (self.survey_pitch_um is None) != (not self.context_um):
            msg = "context_um needs a survey_pitch_um, and the other way round"
            raise ValueError(msg)
        return self


class DenoiserConfig(Config):
    """Size of the denoiser (`stem_core.diffusion.denoiser`); the defaults are the published ones.

    Attributes
    ----------
    genes, condition_width
        G and C.
    depth, width, heads, mlp_ratio
        Transformer blocks, width D, attention heads, and hidden width of a block's MLP over D.
    gene_inputs
        Values a gene's token is made from: 1 (its noisy value, as published) or 2 (also the
        regression mean of that gene at that spot).
    dropout
        Dropout of the condition in training.
    label_width
        Hidden width of the MLP that embeds the condition; None for C, as published.
    predicts
        `noise`, as published, or `velocity`; see `stem_core.diffusion.parameterisation`.
    symmetric
        Whether a diffused value is as likely as its negative. Residuals are: their mean belongs to
        the regression; see `stem_core.prediction.sampling`.
    """

    genes: Width = 200
    condition_width: Width = 1536
    depth: Width = 12
    width: Width = 384
    heads: Width = 6
    mlp_ratio: Positive = 4.0
    gene_inputs: Literal[1, 2] = 1
    dropout: float = Field(default=0.0, ge=0, lt=1)
    label_width: Width | None = None
    predicts: Literal["noise", "velocity"] = "noise"
    symmetric: bool = False


class RegressionConfig(Config):
    """Size of the regression mean under a residual model.

    See `stem_core.diffusion.conditional_mean`.

    Attributes
    ----------
    support
        Training spots of the kernel ridge.
    networks, hidden, bottleneck
        Networks of an ensemble, and their two hidden widths.
    """

    support: Width
    networks: Width
    hidden: Width
    bottleneck: Width


class Preset(Config):
    """A named choice of sampler, steps and samples per spot.

    See `stem_core.prediction.settings.SamplingSettings`, which checks the values.
    """

    sampler: str
    steps: int = Field(gt=0, le=1000)
    samples: int = Field(gt=0, le=1000)

    def settings(self, seed: int = 0) -> SamplingSettings:
        """Return the settings of a run with this preset.

        Raises
        ------
        SettingsError
            There is no such sampler, or its values do not go together.
        """
        from stem_core.prediction.settings import SamplingSettings

        return SamplingSettings(self.sampler, self.steps, self.samples, seed)


class Presets(Config):
    """The named choices of the Predict page and of `stem predict --preset`."""

    preview: Preset
    standard: Preset
    published: Preset


# For models as published, which diffuse expression itself and predict noise.
PUBLISHED_PRESETS = Presets(
    preview=Preset(sampler="dpmpp-2m", steps=5, samples=2),
    standard=Preset(sampler="dpmpp-2m", steps=8, samples=4),
    published=Preset(sampler="ancestral", steps=1000, samples=20),
)


class Licences(Config):
    """Terms of use of code, weights and training data."""

    code: str
    weights: str
    data: str


class ModelCard(Config):
    """What a model is, for people."""

    name: ModelName
    version: str
    title: str
    tissue: str
    organ: str
    species: str
    platform: str
    disease: str
    licences: Licences
    citation: str

    def card(self) -> dict[str, object]:
        """Return these fields alone, to make another record from."""
        return {name: getattr(self, name) for name in ModelCard.model_fields}


class ModelConfig(ModelCard):
    """A model's card, and how it looks at a slide and samples.

    Attributes
    ----------
    panel_rule
        Sentence that says how the genes were chosen.
    hub_datasets
        Ids of the training data on the Hub, for the card.
    """

    panel_rule: str
    hub_datasets: tuple[str, ...] = ()
    condition: ConditionConfig
    layout: SpotLayout
    presets: Presets

    def config(self) -> dict[str, object]:
        """Return these fields alone, to make another record from."""
        return {name: getattr(self, name) for name in ModelConfig.model_fields}
