"""The choice of preset and seed, with the quality to expect and the time it will take here."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from app.components.wording import count, duration
from app.jobs.speed import expected_s, read_speed
from stem_core.model.manifest import Manifest

__all__ = ["Quality", "expected_quality", "pick_quality"]


@dataclass(frozen=True)
class Quality:
    """The sampling fields of a job request."""

    preset: str
    sampler: str
    steps: int
    samples: int
    seed: int

    @classmethod
    def of_preset(cls, manifest: Manifest, name: str, seed: int) -> Quality:
        """Return what the model's preset of this name and a seed make."""
        preset = getattr(manifest.presets, name)
        return cls(name, preset.sampler, preset.steps, preset.samples, seed)


def pick_quality(manifest: Manifest, n_spots: int | None, tissue_um2: float | None) -> Quality:
    """Show the three presets and the seed."""
    name = st.segmented_control(
        "Quality", ["preview", "standard", "published"], default="standard", required=True,
        format_func=str.capitalize, key="preset",
        help="How each spot is sampled. Standard is what the model's figures were measured with; "
        "published repeats the paper's procedure, which is about a thousand times slower.",
    )  # fmt: skip
    with st.expander("Seed"):
        seed = st.number_input(
            "Seed", min_value=0, max_value=2**31 - 1, value=0, step=1, key="seed",
            label_visibility="collapsed",
            help="The same seed gives the same result.",
        )  # fmt: skip
    quality = Quality.of_preset(manifest, name or "standard", int(seed))
    words = [
        f"{count(quality.steps, 'step')} × {count(quality.samples, 'sample')} for each spot, "
        f"sampler {quality.sampler}."
    ]
    expected = expected_quality(manifest, quality)
    if expected:
        words.append(expected)
    words.append(_time(manifest, quality, n_spots, tissue_um2))
    st.caption(" ".join(words))
    return quality


def expected_quality(manifest: Manifest, quality: Quality) -> str:
    """Say what the model reached on sections kept aside with these settings; "" if unknown."""
    curve = manifest.quality
    if curve is None:
        return ""
    for point in curve.points:
        if (point.sampler, point.steps, point.samples) == (
            quality.sampler, quality.steps, quality.samples,
        ):  # fmt: skip
            return (
                f"On sections kept aside: PCC {point.pcc_all:.2f} over the panel, "
                f"{100 * point.coverage_90:.0f}\u00a0% of measured values in the 90\u00a0% band, "
                f"error of single draws (CRPS) {point.crps:.2f} log2(1 + count)."
            )
    if quality.preset == "published":
        versus = curve.against_published
        side = "lower" if versus.pcc_all > 0 else "higher"
        return (
            f"Compared with standard on {versus.spots} spots kept aside: PCC {side} by "
            f"{abs(versus.pcc_all):.3f}, CRPS of single draws × {1 / versus.crps_ratio:.2f} (below "
            "1 is better)."
        )
    return ""


def _time(
    manifest: Manifest, quality: Quality, n_spots: int | None, tissue_um2: float | None
) -> str:
    speed = read_speed(manifest.name)
    if speed is None:
        return "Time: known once the worker has measured this machine."
    if not n_spots or tissue_um2 is None:
        return ""
    seconds = expected_s(
        speed, manifest, sampler=quality.sampler, steps=quality.steps, samples=quality.samples,
        n_spots=n_spots, tissue_um2=tissue_um2,
    )  # fmt: skip
    return f"About {duration(seconds)} on this machine."
