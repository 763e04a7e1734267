"""A run that is not finished: its place in the queue, how far it is, time left, cancel."""

from __future__ import annotations

import time

import streamlit as st

from app.components.wording import count, duration, plain
from app.jobs.model import JobStatus
from app.state import job_queue

__all__ = ["bar_text", "overall_fraction", "show_progress"]

_STAGES = {
    "": ("Starting", 0.0, 0.02),
    "prepare": ("Opening the slide and placing the spots", 0.02, 0.05),
    "survey": ("Looking over the whole slide", 0.05, 0.25),
    "predict": ("Predicting", 0.25, 0.97),
    "write": ("Writing the files", 0.97, 1.0),
}
"""Words of each stage, and the part of the bar it takes."""


def overall_fraction(status: JobStatus) -> float:
    """Return how far the whole run is, 0 to 1; never goes back from one stage to the next."""
    if status.state == "queued":
        return 0.0
    _, start, end = _STAGES.get(status.stage, _STAGES[""])
    return start + (end - start) * status.fraction


def bar_text(status: JobStatus) -> str:
    """Return how a waiting or running run stands, in words."""
    if status.state == "queued":
        place = status.queue_position
        if place is None or place <= 1:
            words = "Next in the queue"
        else:
            words = f"Waiting: {count(place - 1, 'run')} before this one"
    else:
        words = _STAGES.get(status.stage, _STAGES[""])[0]
        if status.total > 1:
            words += f" · {status.done:,} of {status.total:,} {status.unit}".replace(",", "\u202f")
        if status.eta_s is not None:
            words += f" · about {duration(status.eta_s)} left"
        elif status.started_s is not None:
            words += f" · {duration(time.time() - status.started_s)} so far"
    return f"{words} · {plain(status.message)}" if status.message else words


@st.fragment(run_every="1s")
def show_progress(run_id: str) -> None:
    """Show progress every second; reload the page once the run has finished."""
    status = job_queue().status(run_id)
    if status.finished:
        st.rerun()
    st.progress(overall_fraction(status), text=bar_text(status))
    st.caption("The run goes on without this page; its address leads back here from any browser.")
    if st.button("Cancel this run", icon=":material/stop_circle:", key="cancel_run"):
        with st.spinner("Cancelling …"):
            job_queue().cancel(run_id)
        st.rerun()
