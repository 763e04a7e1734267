"""`stem benchmark sampler`: what the published procedure and the presets cost on this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stem_core.diffusion.denoiser import Denoiser
from stem_core.diffusion.schedule import Schedule
from stem_core.evaluation.speed import (
    PUBLISHED,
    TIMED_STEPS,
    Timing,
    describe_machine,
    matrix_peak,
    time_model,
    time_published,
    time_size,
)
from stem_core.model.config import PUBLISHED_PRESETS, DenoiserConfig
from stem_core.prediction.predictor import Predictor, choose_device
from stem_core.prediction.settings import SamplingSettings
from zoo.loader import load_model
from zoo.registry import find_model, list_models

__all__ = ["PUBLISHED_SIZE", "benchmark_sampler", "sampler_table"]

PUBLISHED_SIZE = "published-size"
_PRESETS = ("preview", "standard")


def benchmark_sampler(
    device: str = "auto",
    models: Sequence[str] = (),
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Measure, one model after the other.

    Parameters
    ----------
    device
        `auto`, `cpu` or `cuda`.
    models
        Names; all installed ones and `published-size` (the publication's network with random
        weights: speed does not depend on them) where none are given.
    progress
        Told what is being measured.

    Returns
    -------
    dict
        JSON-able: `machine`, and per model `published` and `presets`.

    Raises
    ------
    UnknownModelError, SettingsError
        A model or the device cannot be had.
    """
    where = choose_device(device)
    names = list(models) or [*(entry.name for entry in list_models()), PUBLISHED_SIZE]
    folders = {name: find_model(name).folder for name in names if name != PUBLISHED_SIZE}
    say = progress or (lambda _: None)
    say("matrix products")
    peak = matrix_peak(where)
    timed: dict[str, dict[str, tuple[Timing, SamplingSettings]]] = {}
    for name in names:
        say(f"{name}: published procedure")
        if name == PUBLISHED_SIZE:
            size = DenoiserConfig()
            published = time_published(Denoiser(size).to(where).eval(), Schedule(), where)
            presets = PUBLISHED_PRESETS
        else:
            model = load_model(folders[name])
            predictor = Predictor(model, device)
            published = time_published(model.generator.denoiser, model.schedule, where)
            presets = model.manifest.presets
        timed[name] = {"published": (published, PUBLISHED)}
        for preset in _PRESETS:
            settings = getattr(presets, preset).settings()
            say(f"{name}: {preset}")
            timing = (
                time_size(size, settings, where)
                if name == PUBLISHED_SIZE
                else time_model(predictor, settings)
            )
            timed[name][preset] = timing, settings
        # The best of the whole run: other work on the machine may slow any one moment.
        peak = {kind: max(speed, peak[kind]) for kind, speed in matrix_peak(where).items()}
    machine = {**describe_machine(where), "peak_gflops": peak}
    return {"machine": machine, "models": {name: _model(t, peak) for name, t in timed.items()}}


def _model(
    timed: dict[str, tuple[Timing, SamplingSettings]], peak: dict[str, float]
) -> dict[str, Any]:
    rows: dict[str, dict[str, Any]] = {
        name: {
            "s_per_spot": timing.s_per_spot,
            "peak_share": timing.gflops / peak[timing.precision],
            "peak_mb": timing.peak_mb,
            "precision": timing.precision,
            "spots_at_once": timing.spots,
            "sampler": settings.sampler,
            "steps": settings.steps,
            "samples": settings.samples,
        }
        for name, (timing, settings) in timed.items()
    }
    published = rows.pop("published") | {"steps_timed": TIMED_STEPS}
    ratios = {name: published["s_per_spot"] / row["s_per_spot"] for name, row in rows.items()}
    return {
        "published": published,
        "presets": {name: row | {"ratio": ratios[name]} for name, row in rows.items()},
    }


def sampler_table(found: dict[str, Any]) -> str:
    """Set the figures out as text."""
    machine = found["machine"]
    peak = ", ".join(f"{name} {speed:.0f}" for name, speed in machine["peak_gflops"].items())
    lines = [
        f"{machine['gpu'] or machine['cpu']}, {machine['threads']} threads, "
        f"torch {machine['torch']}; large matrix products, GFLOP/s: {peak}",
        "The published procedure is 1000 ancestral steps × 20 samples in fp32, one evaluation of "
        "the network each;",
        f"{TIMED_STEPS} of its steps were run at its best batch size, and scaled. Presets: from "
        "condition to mean, spread and band.",
        "",
        f"{'model':22s} {'procedure':10s} {'sampler':18s} {'s per spot':>12s} {'ratio':>8s} "
        f"{'of peak':>8s} {'memory':>9s}",
    ]
    for name, model in found["models"].items():
        rows = {"published": model["published"] | {"ratio": 1.0}}
        for label, row in (rows | model["presets"]).items():
            how = f"{row['sampler']} {row['steps']}×{row['samples']}"
            share = f"{row['peak_share']:.0%} {row['precision']}"
            lines.append(
                f"{name:22s} {label:10s} {how:18s} {row['s_per_spot']:12.3g} "
                f"{row['ratio']:8.0f} {share:>8s} {row['peak_mb']:6.0f} MB"
            )
    return "\n".join(lines)
