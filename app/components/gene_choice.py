"""The gene search: the panel by name or by how well each gene is predicted, and its figures."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import streamlit as st

from app.components.wording import count, plain
from stem_core.prediction.result import Prediction

__all__ = ["best_predicted_first", "gene_figures", "gene_number", "pick_gene", "pick_order"]

_PCC = "held_out_pcc"
_HELP = {
    "PCC": "Pearson correlation of prediction and measurement over a held-out section's spots.",
    "RVD": "(Predicted − measured variance)² / measured variance²; 0 is best. The mean of draws "
    "varies less than the tissue.",
    "Mean log2": "Mean measured expression of the training sections, log2(1 + count).",
}


def pick_order(prediction: Prediction) -> list[str]:
    """Show the choice of order, where there is one, and return the panel in that order."""
    best_first = best_predicted_first(prediction)
    if best_first is None:
        return list(prediction.symbols)
    by = st.selectbox(
        "Genes sorted by", ["Held-out PCC", "Name"], key="gene_order", persist_state="session"
    )
    if by == "Name":
        return sorted(prediction.symbols)
    return best_first


def best_predicted_first(prediction: Prediction) -> list[str] | None:
    """Return the panel by held-out PCC, the best first; None where no gene has one."""
    if _PCC not in prediction.gene_table:
        return None
    pcc = pd.to_numeric(prediction.gene_table[_PCC], errors="coerce")
    if not pcc.notna().any():
        return None
    return list(pcc.sort_values(ascending=False, kind="stable").index)


def pick_gene(prediction: Prediction, order: list[str]) -> str:
    """Show the search and, beside it, the gene's held-out figures; return the gene's symbol."""
    search, figures = st.columns([3, 5], gap="medium", vertical_alignment="bottom")
    if st.session_state.get("gene", order[0]) not in order:
        del st.session_state["gene"]
    gene = search.selectbox(
        f"Gene (type to search {len(order)})", order, key="gene", bind="query-params"
    )
    with figures:
        row: dict[Any, Any] = prediction.gene_table.loc[gene].to_dict()
        shown, folds = gene_figures(row)
        if folds:
            st.caption(f"{plain(str(gene))} on held-out sections, mean of {count(folds, 'fold')}")
        else:
            st.caption(f"{plain(str(gene))} was in no fold's panel: how well is not known")
        for place, (label, value) in zip(st.columns(len(shown) or 1), shown, strict=False):
            place.metric(label, value, help=_HELP.get(label))
    return str(gene)


def gene_number(row: dict[Any, Any], column: str) -> float:
    """Return a number of a gene's row of genes.csv; NaN where there is none."""
    try:
        return float(row.get(column, math.nan))
    except (TypeError, ValueError):
        return math.nan


def gene_figures(row: dict[Any, Any]) -> tuple[list[tuple[str, str]], int]:
    """Return a gene's figures of genes.csv in words, and the number of folds behind them."""
    shown = []
    folds = gene_number(row, "held_out_folds")
    if math.isfinite(pcc := gene_number(row, _PCC)):
        shown.append(("PCC", f"{pcc:.2f}"))
        low, high = gene_number(row, "held_out_pcc_low"), gene_number(row, "held_out_pcc_high")
        if folds > 1 and math.isfinite(low) and math.isfinite(high):
            shown.append(("PCC range", f"{low:.2f}–{high:.2f}"))
        folds = folds if math.isfinite(folds) else 1
    if math.isfinite(rvd := gene_number(row, "held_out_rvd")):
        shown.append(("RVD", f"{rvd:.2f}"))
    if math.isfinite(mean := gene_number(row, "training_mean")):
        shown.append(("Mean log2", f"{mean:.2f}"))
    return shown, int(folds) if math.isfinite(folds) else 0
