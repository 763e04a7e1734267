"""In which number format a denoiser runs: found out by trying it, not by the device's name."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from functools import lru_cache

import torch

from stem_core.diffusion.denoiser import Denoiser, DenoiserSize
from stem_core.errors import SettingsError

__all__ = ["PRECISIONS", "choose_precision", "in_precision", "probe_s"]

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
_WORTH_IT = 1.4  # well above what noise in the timing could make of equal speeds
_TRIES = 4


def in_precision(denoiser: Denoiser, precision: str) -> Denoiser:
    """Give the denoiser itself in fp32, a copy in bf16."""
    if precision == "fp32":
        return denoiser
    return copy.deepcopy(denoiser).to(PRECISIONS[precision])


def choose_precision(size: DenoiserSize, device: torch.device, wanted: str = "auto") -> str:
    """Choose `fp32` or `bf16`.

    `auto` takes bf16 where a denoiser of this size runs at least 1.4 times as fast in it.

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
    speed = probe_s(size, device)
    return "bf16" if speed["fp32"] > _WORTH_IT * speed["bf16"] else "fp32"


@lru_cache(maxsize=32)
def probe_s(size: DenoiserSize, device: torch.device) -> dict[str, float]:
    """Time one evaluation of one sample in each precision, in seconds, with random weights.

    The best of a few tries, taken in turns so that other work on the machine slows both; infinite
    where the device cannot do it. Takes a fraction of a second; asked again it answers from memory.
    """
    best_s = dict.fromkeys(PRECISIONS, float("inf"))
    trials = {}
    for name, kind in PRECISIONS.items():
        try:
            trials[name] = _trial(size, device, kind)
            trials[name]()  # the first one warms up
        except (RuntimeError, NotImplementedError):
            trials.pop(name, None)
    for _ in range(_TRIES):
        for name, trial in trials.items():
            started = time.perf_counter()
            trial()
            best_s[name] = min(best_s[name], time.perf_counter() - started)
    sequences = _sequences(size)
    return {name: elapsed_s / sequences for name, elapsed_s in best_s.items()}


def _sequences(size: DenoiserSize) -> int:
    return 64 if size.depth * size.width**2 < 10**5 else 2


def _trial(size: DenoiserSize, device: torch.device, kind: torch.dtype) -> Callable[[], None]:
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
