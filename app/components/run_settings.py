"""The settings of a run: spots, preset and seed, with the quality and the time to expect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import streamlit as st

from app import uploads
from app.components.slide_sources import store_chosen
from app.components.wording import count, duration, plain
from app.jobs.speed import expected_s, read_speed
from app.spots import layout_words
from app.state import Keys
from stem_core.errors import StemError
from stem_core.model.config import LAYOUTS, LayoutKind, SpotLayout
from stem_core.model.manifest import Manifest

__all__ = ["Quality", "SpotChoice", "expected_quality", "pick_quality", "pick_spots"]


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


@dataclass(frozen=True)
class SpotChoice:
    """The fields of a job request that say where the spots are."""

    kind: Literal["layout", "file"]
    layout: LayoutKind | None = None
    pitch_um: float | None = None
    spots_upload_id: str | None = None


def pick_spots(trained_on: SpotLayout) -> SpotChoice | None:
    """Show the choices; None while something is still missing."""
    words: dict[str, str] = {
        "model": f"As trained: {layout_words(trained_on)}",
        "visium": "Visium: 55 µm spots, 100 µm apart, hexagonal",
        "st": "ST: 100 µm spots, 200 µm apart, square",
        "grid": "Square grid with a pitch of your own",
        "file": "Measured spots from a file",
    }
    usual = LAYOUTS.get(trained_on.kind)
    if usual == trained_on:
        words.pop(trained_on.kind, None)  # the same as the first choice
    if st.session_state.get("spots_kind", "model") not in words:
        st.session_state["spots_kind"] = "model"
    kind = st.radio("Spots", list(words), format_func=words.__getitem__, key="spots_kind",
                    persist_state="session")  # fmt: skip
    if kind == "file":
        return _pick_file()
    if kind == "grid":
        pitch = st.number_input(
            "Pitch (µm, centre to centre)", min_value=10.0, max_value=5000.0,
            value=float(trained_on.pitch_um), step=10.0, format="%g", key="pitch_um",
        )  # fmt: skip
        st.caption(f"Spot diameter as trained: {trained_on.spot_diameter_um:g} µm.")
        return SpotChoice("layout", "grid", float(pitch))
    return SpotChoice("layout", "visium" if kind == "visium" else "st" if kind == "st" else None)


def _pick_file() -> SpotChoice | None:
    chosen = st.session_state[Keys.SPOTS_FILE]
    if chosen is not None:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f":material/description: {plain(chosen.name)}", width="content")
            if st.button("Another file", type="tertiary", key="other_spots"):
                st.session_state[Keys.SPOTS_FILE] = None
                st.rerun()
        return SpotChoice("file", spots_upload_id=chosen.upload_id)
    file = st.file_uploader(
        "Spots file, up to 200 MB",
        type=[suffix[1:] for suffix in uploads.SPOTS_SUFFIXES],
        max_upload_size=200,
        key=f"spots_upload_{st.session_state[Keys.UPLOADER_TURN]}",
        help=(
            'An h5ad with obsm["spatial"], Space Ranger\'s tissue_positions.csv, or a CSV with the '
            "columns x_px and y_px: pixels of the full-resolution image, x to the right, y down."
        ),
    )
    if file is not None:
        try:
            st.session_state[Keys.SPOTS_FILE] = store_chosen(file)
            st.session_state[Keys.SPOTS_FAULT] = None
        except StemError as error:
            st.session_state[Keys.SPOTS_FAULT] = plain(str(error))
        st.session_state[Keys.UPLOADER_TURN] += 1
        st.rerun()
    if st.session_state[Keys.SPOTS_FAULT]:
        st.error(st.session_state[Keys.SPOTS_FAULT], icon=":material/error:")
    return None
