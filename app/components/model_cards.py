"""The model picker: one card a model, with what must be known before choosing it."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from app.components.wording import plain
from app.spots import layout_words
from app.state import Keys
from stem_core.errors import ModelError
from zoo.manifest import Manifest
from zoo.registry import Entry, list_models

__all__ = ["manifests_by_name", "pick_model"]


def pick_model() -> Entry | None:
    """Show a card for each model and return the chosen one."""
    try:
        entries = list_models()
    except ModelError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return None
    if not entries:
        st.error("No model is installed; install the program again or set STEM_MODELS_DIR.")
        return None
    names = [entry.name for entry in entries]
    if st.session_state[Keys.MODEL] not in names:
        st.session_state[Keys.MODEL] = None
    for left in range(0, len(entries), 2):
        for column, entry in zip(
            st.columns(2, gap="medium"), entries[left : left + 2], strict=False
        ):
            with column.container(border=True, height="stretch", key=f"card_{entry.name}"):
                _show_card(entry)
    chosen = st.session_state[Keys.MODEL]
    return entries[names.index(chosen)] if chosen else None


def manifests_by_name() -> dict[str, Manifest]:
    """Return the manifests of the models there are; none where one is faulty."""
    try:
        return {entry.name: entry.manifest for entry in list_models()}
    except ModelError:
        return {}


def _show_card(entry: Entry) -> None:
    manifest = entry.manifest
    chosen = st.session_state[Keys.MODEL] == entry.name
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"#### {plain(manifest.title)}", width="stretch")
        if chosen:
            st.badge("Chosen", icon=":material/check:", color="green")
    st.markdown(
        f"**Tissue** {plain(manifest.tissue)} · **Species** {plain(manifest.species)} · "
        f"**Disease** {plain(manifest.disease or 'none')}  \n"
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
        _show_details(manifest)
    st.space("stretch")
    st.button(
        "Chosen" if chosen else f"Choose {entry.name}",
        key=f"choose_{entry.name}",
        type="secondary" if chosen else "primary",
        disabled=chosen,
        width="stretch",
        on_click=_choose,
        args=(entry.name,),
    )


def _choose(name: str) -> None:
    st.session_state[Keys.MODEL] = name


def _show_details(manifest: Manifest) -> None:
    rows = []
    for fold in manifest.held_out.folds:
        best = max((b.metrics.pcc_all for b in fold.baselines), default=float("nan"))
        rows.append(
            {
                "Held-out section": fold.held_out,
                "Spots": fold.n_spots,
                "PCC": fold.metrics.pcc_all,
                "Best baseline": best,
                "MSE": fold.metrics.mse,
                "In 90 % band": fold.metrics.coverage_90,
            }
        )
    if rows:
        number = st.column_config.NumberColumn(format="%.2f")
        st.dataframe(
            pd.DataFrame(rows),
            hide_index=True,
            column_config={
                "PCC": number, "Best baseline": number, "MSE": number,
                "In 90 % band": st.column_config.NumberColumn(format="percent"),
            },
            alt=f"Held-out figures of {manifest.title}, one row for each fold",
        )  # fmt: skip
        st.caption(
            "PCC: Pearson correlation over spots, mean of the genes; best baseline: the highest "
            "PCC of mean, ridge, kernel ridge and kNN on the same inputs; MSE in "
            "(log2(1 + count))²."
        )
    st.markdown(
        f"**Protocol** {plain(manifest.held_out.protocol)}  \n{plain(manifest.held_out.note)}\n\n"
        f"**Trained on** {plain(', '.join(manifest.training_slides))}  \n"
        f"**Version** {plain(manifest.version)}, made {plain(manifest.created)}  \n"
        f"**Cite** {plain(manifest.citation)}"
    )
