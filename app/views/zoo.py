"""Models: all there are, here or on the Hub; filter, read, download, verify, delete."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from app.components.model_cards import accept_licences, show_licences
from app.components.wording import count, data_size, plain
from app.components.zoo_cards import (
    STATES,
    cannot_run,
    gated_words,
    show_card,
    size_bytes,
)
from app.jobs.pulls import forget_pull, read_pull, start_pull
from app.state import Keys, job_queue
from stem_core.errors import StemError
from zoo.entries import ModelEntry
from zoo.hub_access import is_offline
from zoo.pull import pull_size
from zoo.registry import ModelListing, list_offers
from zoo.store import find_installed, remove

SIZE_KEPT_S = 60
READ = "licences_read"
ACCESS = {False: "Open", True: "Gated"}


def tissue_label(entry: ModelEntry) -> str:
    """Return organ and tissue as one choice of a filter."""
    organ, tissue = entry.organ.strip(), entry.tissue.strip()
    return organ if tissue.lower() == organ.lower() else f"{organ}: {tissue}"


def licence_label(entry: ModelEntry) -> str:
    """Return the first clause of the licence of the weights, so that alike ones are one choice."""
    return entry.licences.weights.split(";")[0].strip()


CHOICES: dict[str, tuple[str, Callable[[ModelEntry], str]]] = {
    "filter_tissue": ("Tissue", tissue_label),
    "filter_species": ("Species", lambda entry: entry.species),
    "filter_platform": ("Platform", lambda entry: entry.platform),
    "filter_licence": ("Licence of the weights", licence_label),
}


def clear_filters() -> None:
    """Take all filters away."""
    for key in (*CHOICES, "filter_state", "filter_access"):
        st.session_state[key] = []


def forget_touched() -> None:
    """Let the filters say alone what is shown."""
    st.session_state[Keys.MODELS_TOUCHED] = set()


def pick_offers(offers: Sequence[ModelListing]) -> list[ModelListing]:
    """Show the filters and return what fits: any of the values within one, all of them at once."""
    chosen: dict[str, list[str]] = {}
    for place, (key, (label, value)) in zip(st.columns(4), CHOICES.items(), strict=True):
        options = sorted({value(offer.entry) for offer in offers}, key=str.casefold)
        if key in st.session_state:  # an option may be gone since
            st.session_state[key] = [v for v in st.session_state[key] if v in options]
        chosen[key] = place.multiselect(
            label, options, key=key, placeholder="Any", persist_state="session",
            on_change=forget_touched,
        )  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        states = st.pills(
            "State", list(STATES), selection_mode="multi", key="filter_state",
            format_func=lambda state: STATES[state][0], persist_state="session",
            on_change=forget_touched,
        )  # fmt: skip
        access = st.pills(
            "Encoders", list(ACCESS), selection_mode="multi", key="filter_access",
            format_func=ACCESS.__getitem__, persist_state="session", on_change=forget_touched,
            help="Gated: the owner of an encoder decides who gets its weights.",
        )  # fmt: skip
        filtered = bool(states or access or any(chosen.values()))
        st.button(
            "Clear filters", key="clear_filters", icon=":material/filter_alt_off:",
            type="tertiary", disabled=not filtered, on_click=clear_filters,
        )  # fmt: skip
    touched = st.session_state[Keys.MODELS_TOUCHED]
    fitting = [
        offer
        for offer in offers
        if all(
            not chosen[key] or value(offer.entry) in chosen[key]
            for key, (_, value) in CHOICES.items()
        )
        and (not access or offer.entry.gated in access)
        and (not states or offer.state in states or offer.entry.name in touched)
    ]
    total = count(len(offers), "model")
    st.caption(f"{len(fitting)} of {total}" if filtered else total)
    return fitting


def close_question() -> None:
    """Close the question that is open."""
    st.session_state[Keys.MODELS_QUESTION] = None
    st.session_state.pop(READ, None)


@st.cache_data(ttl=SIZE_KEPT_S, max_entries=64, show_spinner=False)
def asked_size(name: str, repo: str, revision: str, _entry: ModelEntry) -> int | str:
    """Return the bytes a pull takes, or a sentence why nobody says so."""
    try:
        return pull_size(_entry)
    except StemError as error:
        return str(error)


def ask_download(offer: ModelListing) -> None:
    """Show size and terms of a model; pull it once its licences were read."""
    entry, hub = offer.entry, offer.entry.hub
    if hub is None:
        close_question()
        st.rerun()
    st.markdown(f"**{plain(entry.title)}**")
    with st.spinner("Asking the Hub for its size …"):
        size = asked_size(entry.name, hub.repo, hub.revision, entry)
    if isinstance(size, int):
        st.markdown(f"**Size** {data_size(size)}")
    else:
        st.warning(f"Its size is not known. {plain(size)}", icon=":material/cloud_off:")
    st.markdown(":material/gavel: **Licences**")
    show_licences(entry.licences, entry.encoders)
    if entry.gated:
        st.caption(f":material/lock: {gated_words(entry)}")
    cannot = cannot_run(offer)
    if cannot:
        st.caption(f":material/block: {cannot}")
    st.caption("The download goes on when this page is closed.")
    read = st.checkbox("I have read the licences", key=READ)
    with st.container(horizontal=True, horizontal_alignment="right"):
        if st.button("Not now"):
            close_question()
            st.rerun()
        update = offer.state == "update"
        if st.button(
            "Update" if update else "Download", key="confirm_download", type="primary",
            icon=":material/download:", disabled=not read,
        ):  # fmt: skip
            try:
                start_pull(entry.name, update=update)
            except StemError as error:
                st.error(plain(str(error)), icon=":material/error:")
                return
            accept_licences(entry.name, entry.licences)
            st.session_state[Keys.MODELS_TOUCHED].add(entry.name)
            close_question()
            st.rerun()


def ask_delete(offer: ModelListing) -> None:
    """Ask before a pulled model is removed, and say what that frees."""
    name = offer.entry.name
    size = size_bytes(offer)
    st.markdown(
        f"**{plain(offer.entry.title)}** is removed from this computer, for everyone who uses "
        f"this app, and frees about {data_size(size or 0)}; files that other models share stay. "
        "Results made with it stay too. It can be downloaded again."
    )
    waiting = [run for run in job_queue().list() if run.request.model == name and not run.finished]
    if waiting:
        st.warning(
            f"{count(len(waiting), 'run')} with this model {'is' if len(waiting) == 1 else 'are'} "
            "not finished and would fail.",
            icon=":material/warning:",
        )
    with st.container(horizontal=True, horizontal_alignment="right"):
        if st.button("Keep it"):
            close_question()
            st.rerun()
        if st.button("Delete", type="primary", icon=":material/delete:", key="confirm_delete"):
            try:
                with st.spinner("Deleting …"):
                    freed = remove("model", name)
            except StemError as error:
                st.error(plain(str(error)), icon=":material/error:")
                return
            if st.session_state[Keys.MODEL] == name:
                st.session_state[Keys.MODEL] = None
            forget_pull(name)
            st.session_state[Keys.MODELS_TOUCHED].add(name)
            news = f"{name} is deleted; {data_size(freed)} are free again."
            st.session_state[Keys.MODELS_NEWS] = news
            close_question()
            st.rerun()


QUESTIONS: dict[str, tuple[str, Callable[[ModelListing], None]]] = {
    "download": ("Download this model?", ask_download),
    "update": ("Update this model?", ask_download),
    "delete": ("Delete this model?", ask_delete),
}

st.session_state.setdefault(Keys.MODELS_TOUCHED, set())
st.title("Models")
st.caption(
    "Pretrained models by tissue and platform. Those that are installed predict at once, others "
    "are downloaded from the Hugging Face Hub and checked first."
)
try:
    known = list_offers()
except StemError as fault:
    st.error(plain(str(fault)), icon=":material/error:")
    st.stop()
if is_offline():
    st.caption(
        ":material/cloud_off: This app may not use the network (HF\\_HUB\\_OFFLINE is set): only "
        "models whose files are here already can be installed."
    )
for sentence in known.faults.values():
    st.warning(plain(sentence), icon=":material/warning:")
shown = pick_offers(known.offers)
if not shown:
    st.markdown(
        "No model fits these filters. Take one away, or clear them all."
        if known.offers
        else "No list names a model. Install the program again, or name a list in STEM\\_REGISTRY."
    )
for left in range(0, len(shown), 2):
    for column, offer in zip(st.columns(2, gap="medium"), shown[left : left + 2], strict=False):
        pull = read_pull(offer.entry.name)
        if pull is not None and pull.state == "done":
            forget_pull(offer.entry.name)
            if find_installed("model", offer.entry.name) is not None:
                st.session_state[Keys.MODELS_NEWS] = f"{offer.entry.name} is installed."
            st.rerun()  # the list above may have been read before it ended
        with column.container(border=True, height="stretch", key=f"model_{offer.entry.name}"):
            show_card(offer, pull)

if news := st.session_state.pop(Keys.MODELS_NEWS, None):
    st.toast(news, icon=":material/check:")
by_name = {offer.entry.name: offer for offer in known.offers}
question = st.session_state.get(Keys.MODELS_QUESTION)
if question is not None and question[1] in by_name:
    heading, body = QUESTIONS[question[0]]
    st.dialog(heading, on_dismiss=close_question)(body)(by_name[question[1]])
