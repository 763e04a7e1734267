"""The number format that a denoiser runs in: chosen by what the processor can do."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from pathlib import Path

import torch

from stem_core.diffusion.denoiser import Denoiser
from stem_core.errors import SettingsError
from stem_core.model.config import DenoiserConfig

__all__ = [
    "PRECISIONS",
    "choose_precision",
    "in_precision",
    "multiplies_in_bf16",
    "time_evaluation",
]

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
_LARGE = 10**6  # depth × width²; smaller ones wait for memory and kernel launches, not products
_TRIES = 4


def in_precision(denoiser: Denoiser, precision: str) -> Denoiser:
    """Give the denoiser itself in fp32, a copy in bf16."""
    if precision == "fp32":
        return denoiser
    return copy.deepcopy(denoiser).to(PRECISIONS[precision])


def choose_precision(size: DenoiserConfig, device: torch.device, wanted: str = "auto") -> str:
    """Choose `fp32` or `bf16`.

    `auto` takes bf16 for a large denoiser on a processor that multiplies matrices in it: an NVIDIA
    GPU since Ampere, or a CPU with AMX. Timing does not decide, so the same machine always gives
    the same values.

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
    large = size.depth * size.width**2 >= _LARGE
    return "bf16" if large and multiplies_in_bf16(device) else "fp32"


def multiplies_in_bf16(device: torch.device) -> bool:
    """Return whether the processor has units for matrix products in bf16."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    try:
        return "amx_bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # no Linux
        return False


def time_evaluation(size: DenoiserConfig, device: torch.device, precision: str) -> float:
    """Return the seconds that one evaluation of one sample takes: the best of a few tries.

    The denoiser has random weights; the first try, which warms up, does not count.
    """
    trial = _trial(size, device, PRECISIONS[precision])
    times = []
    for _ in range(_TRIES + 1):
        started = time.perf_counter()
        trial()
        times.append(time.perf_counter() - started)
    return min(times[1:]) / _sequences(size)


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
