"""Where expression will be predicted: the layout or file, and a warning where it is unusual."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import streamlit as st

from app import uploads
from app.components.slide_doors import store_chosen
from app.components.wording import plain
from app.spots import layout_words
from app.state import Keys
from stem_core.errors import StemError
from stem_core.model.config import LAYOUTS, LayoutKind, SpotLayout

__all__ = ["SpotChoice", "pick_spots"]


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
