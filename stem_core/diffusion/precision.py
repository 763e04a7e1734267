"""In which number format a denoiser runs: found out by trying it, not by the device's name."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch

from stem_core.diffusion.denoiser import Denoiser
from stem_core.errors import SettingsError
from stem_core.model.config import DenoiserConfig

__all__ = ["PRECISIONS", "Trial", "choose_precision", "in_precision", "probe"]

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
_WORTH_IT = 1.7  # a lesser gain is not worth digits, nor answers that hang on noise in timing
_TRIES = 4


def in_precision(denoiser: Denoiser, precision: str) -> Denoiser:
    """Give the denoiser itself in fp32, a copy in bf16."""
    if precision == "fp32":
        return denoiser
    return copy.deepcopy(denoiser).to(PRECISIONS[precision])


def choose_precision(size: DenoiserConfig, device: torch.device, wanted: str = "auto") -> str:
    """Choose `fp32` or `bf16`.

    `auto` takes bf16 where a denoiser of this size runs at least 1.7 times as fast in it.

    Raises
    ------
    SettingsError
        There is no such precision.
    """
    if wanted in PRECISIONS:
        return wanted
    if wanted != "auto":
        msg = f"There is no precision '{wanted}'; choose auto, {' or '.join(PRECISIONS)}."
        raise SettingsError(msg)
    # Of the processor's time: other work on the machine must not decide.
    cost = {name: trial.processor_s for name, trial in probe(size, device).items()}
    return "bf16" if cost["fp32"] > _WORTH_IT * cost["bf16"] else "fp32"


@dataclass(frozen=True)
class Trial:
    """Seconds of one evaluation of one sample: by the clock, and of the processor's (or GPU's)."""

    elapsed_s: float
    processor_s: float


@lru_cache(maxsize=32)
def probe(size: DenoiserConfig, device: torch.device) -> dict[str, Trial]:
    """Time one evaluation of one sample in each precision, with random weights.

    The best of a few tries, taken in turns; infinite where the device cannot do it. Takes a
    fraction of a second; asked again it answers from memory.
    """
    best = dict.fromkeys(PRECISIONS, (float("inf"), float("inf")))
    trials = {}
    for name, kind in PRECISIONS.items():
        try:
            trials[name] = _trial(size, device, kind)
            trials[name]()  # the first one warms up
        except (RuntimeError, NotImplementedError):
            trials.pop(name, None)
    for _ in range(_TRIES):
        for name, trial in trials.items():
            started, worked = time.perf_counter(), time.process_time()
            trial()
            elapsed_s = time.perf_counter() - started
            processor_s = time.process_time() - worked if device.type == "cpu" else elapsed_s
            best[name] = min(best[name][0], elapsed_s), min(best[name][1], processor_s)
    n = _sequences(size)
    return {name: Trial(elapsed / n, processor / n) for name, (elapsed, processor) in best.items()}


def _sequences(size: DenoiserConfig) -> int:
    return 64 if size.depth * size.width**2 < 10**5 else 2


def _trial(size: DenoiserConfig, device: torch.device, kind: torch.dtype) -> Callable[[], None]:
    denoiser = Denoiser(size).to(device, kind).eval()
    sequences = _sequences(size)
    x = torch.zeros(1, sequences, size.genes, device=device, dtype=kind)
    t = torch.zeros(1, device=device, dtype=torch.int64)
    label = torch.zeros(1, size.condition_width, device=device, dtype=kind)
    mean = torch.zeros(1, size.genes, device=device, dtype=kind) if size.gene_inputs > 1 else None

    @torch.inference_mode()
    def trial() -> None:
        denoiser(x, t, label, mean)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return trial
