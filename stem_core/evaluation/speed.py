"""Speed of sampling: the published procedure, the presets, and the machine's own peak.

All figures of one report come from one run on one machine. Operations are those of the matrix
products that were executed; element-wise work counts as time but not as operations.
"""

from __future__ import annotations

import platform
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stem_core.diffusion.denoiser import Denoiser
from stem_core.diffusion.parameterisation import estimate_noise
from stem_core.diffusion.precision import PRECISIONS, choose_precision, in_precision
from stem_core.diffusion.samplers import sample_ancestral
from stem_core.diffusion.schedule import Schedule
from stem_core.model.config import PUBLISHED_PRESETS, DenoiserConfig
from stem_core.prediction.predictor import Predictor
from stem_core.prediction.sampling import draw_targets
from stem_core.prediction.settings import SamplingSettings

__all__ = [
    "PUBLISHED",
    "TIMED_STEPS",
    "Timing",
    "describe_machine",
    "matrix_peak",
    "operations",
    "time_model",
    "time_published",
    "time_size",
]

PUBLISHED = PUBLISHED_PRESETS.published.settings()
TIMED_STEPS = 20
_BATCHES = {"cpu": (1, 2, 4), "cuda": (1, 8, 32, 128)}
_REPEATS = 3
_AT_LEAST_S = 1.0  # of work per repeat of a preset
_PEAK_SIDES = {"cpu": (512, 1024, 2048), "cuda": (4096, 8192)}
_LONG_S = 1.0


@dataclass(frozen=True)
class Timing:
    """How long sampling takes.

    Attributes
    ----------
    s_per_spot
        Seconds per spot.
    gflops
        1e9 executed operations a second.
    precision
        `fp32` or `bf16`.
    peak_mb
        Peak memory of the process (of the GPU, there) meanwhile, 1e6 bytes.
    spots
        Spots timed together.
    """

    s_per_spot: float
    gflops: float
    precision: str
    peak_mb: float
    spots: int


def operations(size: DenoiserConfig, sequences: int, spots: int) -> float:
    """Count the operations of matrix products in one evaluation of some spots' samples."""
    g, d = size.genes, size.width
    block = 2 * g * d * d * (4 + 2 * size.mlp_ratio) + 4 * g * g * d
    per_sequence = size.depth * block + 2 * g * d * (size.gene_inputs + d + 2)
    label = (size.label_width or size.condition_width) * (size.condition_width + d)
    per_spot = 2 * (label + d * (256 + d)) + size.depth * 12 * d * d + 4 * d * d
    return sequences * per_sequence + spots * per_spot


def matrix_peak(device: torch.device) -> dict[str, float]:
    """Measure the best speed of large matrix products, 1e9 operations a second by precision."""
    peak = {}
    for name, kind in PRECISIONS.items():
        best = 0.0
        for side in _PEAK_SIDES[device.type]:
            a = torch.randn(side, side, device=device).to(kind)
            for _ in range(6):
                elapsed_s = _timed(lambda a=a: a @ a, device)  # type: ignore[misc]
                best = max(best, 2 * side**3 / elapsed_s / 1e9)
                if elapsed_s > _LONG_S:  # a format that this processor only emulates
                    break
            if elapsed_s > _LONG_S:
                break
        peak[name] = best
    return peak


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Name what the figures belong to."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text(encoding="utf-8").splitlines()
        name = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), name)
    return {
        "device": device.type,
        "cpu": name,
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def _timed(work: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:  # not Linux: the peak is then that of the whole run
        return


def _peak_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM"):
                return float(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


@torch.inference_mode()
def time_published(denoiser: Denoiser, schedule: Schedule, device: torch.device) -> Timing:
    """Time the published procedure in fp32, at the best of a few batch sizes.

    20 of its 1000 steps are run and scaled. The network is evaluated once per sample and step, also
    where a symmetric one is made odd at twice the cost, and the noise is made beforehand: this
    reference is if anything too fast.
    """
    size, k = denoiser.config, PUBLISHED.samples
    timesteps = np.arange(schedule.steps - TIMED_STEPS, schedule.steps)
    best = Timing(float("inf"), 0.0, "fp32", 0.0, 0)
    _reset_peak(device)
    for spots in _BATCHES[device.type]:
        label = torch.randn(spots, size.condition_width, device=device)
        means = torch.randn(spots, size.genes, device=device) if size.gene_inputs > 1 else None
        noise = torch.randn(spots, k, size.genes, device=device)

        def denoise(
            x: Tensor, t: int, label: Tensor = label, means: Tensor | None = means
        ) -> tuple[Tensor, Tensor]:
            return estimate_noise(denoiser, schedule, x, np.full(len(x), t), label, means)

        denoise(noise, 0)  # warm
        elapsed_s = _timed(
            lambda denoise=denoise, noise=noise: sample_ancestral(  # type: ignore[misc]
                denoise, noise, schedule, timesteps, lambda i: noise
            ),
            device,
        )
        s_per_spot = elapsed_s / spots * PUBLISHED.steps / TIMED_STEPS
        if s_per_spot < best.s_per_spot:
            done = operations(size, spots * k, spots) * TIMED_STEPS
            best = Timing(s_per_spot, done / elapsed_s / 1e9, "fp32", _peak_mb(device), spots)
    return best


def _time_preset(
    draw: Callable[[int], object],
    size: DenoiserConfig,
    settings: SamplingSettings,
    precision: str,
    device: torch.device,
) -> Timing:
    """Time `draw(spots)`, with enough spots for a second's work, several times."""

    def once(spots: int) -> float:
        return _timed(lambda: draw(spots), device)

    spots = 4
    _reset_peak(device)
    while once(spots) < _AT_LEAST_S and spots < 2**16:
        spots *= 2
    s_per_spot = median(once(spots) for _ in range(_REPEATS)) / spots
    done = operations(size, settings.samples, 1) * settings.steps
    return Timing(s_per_spot, done / s_per_spot / 1e9, precision, _peak_mb(device), spots)


def time_model(predictor: Predictor, settings: SamplingSettings) -> Timing:
    """Time a loaded model from condition to mean, spread and band; encoding is not part of it."""
    model = predictor.model
    random, conditions = np.random.default_rng(0), model.generator.invented_condition
    lattice = torch.from_numpy(conditions(200, random)).to(predictor.device)
    level = model.generator.slide_level(lattice)
    made: dict[int, np.ndarray[Any, np.dtype[np.float32]]] = {}

    def draw(spots: int) -> object:
        if spots not in made:  # in the first, warming call, not in those that count
            made[spots] = conditions(spots, random)
        return predictor.draw(made[spots], level, [f"s{i}" for i in range(spots)], settings)

    size = model.generator.denoiser.config
    return _time_preset(draw, size, settings, predictor.precision, predictor.device)


def time_size(size: DenoiserConfig, settings: SamplingSettings, device: torch.device) -> Timing:
    """Time a denoiser of a size with random weights, in the faster precision of this machine."""
    precision = choose_precision(size, device)
    denoiser = in_precision(Denoiser(size).to(device).eval(), precision)

    def draw(spots: int) -> object:
        label = torch.zeros(spots, size.condition_width, device=device)
        ids = [f"s{i}" for i in range(spots)]
        return draw_targets(denoiser, Schedule(), label, None, ids, settings)

    return _time_preset(draw, size, settings, precision, device)
