"""A card of the Models page: what a model is, where it is, and what can be done with it."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from app.components.model_cards import choose_model, show_held_out, show_licences
from app.components.wording import BadgeColour, data_size, duration, fact, plain
from app.jobs.pulls import PullStatus, forget_pull, read_pull, start_pull, stop_pull
from app.state import Keys
from stem_core.encoders.catalogue import encoder_facts
from stem_core.errors import StemError
from zoo.entries import ModelEntry
from zoo.hub_access import endpoint, token
from zoo.registry import OWN_LIST, ModelListing, missing_encoders
from zoo.store import faulty_files, pinned_revision

__all__ = ["STATES", "cannot_run", "gated_words", "show_card", "size_bytes"]

STATES: dict[Literal["installed", "available", "update"], tuple[str, str, BadgeColour]] = {
    "installed": ("Installed", ":material/check:", "green"),
    "available": ("Available", ":material/cloud_download:", "gray"),
    "update": ("Update", ":material/upgrade:", "orange"),
}
"""Words, icon and colour of an offer's state."""

_GATED = ":orange-badge[:material/lock: Gated]"
_RUNNING: tuple[str, str, BadgeColour] = ("Downloading", ":material/downloading:", "blue")
_SHORT_REVISION = 12
_STAGES = {
    "starting": ("Starting", 0.0, 0.0),
    "waiting": ("Waiting for another download of this model", 0.0, 0.0),
    "listing": ("Asking the Hub for its files", 0.0, 0.0),
    "download": ("Downloading", 0.0, 0.9),
    "convert": ("Converting the checkpoint", 0.9, 0.9),
    "check": ("Checking that it loads", 0.95, 0.95),
}
"""Words of each stage of a pull, and the part of the bar it takes."""


def show_card(offer: ModelListing, pull: PullStatus | None) -> None:
    """Show a model and, below, its buttons or how its pull is doing."""
    entry = offer.entry
    running = pull is not None and pull.state == "running"
    with st.container(horizontal=True, wrap=False):
        st.markdown(f"#### {plain(entry.title)}", width="stretch")
        words, icon, colour = _RUNNING if running else STATES[offer.state]
        st.badge(words, icon=icon, color=colour)
    st.caption(f"{entry.name} · {_origin(offer)}")
    place = [fact("Tissue", entry.tissue), fact("Organ", entry.organ)]
    if entry.tissue.strip().lower() == entry.organ.strip().lower():
        place.pop()
    encoders = "Encoders" if len(entry.encoders) > 1 else "Encoder"
    lines = [
        [*place, fact("Species", entry.species)],
        [fact("Platform", entry.platform), fact("Disease", entry.disease or "none")],
        [fact("Genes", f"{entry.n_genes}, predicted in {entry.units}")],
        [f"**{encoders}** {_encoder_words(entry)}"],
        [fact("Licence of the weights", entry.licences.weights)],
        [fact("Size", _size_words(offer))],
    ]
    st.markdown("  \n".join(" · ".join(line) for line in lines))
    if entry.gated:
        st.caption(f":material/lock: {gated_words(entry)}")
    cannot = cannot_run(offer)
    if cannot:
        st.caption(f":material/block: {cannot}")
    held = offer.usable.manifest.held_out if offer.usable else entry.held_out
    with st.expander(
        f"**Held out:** PCC over {entry.n_genes} genes: {plain(held.summary)}",
        key=f"figures_{entry.name}",
    ):
        show_held_out(held, entry.title)
    with st.expander("Licences and citation", key=f"terms_{entry.name}"):
        show_licences(entry.licences, entry.encoders)
        st.markdown(f"**Version** {plain(entry.version)}  \n**Cite** {plain(entry.citation)}")
    st.space("stretch")
    if running:
        _show_pull(entry.name)
        return
    if pull is not None and pull.state in ("failed", "stopped"):
        _show_broken_off(offer, pull)
        return
    _show_buttons(offer, can_run=not cannot)


def _show_buttons(offer: ModelListing, *, can_run: bool) -> None:
    name = offer.entry.name
    if offer.usable is not None and st.button(
        "Use on the Predict page", key=f"use_{name}", icon=":material/biotech:", type="primary",
        width="stretch", disabled=not can_run,
    ):  # fmt: skip
        choose_model(name)
        st.switch_page("views/predict.py")
    if offer.state == "available":
        st.button(
            "Download", key=f"download_{name}", icon=":material/download:", type="primary",
            width="stretch", on_click=_ask, args=("download", name),
        )  # fmt: skip
        st.space("medium")  # the second row of the other states: the page does not jump
    verify = False
    with st.container(horizontal=True, vertical_alignment="center"):
        if offer.state == "update":
            st.button(
                "Update", key=f"update_{name}", icon=":material/upgrade:",
                on_click=_ask, args=("update", name),
            )  # fmt: skip
        if offer.record is not None:
            verify = st.button(
                "Verify", key=f"verify_{name}", icon=":material/fact_check:", type="tertiary",
                help="Reads all its files and compares them with what was downloaded.",
            )  # fmt: skip
        if offer.usable is not None or offer.record is not None:
            st.button(
                "Delete", key=f"delete_{name}", icon=":material/delete:", type="tertiary",
                disabled=offer.record is None, help=_why_kept(offer),
                on_click=_ask, args=("delete", name),
            )  # fmt: skip
    if offer.record is not None and verify:
        with st.spinner("Reading its files …"):
            faulty = faulty_files(offer.record.path, offer.record.files)
        if faulty:
            st.error(
                f"Not what was downloaded: {plain(', '.join(faulty))}. Delete the model and "
                "download it again.",
                icon=":material/error:",
            )
        else:
            st.success(
                f"All {len(offer.record.files)} files are what they were.", icon=":material/check:"
            )


@st.fragment(run_every="1s")
def _show_pull(name: str) -> None:
    """Show a pull's progress every second; reload the page once it has ended."""
    pull = read_pull(name)
    if pull is None or pull.state != "running":
        st.session_state.pop(Keys.MODELS_STOPPING, None)
        st.rerun()
    words, start, end = _STAGES.get(pull.stage, _STAGES["starting"])
    part = pull.done_bytes / pull.total_bytes if pull.total_bytes else 0.0
    pace = []
    if pull.stage == "download":
        words += f" {data_size(pull.done_bytes)} of {data_size(pull.total_bytes)}"
        if pull.bytes_per_s:
            pace.append(f"{data_size(pull.bytes_per_s)}/s")
        if pull.left_s is not None:
            pace.append(f"about {duration(pull.left_s)} left")
    st.progress(start + (end - start) * min(1.0, max(0.0, part)), text=words)
    with st.container(horizontal=True, vertical_alignment="center"):
        stopping = st.session_state.get(Keys.MODELS_STOPPING) == name
        st.button(
            "Stopping …" if stopping else "Stop", key=f"stop_{name}",
            icon=":material/stop_circle:", disabled=stopping, on_click=_stop, args=(name,),
        )  # fmt: skip
        st.caption(" · ".join(pace), width="content")


def _stop(name: str) -> None:
    stop_pull(name)
    st.session_state[Keys.MODELS_STOPPING] = name


def _show_broken_off(offer: ModelListing, pull: PullStatus) -> None:
    """Show how a pull ended that did not come to its end."""
    name = offer.entry.name
    if pull.state == "failed":
        st.error(plain(pull.sentence), icon=":material/error:")
    else:
        kept = f"; the {data_size(pull.done_bytes)} that came are kept" if pull.done_bytes else ""
        st.info(f"The download was stopped{kept}.", icon=":material/pause_circle:")
    with st.container(horizontal=True):
        again = st.button(
            "Try again" if pull.state == "failed" else "Go on", key=f"again_{name}",
            icon=":material/refresh:", type="primary",
        )  # fmt: skip
        st.button("Dismiss", key=f"dismiss_{name}", on_click=forget_pull, args=(name,))
    if again:
        try:
            start_pull(name, update=offer.state == "update")
        except StemError as error:
            st.error(plain(str(error)), icon=":material/error:")
        else:
            st.rerun()


def _ask(what: str, name: str) -> None:
    """Open a question about a model."""
    st.session_state[Keys.MODELS_QUESTION] = (what, name)


def _repo_link(repo: str) -> str:
    """Return a link to a repository of the Hub, as Markdown."""
    return f"[{plain(repo)}]({endpoint()}/{repo})"


def gated_words(entry: ModelEntry) -> str:
    """Say what a gated model needs: whose consent, where to ask, and the token."""
    facts = [f for f in map(encoder_facts, entry.gated_encoders) if f is not None]
    if facts:
        what = f"{' and '.join(f.title for f in facts)} {'are' if len(facts) > 1 else 'is'} gated"
        where = " and ".join(_repo_link(f.repo) for f in facts)
    else:
        what = "Its repository is gated"
        where = _repo_link(entry.hub.repo) if entry.hub else "its repository on the Hub"
    state = "one is set now" if token() else "none is set now"
    return (
        f"{what}: the owner decides who gets the weights. Ask for access at {where}, then start "
        f"the app with a token of that account as HF\\_TOKEN in its environment ({state})."
    )


def cannot_run(offer: ModelListing) -> str:
    """Say, as Markdown, why a model cannot predict with this program; "" where it can."""
    if offer.usable is not None:
        return plain(offer.usable.cannot_run)
    return plain(missing_encoders(f"The model {offer.entry.name}", offer.entry.encoders))


def size_bytes(offer: ModelListing) -> int | None:
    """Return what a model takes here or, where that is known, will take."""
    if offer.record is not None:
        return offer.record.size_bytes
    if offer.entry.size_bytes is not None or offer.usable is None:
        return offer.entry.size_bytes
    return sum(path.stat().st_size for path in offer.usable.folder.glob("*") if path.is_file())


def _size_words(offer: ModelListing) -> str:
    known = size_bytes(offer)
    return data_size(known) if known is not None else "is asked from the Hub before the download"


def _encoder_words(entry: ModelEntry) -> str:
    words = []
    for name in entry.encoders:
        facts = encoder_facts(name)
        gated = f" {_GATED}" if facts is not None and facts.gated else ""
        words.append(plain(facts.title if facts else name) + gated)
    return " · ".join(words)


def _origin(offer: ModelListing) -> str:
    """Say where a model comes from, and who lists it."""
    entry = offer.entry
    here = offer.usable.source if offer.usable is not None else entry.source
    if here == "bundled":
        words = "comes with the program"
    elif here == "local" or entry.hub is None:
        words = "put there by hand"
    else:
        try:
            pinned = pinned_revision(entry.hub.repo, entry.hub.revision, entry.name)
            revision = offer.record.revision if offer.record else pinned
        except StemError:
            revision = None
        words = f"from the Hub: {_repo_link(entry.hub.repo)}"
        if revision is None:
            words += ", not pinned yet: the first download records revision and hashes"
        else:
            words += f" @ {revision[:_SHORT_REVISION]}"
    if offer.listed_in != OWN_LIST:
        inside = "in" if entry.source == "local" else "listed in"
        words += f" · {inside} {plain(offer.listed_in)}"
    return words


def _why_kept(offer: ModelListing) -> str | None:
    if offer.record is not None:
        return None
    if offer.usable is not None and offer.usable.source == "local":
        return "Its folder was put there by hand and is deleted by hand."
    return "It comes with the program and stays with it."
