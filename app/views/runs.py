"""Runs: all runs of this installation, to open or delete."""

from __future__ import annotations

import streamlit as st

from app.components.model_cards import manifests_by_name
from app.components.run_progress import bar_text
from app.components.wording import (
    STATE_BADGES,
    count,
    duration,
    moment,
    own_names,
    plain,
    run_words,
)
from app.jobs.model import JobStatus
from app.state import Keys, job_queue
from stem_core.errors import StemError

RUNS_A_PAGE = 20


@st.dialog("Delete this run?")
def confirm_delete(status: JobStatus) -> None:
    """Ask before all files of a run are removed."""
    st.markdown(
        f"**{plain(status.request.slide_name)}**, started {moment(status.created_s)}. Its result "
        "and its copy of the slide are removed from this computer; this cannot be undone."
    )
    with st.container(horizontal=True, horizontal_alignment="right"):
        if st.button("Keep it"):
            st.rerun()
        if st.button("Delete", type="primary", icon=":material/delete:", key="confirm_delete"):
            with st.spinner("Deleting …"):
                try:
                    job_queue().delete(status.id)
                except StemError as error:
                    st.error(plain(str(error)))
                    return
            if st.session_state[Keys.LAST_RUN] == status.id:
                st.session_state[Keys.LAST_RUN] = None
            st.rerun()


st.title("Runs")
runs = job_queue().list()
if not runs:
    st.markdown("There are no runs yet.")
    st.page_link("views/predict.py", label="Start a prediction", icon=":material/biotech:")
    st.stop()
manifests = manifests_by_name()
st.caption(
    f"{count(len(runs), 'run')} on this computer, newest first. Everyone who can open this page "
    "sees them."
)
if sum(status.state == "done" for status in runs) > 1:
    st.page_link("views/compare.py", label="Compare two runs", icon=":material/compare:")
pages = -(-len(runs) // RUNS_A_PAGE)
page = st.pagination(pages, key="runs_page") if pages > 1 else 1
shown = runs[(page - 1) * RUNS_A_PAGE : page * RUNS_A_PAGE]
waiting = any(not status.finished for status in shown)


@st.fragment(run_every="2s" if waiting else None)
def run_list() -> None:
    """Show a card for each run."""
    for earlier in shown:
        try:
            status = earlier if earlier.finished else job_queue().status(earlier.id)
        except StemError:
            st.rerun()
        if status.finished and not earlier.finished:
            st.rerun()
        with st.container(border=True, key=f"run_{status.id}"):
            show_run(status)


def show_run(status: JobStatus) -> None:
    """Show what a run is, how it stands, and what can be done with it."""
    words, icon, colour = STATE_BADGES[status.state]
    facts, buttons = st.columns([4, 1.5], vertical_alignment="center")
    with facts:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{plain(status.request.slide_name)}**", width="content")
            st.badge(words, icon=icon, color=colour)
        line = (
            f"{moment(status.created_s)} · {run_words(status, manifests.get(status.request.model))}"
        )
        if status.started_s and status.finished_s:
            line += f" · took {duration(status.finished_s - status.started_s)}"
        st.caption(line)
        if status.state == "failed":
            sentence = own_names(status.message, status.request.slide_name)
            st.caption(f":red[{plain(sentence)}]")
        elif not status.finished:
            st.caption(bar_text(status))
    with buttons.container(horizontal=True, horizontal_alignment="right"):
        if st.button("Open", key=f"open_{status.id}", icon=":material/map:"):
            st.switch_page("views/results.py", query_params={Keys.RUN_PARAMETER: status.id})
        if st.button(
            "Delete", key=f"delete_{status.id}", icon=":material/delete:", type="tertiary"
        ):
            confirm_delete(status)


run_list()
