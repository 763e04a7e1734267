"""What a session remembers, and what all sessions share."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from app import uploads
from app.jobs.queue import JobQueue

__all__ = ["ChosenFile", "Keys", "job_queue", "start_session"]


class Keys:
    """All keys of `st.session_state` that are not those of a single widget."""

    SLIDE = "slide"
    SLIDE_FAULT = "slide_fault"
    SPOTS_FILE = "spots_file"
    SPOTS_FAULT = "spots_fault"
    MODEL = "model"
    UPLOADER_TURN = "uploader_turn"
    RUN_ASKED = "run_asked"  # until the page has started the run
    LAST_RUN = "last_run"
    ACCEPTED_LICENCES = "accepted_licences"
    # Of the Models page: the open question and its model; what was downloaded or deleted here and
    # so stays in sight; what the next run of the page has to tell; downloads asked to stop.
    MODELS_QUESTION = "models_question"
    MODELS_TOUCHED = "models_touched"
    MODELS_NEWS = "models_news"
    MODELS_STOPPING = "models_stopping"
    # Of the Maps page: the panel that choices change; the key of a search box and what was typed
    # there in vain; what became of the lists of genes, by panel; the gene that lists compare with;
    # the gene last chosen in a list, and the one last chosen elsewhere.
    ACTIVE_MAP = "maps_active"
    GENE_SOUGHT = "gene_sought"
    GENE_SETS = "gene_sets"
    LIST_GENE = "list_gene"
    LIST_CHOICE = "list_choice"
    RUN_PARAMETER = "run"


@dataclass(frozen=True)
class ChosenFile:
    """A file that was handed in: its upload id, and its own name, for display only."""

    upload_id: str
    name: str

    @property
    def is_sample(self) -> bool:
        """Whether it is the synthetic sample slide."""
        return self.upload_id == uploads.SAMPLE_UPLOAD_ID


def start_session() -> None:
    """Give every key its first value."""
    for key in (Keys.SLIDE, Keys.SLIDE_FAULT, Keys.SPOTS_FILE, Keys.SPOTS_FAULT,
                Keys.MODEL, Keys.LAST_RUN):  # fmt: skip
        st.session_state.setdefault(key, None)
    st.session_state.setdefault(Keys.UPLOADER_TURN, 0)


@st.cache_resource(show_spinner=False)
def job_queue() -> JobQueue:
    """Return the queue of runs, shared by all sessions."""
    return JobQueue()
