"""The choice of preset and seed, with the time a run will take where that is known."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

import streamlit as st

from app.components.wording import count, duration
from app.jobs.model import JobStatus
from zoo.manifest import Manifest

__all__ = ["Quality", "expected_s", "pick_quality"]


@dataclass(frozen=True)
class Quality:
    """The sampling fields of a job request."""

    preset: str
    sampler: str
    steps: int
    samples: int
    seed: int


def pick_quality(manifest: Manifest, n_spots: int | None, earlier: list[JobStatus]) -> Quality:
    """Show the three presets and the seed."""
    name = st.segmented_control(
        "Quality", ["preview", "standard", "published"], default="standard", required=True,
        format_func=str.capitalize, key="preset",
        help="More steps and samples make the mean steadier and the spread truer, and take longer.",
    )  # fmt: skip
    preset = getattr(manifest.presets, name or "standard")
    with st.expander("Seed"):
        seed = st.number_input(
            "Seed", min_value=0, max_value=2**31 - 1, value=0, step=1, key="seed",
            label_visibility="collapsed",
            help="The same seed gives the same result.",
        )  # fmt: skip
    quality = Quality(name or "standard", preset.sampler, preset.steps, preset.samples, int(seed))
    words = (
        f"{count(quality.steps, 'step')} × {count(quality.samples, 'sample')} for each spot, "
        f"sampler {quality.sampler}."
    )
    seconds = expected_s(manifest.name, quality, n_spots, earlier)
    if seconds is None:
        words += " Time: known after the first run with this model."
    else:
        words += f" About {duration(seconds)}, judging by earlier runs here."
    st.caption(words)
    return quality


def expected_s(
    model: str, quality: Quality, n_spots: int | None, earlier: list[JobStatus]
) -> float | None:
    """Return how long a run will take, in seconds, from the finished runs of the same model.

    The time of a run is taken as proportional to spots × steps × samples; with several runs the
    ones of the same settings are preferred, and the median decides. None where there is none.
    """
    if not n_spots:
        return None
    same: list[float] = []
    scaled: list[float] = []
    for run in earlier:
        if run.state != "done" or run.request.model != model or not run.n_spots:
            continue
        if run.started_s is None or run.finished_s is None:
            continue
        seconds = (run.finished_s - run.started_s) * n_spots / run.n_spots
        work = run.request.steps * run.request.samples
        if (run.request.steps, run.request.samples) == (quality.steps, quality.samples):
            same.append(seconds)
        scaled.append(seconds * quality.steps * quality.samples / work)
    found = same or scaled
    return median(found) if found else None
