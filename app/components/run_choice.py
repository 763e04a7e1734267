"""The run that a page shows: taken from the address, or the last one of the session."""

from __future__ import annotations

import streamlit as st

from app.components.wording import plain
from app.jobs.model import JobStatus
from app.state import Keys, job_queue
from stem_core.errors import StemError

__all__ = ["chosen_run"]


def chosen_run(title: str) -> tuple[str, JobStatus]:
    """Return the run's id and status; where there is none, say so and stop the page."""
    run_id = st.query_params.get(Keys.RUN_PARAMETER) or st.session_state[Keys.LAST_RUN]
    if not run_id:
        st.title(title)
        st.markdown("No run is chosen.")
        st.page_link("views/runs.py", label="Choose a run", icon=":material/list:")
        st.page_link("views/predict.py", label="Start a prediction", icon=":material/biotech:")
        st.stop()
    try:
        status = job_queue().status(run_id)
    except StemError as error:
        st.session_state[Keys.LAST_RUN] = None
        st.title(title)
        st.error(plain(str(error)), icon=":material/link_off:")
        st.page_link("views/runs.py", label="All runs", icon=":material/list:")
        st.stop()
    st.query_params[Keys.RUN_PARAMETER] = run_id
    st.session_state[Keys.LAST_RUN] = run_id
    return str(run_id), status
