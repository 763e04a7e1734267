"""The gene search: the panel by name or by how well each gene is predicted, and its figures."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import streamlit as st

from app.components.wording import plain
from stem_core.prediction.result import Prediction

__all__ = ["pick_gene", "pick_order"]

_FIGURES = {
    "pcc": ("PCC", "Pearson correlation with measured expression over the held-out spots."),
    "rvd": ("RVD", "Relative variance distance of the mean: (predicted − measured variance)² / "
                   "measured variance²; 0 is best."),
    "coverage_90": ("90 % band", "Share of measured values inside the band; 90 % is right."),
    "mean": ("Mean log2", "Mean measured expression of the training sections, log2(1 + count)."),
}  # fmt: skip
"""Columns of genes.csv that are shown, with their words."""


def pick_order(prediction: Prediction) -> list[str]:
    """Show the choice of order, where there is one, and return the panel in that order."""
    table = prediction.gene_table
    if "pcc" not in table or not pd.to_numeric(table["pcc"], errors="coerce").notna().any():
        return list(prediction.symbols)
    by = st.selectbox(
        "Genes sorted by", ["Held-out PCC", "Name"], key="gene_order", persist_state="session"
    )
    if by == "Name":
        return sorted(prediction.symbols)
    return list(table["pcc"].sort_values(ascending=False).index)


def pick_gene(prediction: Prediction, order: list[str]) -> str:
    """Show the search and, beside it, the gene's held-out figures; return the gene's symbol."""
    search, figures = st.columns([3, 5], gap="medium", vertical_alignment="bottom")
    if st.session_state.get("gene", order[0]) not in order:
        del st.session_state["gene"]
    gene = search.selectbox(
        f"Gene (type to search {len(order)})", order, key="gene", bind="query-params"
    )
    with figures:
        _show_figures(prediction.gene_table, str(gene))
    return str(gene)


def _show_figures(table: pd.DataFrame, gene: str) -> None:
    row: dict[Any, Any] = table.loc[gene].to_dict()
    shown = [
        (label, _words(column, float(row[column])), words)
        for column, (label, words) in _FIGURES.items()
        if column in row and math.isfinite(float(row[column]))
    ]
    if not shown:
        st.caption(f"No held-out figures are known for {plain(gene)}.")
        return
    st.caption(f"{plain(gene)} on held-out sections")
    for place, (label, value, words) in zip(st.columns(len(shown)), shown, strict=True):
        place.metric(label, value, help=words)


def _words(column: str, value: float) -> str:
    return f"{value:.0%}".replace("%", " %") if column == "coverage_90" else f"{value:.2f}"
