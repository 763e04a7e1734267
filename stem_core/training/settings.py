"""Settings of training: the `training` part of a recipe, and the bounds of its values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from stem_core.errors import SettingsError
from stem_core.model.config import DenoiserConfig
from stem_core.prediction.settings import SamplingSettings
from stem_core.training.conditional_mean import RegressionTraining

__all__ = [
    "LARGEST_SEED",
    "SMALLEST",
    "STRICT",
    "DenoiserTraining",
    "FitSettings",
    "denoiser_size",
    "require_components",
    "require_within",
]

STRICT: dict[str, str] = {"extra": "forbid"}  # for pydantic: unknown keys of a recipe are refused
SMALLEST = 1e-12  # of what has to be above 0
LARGEST_SEED = 2**63 - 1
_LEAST_STEPS = 20  # fewer have no room for a warm-up


@dataclass(frozen=True)
class DenoiserTraining:
    """Arguments of `stem_core.training.trainer.train_denoiser`.

    The publication: 300,000 steps, batch 256, one noise, learning rate 1e-4, constant, no weight
    decay, EMA 0.9999, bf16.

    Attributes
    ----------
    steps, batch
        Of AdamW; a batch is this many spots, over all processes together …
    noises
        … each with this many noise levels and noises at once.
    learning_rate, weight_decay
        Of AdamW.
    schedule
        `one-cycle`: a short warm-up and cosine decay; `constant`.
    clip
        Largest norm of the gradient, or None.
    ema
        Highest decay of the average of weights.
    condition_noise
        Standard deviation of noise on the (whitened) condition, against memorising spots.
    precision
        `fp32`, or `bf16` by autocast with weights kept in fp32.
    accumulate
        A batch is worked through in this many parts, to save memory; the gradient is the same.
    seed
        Of weights, order and noise.
    log_every, checkpoint_every, validate_every
        Steps between lines of the log, checkpoints, and looks at the validation sections.
    patience
        Stop after this many looks without a better CRPS and keep the best; 0: never.

    Raises
    ------
    SettingsError
        Too few steps, or another value that cannot be.
    """

    steps: int = 150
    batch: int = 32
    noises: int = 2
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    schedule: Literal["one-cycle", "constant"] = "one-cycle"
    clip: float | None = 1.0
    ema: float = 0.995
    condition_noise: float = 0.2
    precision: Literal["fp32", "bf16"] = "fp32"
    accumulate: int = 1
    seed: int = 0
    log_every: int = 100
    checkpoint_every: int = 1000
    validate_every: int = 1000
    patience: int = 0

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    def __post_init__(self) -> None:
        """Check the values."""
        at_least_1 = ("batch", "noises", "accumulate", "log_every", "checkpoint_every",
                      "validate_every")  # fmt: skip
        require_within(
            self,
            "training.denoiser",
            {
                "steps": (_LEAST_STEPS, 1_000_000_000),
                **dict.fromkeys(at_least_1, (1, 1_000_000_000)),
                "patience": (0, 1_000_000_000),
                "seed": (0, LARGEST_SEED),
                "learning_rate": (SMALLEST, 100),
                "weight_decay": (0, 100),
                "clip": (SMALLEST, 1e12),
                "ema": (0, 1 - SMALLEST),
                "condition_noise": (0, 1000),
            },
        )
        if self.accumulate > self.batch * self.noises:
            msg = (
                f"training.denoiser.accumulate is {self.accumulate}, and a batch of {self.batch} "
                f"× {self.noises} cannot be worked through in more parts than it has; choose fewer."
            )
            raise SettingsError(msg)


def require_within(settings: object, key: str, bounds: Mapping[str, tuple[float, float]]) -> None:
    """Refuse values out of bounds; None, where it is allowed, has none.

    Parameters
    ----------
    settings
        With the fields that `bounds` names.
    key
        Of the settings in a recipe.
    bounds
        Lowest and highest value of each field.

    Raises
    ------
    SettingsError
        A value is below, above, or no number.
    """
    for name, (low, high) in bounds.items():
        value = getattr(settings, name)
        if value is None or low <= value <= high:
            continue
        if low == SMALLEST and not value > high:
            rule = "greater than 0"
        else:
            rule = f"at most {high:,}" if value > high else f"at least {low:,}"
        msg = f"{key}.{name} is {value}; it must be {rule}."
        raise SettingsError(msg)


@dataclass(frozen=True)
class FitSettings:
    """Arguments of `stem_core.training.fit.fit`.

    Attributes
    ----------
    target
        What is diffused: the residual around a regression mean, or expression itself.
    mean, denoiser
        Of the two training steps.
    inner_networks
        Networks per ensemble where training sections are left out in turn for their residuals.
    depth, width, heads
        Of the denoiser.
    projected_width
        Principal components of the condition the denoiser sees; None: the condition as it is, as
        published.
    domain_components
        Principal components of the own-patch embedding for the domain distance.
    calibration
        How draws are made that the band is calibrated on: as in the standard preset.

    Raises
    ------
    SettingsError
        A value is out of bounds, or does not go with another.
    """

    target: Literal["residual", "published"] = "residual"
    mean: RegressionTraining = field(default_factory=RegressionTraining)
    denoiser: DenoiserTraining = field(default_factory=DenoiserTraining)
    inner_networks: int = 2
    depth: int = 2
    width: int = 48
    heads: int = 2
    projected_width: int | None = 32
    domain_components: int = 24
    calibration: SamplingSettings = field(default_factory=lambda: SamplingSettings("angle", 4, 4))

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    def __post_init__(self) -> None:
        """Check the values."""
        require_within(
            self,
            "training",
            {
                "inner_networks": (1, 10_000),
                "depth": (1, 1000),
                **dict.fromkeys(("width", "heads"), (1, 100_000)),
                "projected_width": (1, 100_000),
                "domain_components": (1, 100_000),
            },
        )
        if self.width % self.heads:
            msg = f"A width of {self.width} does not divide into {self.heads} attention heads."
            raise SettingsError(msg)
        if self.target == "residual" and self.projected_width is None:
            msg = "A residual target needs a projected_width; only the published one goes without."
            raise SettingsError(msg)


def denoiser_size(settings: FitSettings, genes: int, condition_width: int) -> DenoiserConfig:
    """Return the size of the denoiser for G genes and a condition of width C."""
    residual = settings.target == "residual"
    return DenoiserConfig(
        genes=genes,
        condition_width=settings.projected_width or condition_width,
        depth=settings.depth,
        width=settings.width,
        heads=settings.heads,
        gene_inputs=2 if residual else 1,
        predicts="velocity" if residual else "noise",
        symmetric=residual,
        label_width=settings.width if residual else None,
    )


def require_components(
    settings: FitSettings, condition_width: int, spots: int | None = None
) -> None:
    """Refuse a projection onto more principal components than the condition (N,C) has.

    Centred, N spots have N - 1 at most; None where they are not known yet.

    Raises
    ------
    SettingsError
        `projected_width` is larger than N - 1 or than C.
    """
    most = condition_width if spots is None else min(spots - 1, condition_width)
    if settings.projected_width is not None and settings.projected_width > most:
        of = "" if spots is None else f" of {spots:,} training spots"
        msg = (
            f"training.projected_width is {settings.projected_width:,}, but the condition{of}, "
            f"{condition_width:,} wide, has no more than {most:,} principal components; choose a "
            "smaller one."
        )
        raise SettingsError(msg)
