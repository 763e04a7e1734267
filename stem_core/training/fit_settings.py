"""What is trained, and how large: the `training` part of a recipe."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from stem_core.errors import SettingsError
from stem_core.model.config import DenoiserConfig
from stem_core.prediction.settings import SamplingSettings
from stem_core.training.conditional_mean import RegressionTraining
from stem_core.training.settings import STRICT, DenoiserTraining, require_within

__all__ = ["FitSettings", "denoiser_size", "require_components"]


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
