"""The model picker: one card a model, with what must be known before choosing it."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd
import streamlit as st

from app.components.wording import fact, plain
from app.spots import layout_words
from app.state import Keys
from stem_core.encoders.catalogue import encoder_facts
from stem_core.errors import ModelError
from stem_core.model.config import Licences
from stem_core.model.manifest import HeldOut, Manifest
from zoo.registry import InstalledModel, list_models

__all__ = [
    "accept_licences",
    "choose_model",
    "licences_accepted",
    "manifests_by_name",
    "pick_model",
    "show_held_out",
    "show_licences",
]


def pick_model() -> InstalledModel | None:
    """Show a card for each model and return the chosen one.

    A pulled model is chosen once its licences were accepted in this session.
    """
    try:
        entries = list_models()
    except ModelError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return None
    if not entries:
        st.error("No model is installed; install the program again or set STEM_MODELS_DIR.")
        return None
    usable = {entry.name: entry for entry in entries if not entry.cannot_run}
    if st.session_state[Keys.MODEL] not in usable:
        st.session_state[Keys.MODEL] = None
    for left in range(0, len(entries), 2):
        for column, entry in zip(
            st.columns(2, gap="medium"), entries[left : left + 2], strict=False
        ):
            with column.container(border=True, height="stretch", key=f"card_{entry.name}"):
                _show_card(entry)
    st.page_link("views/zoo.py", label="More models", icon=":material/category:")
    chosen = usable.get(st.session_state[Keys.MODEL])
    return None if chosen is None or _asks_first(chosen) else chosen


def manifests_by_name() -> dict[str, Manifest]:
    """Return the manifests of the models there are; none where one is faulty."""
    try:
        return {entry.name: entry.manifest for entry in list_models()}
    except ModelError:
        return {}


def choose_model(name: str) -> None:
    """Choose a model for the Predict page of this session."""
    st.session_state[Keys.MODEL] = name


def accept_licences(name: str, licences: Licences) -> None:
    """Note that a model's licences were read and accepted in this session."""
    st.session_state.setdefault(Keys.ACCEPTED_LICENCES, set()).add((name, licences))


def licences_accepted(name: str, licences: Licences) -> bool:
    """Tell whether a model's licences, as they are now, were accepted in this session."""
    return (name, licences) in st.session_state.get(Keys.ACCEPTED_LICENCES, ())


def show_licences(licences: Licences, encoders: Iterable[str]) -> None:
    """Show under which terms weights, code, training data and encoders may be used."""
    lines = [
        f"**Weights** {plain(licences.weights)}",
        f"**Code** {plain(licences.code)}",
        f"**Training data** {plain(licences.data)}",
    ]
    for name in encoders:
        facts = encoder_facts(name)
        terms = "not known to this program" if facts is None else plain(facts.licence)
        lines.append(f"**Encoder {plain(facts.title if facts else name)}** {terms}")
    st.markdown("  \n".join(lines))


def show_held_out(held: HeldOut, title: str) -> None:
    """Show held-out figures with the protocol that gave them; those of others marked as such."""
    number = st.column_config.NumberColumn(format="%.2f")
    if held.folds:
        rows = [
            {
                "Held-out section": fold.held_out,
                "Spots": fold.n_spots,
                "PCC": fold.metrics.pcc_all,
                "Best baseline": max((b.metrics.pcc_all for b in fold.baselines), default=None),
                "MSE": fold.metrics.mse,
                "In 90 % band": fold.metrics.coverage_90,
            }
            for fold in held.folds
        ]
        st.dataframe(
            pd.DataFrame(rows),
            hide_index=True,
            column_config={
                "PCC": number, "Best baseline": number, "MSE": number,
                "In 90 % band": st.column_config.NumberColumn(format="percent"),
            },
            alt=f"Held-out figures of {title}, one row for each fold",
        )  # fmt: skip
        st.caption(
            "PCC: Pearson correlation over spots, mean of the genes; best baseline: the highest "
            "PCC of mean, ridge, kernel ridge and kNN on the same inputs; MSE in "
            "(log2(1 + count))²."
        )
    if held.reported:
        st.markdown("**Reported by others**, not measured with this program:")
        table = pd.DataFrame(
            {
                "Held-out section": r.held_out, "PCC-10": r.pcc_10, "PCC-50": r.pcc_50,
                "PCC": r.pcc_all, "MSE": r.mse, "MAE": r.mae, "RVD": r.rvd, "Source": r.source,
            }
            for r in held.reported
        ).dropna(axis="columns", how="all")  # fmt: skip
        st.dataframe(
            table,
            hide_index=True,
            column_config=dict.fromkeys(table.select_dtypes("number").columns, number),
            alt=f"Figures of {title} as others reported them",
        )
    st.markdown(f"**Protocol** {plain(held.protocol)}  \n{plain(held.note)}")


def _show_card(entry: InstalledModel) -> None:
    manifest = entry.manifest
    chosen = st.session_state[Keys.MODEL] == entry.name
    asks = chosen and _asks_first(entry)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"#### {plain(manifest.title)}", width="stretch")
        if chosen and not asks:
            st.badge("Chosen", icon=":material/check:", color="green")
    st.markdown(
        f"{fact('Tissue', manifest.tissue)} · {fact('Species', manifest.species)} · "
        f"{fact('Disease', manifest.disease or 'none')}  \n"
        f"**Platform** {plain(manifest.platform)} ({layout_words(manifest.layout)})  \n"
        f"**Genes** {len(manifest.panel)}, predicted in {manifest.units}"
    )
    held = manifest.held_out
    st.markdown(
        f"**{'Leave-one-section-out folds' if held.folds else 'Held out'}:** PCC over "
        f"{len(manifest.panel)} genes {held.summary}"
    )
    st.caption(
        f"{plain(held.note)} Licence of the weights: {plain(manifest.licences.weights)}; "
        f"of the training data: {plain(manifest.licences.data)}."
    )
    with st.expander("Folds, training, citation"):
        show_held_out(held, manifest.title)
        trained_on = ", ".join(manifest.training_slides) or "not stated"
        st.markdown(
            f"**Trained on** {plain(trained_on)}  \n"
            f"**Version** {plain(manifest.version)}, made {plain(manifest.created)}  \n"
            f"**Cite** {plain(manifest.citation)}"
        )
    st.space("stretch")
    if asks:
        _ask_first(entry)
        return
    missing = entry.cannot_run
    if missing:
        st.caption(f":material/block: {plain(missing)}")
    st.button(
        "Chosen" if chosen else f"Choose {entry.name}",
        key=f"choose_{entry.name}",
        type="secondary" if chosen else "primary",
        disabled=chosen or bool(missing),
        width="stretch",
        on_click=choose_model,
        args=(entry.name,),
    )


def _asks_first(entry: InstalledModel) -> bool:
    """Whether a model's licences are to be accepted before it is used in this session."""
    return entry.source == "hub" and not licences_accepted(entry.name, entry.manifest.licences)


def _ask_first(entry: InstalledModel) -> None:
    """Show the licences of a pulled model, to be accepted before its first use."""
    manifest = entry.manifest
    with st.container(border=True, key=f"licences_{entry.name}"):
        st.markdown(":material/gavel: **Its licences, before the first use**")
        show_licences(manifest.licences, (encoder.name for encoder in manifest.encoders))
        with st.container(horizontal=True):
            st.button(
                "Accept and choose", key=f"accept_{entry.name}", type="primary",
                on_click=accept_licences, args=(entry.name, manifest.licences),
            )  # fmt: skip
            st.button("Not now", key=f"refuse_{entry.name}", on_click=_choose_none)


def _choose_none() -> None:
    st.session_state[Keys.MODEL] = None
