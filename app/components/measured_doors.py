"""The ways in for a measured section: upload, and the server's own folder."""

from __future__ import annotations

import tempfile
from pathlib import Path

import streamlit as st

from app import paths
from app.components.wording import count, plain
from app.maps.measured_places import list_measured, measured_place
from app.maps.runs import set_measured
from stem_core.analysis.measured_files import read_measured
from stem_core.errors import StemError
from stem_core.prediction.result import Prediction

__all__ = ["ask_for_measured", "measured_news"]

_TURN = "measured_turn"  # an uploader is emptied by a new key
_FAULT = "measured_fault"
_NEWS = "measured_news"


def ask_for_measured(run_id: str, prediction: Prediction) -> None:
    """Show the doors; what came through one is matched and kept with the run."""
    fault = st.session_state.pop(_FAULT, None)
    if fault:
        st.error(fault, icon=":material/error:")
    given = st.file_uploader(
        "Measured section of this slide: h5ad, or a zip of Space Ranger's outs", width=560,
        type=["h5ad", "h5", "zip"], key=f"measured_file_{st.session_state.get(_TURN, 0)}",
        help="h5ad: raw counts in X (or layers['counts']). Zip: filtered_feature_bc_matrix.h5 and "
        "spatial/tissue_positions.csv, in any folder. Spots are matched by name, else by position "
        "in level-0 pixels; genes by symbol or Ensembl id.",
    )  # fmt: skip
    if given is not None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "measured"
            path.write_bytes(given.getvalue())
            _take(run_id, prediction, path, given.name)
        st.session_state[_TURN] = st.session_state.get(_TURN, 0) + 1  # the page forgets the bytes
        st.rerun()
    if paths.slide_dir() is not None:
        _show_server_folder(run_id, prediction)


def measured_news(run_id: str) -> str:
    """Return how the section was matched, if it was given in this session; "" else."""
    of_run, words = st.session_state.get(_NEWS, ("", ""))
    return str(words) if of_run == run_id else ""


def _show_server_folder(run_id: str, prediction: Prediction) -> None:
    places = list_measured()
    if not places:
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        place = st.selectbox(
            "Section on the server", places, index=None, placeholder="Type to search", width=420,
            key="server_measured",
        )  # fmt: skip
        go = st.button("Take it", disabled=place is None, key="take_server_measured")
    if not go or place is None:
        return
    try:
        path = measured_place(place)
    except StemError as error:
        st.session_state[_FAULT] = plain(str(error))
    else:
        _take(run_id, prediction, path, place.rsplit("/", 1)[-1])
    st.rerun()


def _take(run_id: str, prediction: Prediction, path: Path, name: str) -> None:
    """Match a section and keep it with the run, or keep the reason why not."""
    st.session_state[_FAULT] = None
    try:
        with st.spinner("Matching spots and genes …"):
            measured = read_measured(path, prediction, source=name)
        set_measured(run_id, measured.values)
    except StemError as error:
        st.session_state[_FAULT] = plain(str(error))
        return
    spots = int(measured.spots.sum())
    words = f"{count(spots, 'spot')} of {len(measured.spots):,} matched by {measured.matched_by}."
    words = " ".join([words, *map(plain, measured.doubts)])
    st.session_state[_NEWS] = (run_id, words)
