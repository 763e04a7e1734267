"""Settings of the denoiser's training, and the bounds of all settings of training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from stem_core.errors import SettingsError

__all__ = ["LARGEST_SEED", "SMALLEST", "STRICT", "DenoiserTraining", "require_within"]

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
