"""Which two runs are set beside each other, and why others cannot be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from app.components.wording import count, moment, plain, run_words
from app.jobs.model import JobStatus
from app.maps.pairs import slide_mark
from app.state import Keys, job_queue
from stem_core.errors import StemError
from stem_core.model.manifest import Manifest

__all__ = ["OTHER_PARAMETER", "pick_runs"]

OTHER_PARAMETER = "with"


def pick_runs(manifests: Mapping[str, Manifest]) -> tuple[JobStatus, JobStatus]:
    """Show the choice of two runs of one slide and return them; stop the page where there is none.

    The address is asked first, then the run that the session had last.
    """
    runs = job_queue().list()
    done = {status.id: status for status in runs if status.state == "done"}
    _refuse_unknown(done)
    if not done:
        st.markdown("No run is finished yet. Two finished runs of one slide are needed.")
        st.page_link("views/predict.py", label="Start a prediction", icon=":material/biotech:")
        st.stop()
    slides = _slides(list(done))
    last = st.query_params.get(Keys.RUN_PARAMETER) or st.session_state[Keys.LAST_RUN]
    if last not in done:
        last = _first_that_fits(done, slides, manifests)
    left, right = st.columns(2, gap="medium")
    first = left.selectbox(
        "Run A", list(done), index=list(done).index(last), key=f"run_a_{last}",
        format_func=lambda run: f"{done[run].request.slide_name} · {_label(done[run])}",
    )  # fmt: skip
    left.caption(run_words(done[first], manifests.get(done[first].request.model)))
    st.query_params[Keys.RUN_PARAMETER] = first
    partners = _partners(first, slides)
    if not partners:
        st.query_params.pop(OTHER_PARAMETER, None)
        _say_why_alone(done, runs)
        st.stop()
    partners.sort(key=lambda run: _disjoint(done[first], done[run], manifests))
    asked = st.query_params.get(OTHER_PARAMETER)
    if asked in done and asked not in partners and asked != first:
        st.warning(
            f"The run of {plain(done[asked].request.slide_name)} that the address names beside it "
            "is of another slide; runs are compared spot by spot on one slide.",
            icon=":material/link_off:",
        )
    second = right.selectbox(
        "Run B, of the same slide", partners, key=f"run_b_{first}_{asked}",
        index=partners.index(asked) if asked in partners else 0,
        format_func=lambda run: _label(done[run])
        + (" (no gene in common)" if _disjoint(done[first], done[run], manifests) else ""),
        help="Runs are compared spot by spot, so both must be finished and of one slide file.",
    )  # fmt: skip
    right.caption(run_words(done[second], manifests.get(done[second].request.model)))
    st.query_params[OTHER_PARAMETER] = second
    _say_who_is_left_out(len(runs), len(done), len(partners))
    return done[first], done[second]


def _first_that_fits(
    done: Mapping[str, JobStatus], slides: Mapping[str, str], manifests: Mapping[str, Manifest]
) -> str:
    """Return the newest run that has another one to be compared with, at best in some genes."""

    def merit(run: str) -> int:
        partners = _partners(run, slides)
        alike = any(not _disjoint(done[run], done[other], manifests) for other in partners)
        return bool(partners) + alike

    return max(done, key=merit)


def _refuse_unknown(done: Mapping[str, JobStatus]) -> None:
    """Say so where the address names a run that is not there, or not done; take it out."""
    for name in (Keys.RUN_PARAMETER, OTHER_PARAMETER):
        run = st.query_params.get(name)
        if not run or run in done:
            continue
        try:
            job_queue().status(run)
            sentence = "A run that the address names has no result (yet)."
        except StemError as error:
            sentence = str(error)
        st.error(plain(sentence), icon=":material/link_off:")
        del st.query_params[name]


def _slides(runs: Sequence[str]) -> dict[str, str]:
    """Return what tells the slide of each run apart; a run deleted meanwhile is left out."""
    marks = {}
    for run in runs:
        try:
            marks[run] = slide_mark(run)
        except StemError:
            continue
    return marks


def _partners(run: str, slides: Mapping[str, str]) -> list[str]:
    mine = slides.get(run)
    return [other for other, mark in slides.items() if other != run and mark == mine]


def _disjoint(one: JobStatus, other: JobStatus, manifests: Mapping[str, Manifest]) -> bool:
    """Whether the models of two runs are known to share no gene."""
    known = [manifests.get(status.request.model) for status in (one, other)]
    first, second = (set(manifest.symbols) if manifest else None for manifest in known)
    return first is not None and second is not None and first.isdisjoint(second)


def _label(status: JobStatus) -> str:
    request = status.request
    return (
        f"{request.model} · {request.steps} × {request.samples}, seed {request.seed} · "
        f"{moment(status.created_s)}"
    )


def _say_why_alone(done: Mapping[str, JobStatus], runs: Sequence[JobStatus]) -> None:
    unfinished = len(runs) - len(done)
    others = len(done) - 1
    reasons = []
    if others:
        reasons.append(f"{count(others, 'other finished run')} {_are(others)} of other slides")
    if unfinished:
        reasons.append(f"{count(unfinished, 'run')} {_have(unfinished)} no result (yet)")
    st.markdown(
        "There is no other finished run of this slide"
        + (f": {' and '.join(reasons)}. " if reasons else ". ")
        + "Predict the same slide once more, with another model or other settings, to compare."
    )
    st.page_link("views/predict.py", label="Start a prediction", icon=":material/biotech:")
    st.page_link("views/runs.py", label="All runs", icon=":material/list:")


def _say_who_is_left_out(all_runs: int, done: int, partners: int) -> None:
    """Say which runs cannot be chosen as B, and why."""
    reasons = []
    if elsewhere := done - 1 - partners:
        reasons.append(f"{count(elsewhere, 'finished run')} {_are(elsewhere)} of other slides")
    if unfinished := all_runs - done:
        reasons.append(f"{count(unfinished, 'run')} {_have(unfinished)} no result (yet)")
    if reasons:
        st.caption(
            "Runs are compared spot by spot, so both must be finished and of the same slide file; "
            f"not offered: {' and '.join(reasons)}."
        )


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _have(number: int) -> str:
    return "has" if number == 1 else "have"
