"""Settings of the denoiser's training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from stem_core.errors import SettingsError

__all__ = ["STRICT", "DenoiserTraining"]

STRICT: dict[str, str] = {"extra": "forbid"}  # for pydantic: unknown keys of a recipe are refused
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
        least = {"steps": _LEAST_STEPS, "seed": 0, "patience": 0}
        for name in ("batch", "noises", "accumulate", "log_every", "checkpoint_every",
                     "validate_every"):  # fmt: skip
            least[name] = 1
        for name, low in least.items():
            if (value := getattr(self, name)) < low:
                msg = f"The training's number of {name} is {value}; it must be at least {low}."
                raise SettingsError(msg)
        for name, right in (
            ("learning_rate", self.learning_rate > 0),
            ("weight_decay", self.weight_decay >= 0),
            ("ema", 0 <= self.ema < 1),
            ("condition_noise", self.condition_noise >= 0),
            ("clip", self.clip is None or self.clip > 0),
            ("accumulate", self.accumulate <= self.batch * self.noises),
        ):
            if not right:
                msg = f"The training's {name} cannot be {getattr(self, name)}."
                raise SettingsError(msg)
