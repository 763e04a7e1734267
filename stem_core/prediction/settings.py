"""How to sample: the choices of a run, checked. No torch here, so that pages can check them too."""

from __future__ import annotations

from dataclasses import dataclass

from stem_core.errors import SettingsError

__all__ = ["SAMPLERS", "SamplerFacts", "SamplingSettings"]

_MOST = 1000


@dataclass(frozen=True)
class SamplerFacts:
    """What settings need to know of a sampler.

    Attributes
    ----------
    paired
        Whether every noise is followed by its negative; the published procedure draws
        independently.
    spacing
        How its timesteps are spaced unless asked otherwise.
    """

    paired: bool
    spacing: str


SAMPLERS = {
    "angle": SamplerFacts(paired=True, spacing="angle"),
    "dpmpp-2m": SamplerFacts(paired=True, spacing="trimmed"),
    "dpmpp-2m-sde": SamplerFacts(paired=True, spacing="trimmed"),
    "ddim": SamplerFacts(paired=True, spacing="even"),
    "ancestral": SamplerFacts(paired=False, spacing="even"),
}


@dataclass(frozen=True)
class SamplingSettings:
    """How to sample.

    Attributes
    ----------
    sampler
        One of `SAMPLERS`; all but `ancestral`, the published one, pair every noise with its
        negative.
    steps
        Timesteps visited, 2 to T.
    samples
        Draws per spot, K; even where they come in pairs.
    seed
        Of the noise, 0 to 2**63 - 1.
    spacing
        One of `stem_core.diffusion.schedule.SPACINGS`; "" takes the sampler's own.

    Raises
    ------
    SettingsError
        A value is out of range.
    """

    sampler: str
    steps: int
    samples: int
    seed: int = 0
    spacing: str = ""

    def __post_init__(self) -> None:
        """Check the values."""
        if self.sampler not in SAMPLERS:
            msg = f"There is no sampler '{self.sampler}'; choose one of {', '.join(SAMPLERS)}."
            raise SettingsError(msg)
        for name, low, high in (
            ("number of steps", 2, _MOST),
            ("number of samples", 1, _MOST),
            ("seed", 0, 2**63 - 1),
        ):
            value = getattr(self, name.split()[-1])
            if not low <= value <= high:
                msg = f"The {name} is {value}; it must be between {low} and {high}."
                raise SettingsError(msg)
        if self.paired and self.samples % 2:
            msg = (
                f"The number of samples is {self.samples}, but the sampler {self.sampler} draws "
                "pairs of opposite noise; choose an even number, or the sampler ancestral."
            )
            raise SettingsError(msg)

    @property
    def paired(self) -> bool:
        """Whether draws come in pairs of opposite noise."""
        return SAMPLERS[self.sampler].paired

    @property
    def timestep_spacing(self) -> str:
        """The spacing asked for, or the sampler's own."""
        return self.spacing or SAMPLERS[self.sampler].spacing
