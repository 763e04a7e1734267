"""The gene search: the panel by name or by how well each gene is predicted, and its figures."""

from __future__ import annotations

import math

import pandas as pd
import streamlit as st

from app.components.wording import plain
from stem_core.prediction.result import Prediction

__all__ = ["pick_gene"]

_FIGURES = {
    "pcc": ("PCC", "Pearson correlation with measured expression over the held-out spots."),
    "rvd": ("RVD", "Relative variance distance of the mean: (predicted − measured variance)² / "
                   "measured variance²; 0 is best."),
    "coverage_90": ("In 90 % band", "Share of measured values inside the band; 90 % is right."),
    "mean": ("Mean level", "Mean measured expression of the training sections, log2(1 + count)."),
}  # fmt: skip
"""Columns of genes.csv that are shown, with their words."""


def pick_gene(prediction: Prediction) -> str:
    """Show the search and, beside it, the gene's held-out figures; return the gene's symbol."""
    table = prediction.gene_table
    order = list(prediction.symbols)
    has_pcc = "pcc" in table and pd.to_numeric(table["pcc"], errors="coerce").notna().any()
    search, figures = st.columns([2, 3], gap="medium", vertical_alignment="bottom")
    with search:
        if has_pcc:
            by = st.segmented_control(
                "Genes by", ["Held-out PCC", "Name"], default="Held-out PCC", required=True,
                key="gene_order", persist_state="session",
            )  # fmt: skip
            if by == "Held-out PCC":
                order = list(table["pcc"].sort_values(ascending=False).index)
        if st.session_state.get("gene") not in order:
            st.session_state["gene"] = order[0]
        gene = st.selectbox(
            f"Gene: type to search the {len(order)} of this model", order, key="gene",
            bind="query-params",
        )  # fmt: skip
    with figures:
        _show_figures(table, str(gene))
    return str(gene)


def _show_figures(table: pd.DataFrame, gene: str) -> None:
    row = table.loc[gene]
    shown = [
        (label, _words(column, float(row[column])), words)
        for column, (label, words) in _FIGURES.items()
        if column in table and pd.notna(row[column]) and math.isfinite(float(row[column]))
    ]
    if not shown:
        st.caption(f"No held-out figures are known for {plain(gene)}.")
        return
    st.caption(f"{plain(gene)} on held-out sections")
    for place, (label, value, words) in zip(st.columns(len(shown)), shown, strict=True):
        place.metric(label, value, help=words)


def _words(column: str, value: float) -> str:
    return f"{value:.0%}" if column == "coverage_90" else f"{value:.2f}"
