"""The noise schedule and the respacing rule (Ho et al. 2020; Nichol & Dhariwal 2021)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from stem_core.errors import SettingsError

__all__ = ["SPACINGS", "Schedule", "spaced_timesteps", "visited_timesteps"]

SPACINGS = ("even", "trimmed", "angle")
_TRIM = (0.02, 0.90)  # of T


@dataclass(frozen=True)
class Schedule:
    """Linear variances β of T steps, and what follows from them; arrays are float64, shape (T,).

    Attributes
    ----------
    steps
        T, 1000 in the publication.
    beta_start, beta_end
        First and last β.
    betas
        Given only for a respaced schedule; else linear.
    """

    steps: int = 1000
    beta_start: float = 1e-4
    beta_end: float = 2e-2
    betas: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        """Fill in β."""
        if self.betas.size == 0:
            linear = np.linspace(self.beta_start, self.beta_end, self.steps, dtype=np.float64)
            object.__setattr__(self, "betas", linear)

    @cached_property
    def alphas_bar(self) -> NDArray[np.float64]:
        """ᾱ_t = Π (1 - β)."""
        return np.cumprod(1.0 - self.betas, dtype=np.float64)

    @cached_property
    def alphas_bar_before(self) -> NDArray[np.float64]:
        """ᾱ_{t-1}, with ᾱ_{-1} = 1."""
        return np.append(1.0, self.alphas_bar[:-1])

    @cached_property
    def angles(self) -> NDArray[np.float64]:
        """φ_t with cos φ = √ᾱ, ascending from almost 0 to almost π/2."""
        return np.arccos(np.sqrt(self.alphas_bar))

    @cached_property
    def posterior_variance(self) -> NDArray[np.float64]:
        """β̃_t = β_t (1 - ᾱ_{t-1}) / (1 - ᾱ_t)  (DDPM, eq. 7)."""
        return self.betas * (1.0 - self.alphas_bar_before) / (1.0 - self.alphas_bar)

    @cached_property
    def log_variance_range(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Log β̃_t and log β_t; the first β̃ is 0 and takes the value of the second."""
        posterior = self.posterior_variance
        low = np.log(np.append(posterior[1] if self.steps > 1 else self.betas[0], posterior[1:]))
        return low, np.log(self.betas)

    def respaced(self, timesteps: NDArray[np.int64]) -> Schedule:
        """Return the schedule that visits `timesteps` (ascending) only, with the same ᾱ there."""
        kept = self.alphas_bar[timesteps]
        betas = 1.0 - kept / np.append(1.0, kept[:-1])
        return Schedule(steps=len(timesteps), betas=betas)


def spaced_timesteps(total: int, count: int) -> NDArray[np.int64]:
    """Choose `count` of `total` timesteps, evenly, first and last included.

    The `space_timesteps` rule of guided diffusion for one section: a fractional stride, rounded as
    it accumulates.

    Returns
    -------
    int64 array, shape (count,), ascending

    Raises
    ------
    SettingsError
        `count` is not between 1 and `total`.
    """
    if not 1 <= count <= total:
        msg = f"{count} steps were asked for; the model has {total}, choose 1 to {total}."
        raise SettingsError(msg)
    stride = 1.0 if count == 1 else (total - 1) / (count - 1)
    chosen, at = [], 0.0
    for _ in range(count):
        chosen.append(round(at))
        at += stride
    return np.array(chosen, dtype=np.int64)


def visited_timesteps(schedule: Schedule, count: int, spacing: str) -> NDArray[np.int64]:
    """Choose which timesteps a sampler visits.

    `even` is the published rule. `trimmed` spaces evenly too, but leaves out the noisiest tenth,
    where nothing of the data is to be seen yet, and the last fiftieth, where nothing is left to do:
    few steps are better spent in between. `angle` takes the middles of equal cells of the angle φ.

    Returns
    -------
    int64 array, shape (count,), ascending

    Raises
    ------
    SettingsError
        `count` is not between 1 and T, or the spacing is unknown.
    """
    total = schedule.steps
    even = spaced_timesteps(total, count)
    first, last = (round(share * total) for share in _TRIM)
    if spacing == "even" or (spacing == "trimmed" and count > last - first):
        return even
    if spacing == "trimmed":
        return first + spaced_timesteps(last - first + 1, count)
    if spacing == "angle":
        middles = (np.arange(count) + 0.5) / count * schedule.angles[-1]
        nearest = np.abs(schedule.angles[:, None] - middles).argmin(0)
        return even if len(set(nearest.tolist())) < count else nearest
    msg = f"There is no step spacing '{spacing}'; choose one of {', '.join(SPACINGS)}."
    raise SettingsError(msg)
