"""Lists of the panel's genes beside the maps: choose one, and a click shows its genes.

A list is made when it is chosen, after the maps were sent, and kept for the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from app.components.gene_choice import best_predicted_first
from app.components.map_panels import show_gene
from app.components.trust import gene_row, gene_trust
from app.components.wording import count, plain
from app.maps.layers import Layer
from app.maps.run import Run
from app.maps.values import MapValues
from app.state import Keys
from stem_core.analysis.gene_sets import gene_figure, ranked_genes
from stem_core.prediction.result import Prediction

__all__ = ["GENE_LISTS", "GeneList", "list_table", "show_gene_lists"]


@dataclass(frozen=True)
class GeneList:
    """One way to rank genes.

    Attributes
    ----------
    title
        In the choice; `{gene}` stands for the gene that others are compared with.
    column, unit
        What the figure is called, and its unit, "" for a bare number.
    kind
        Of `gene_figure`; "" for the held-out PCC of the model.
    meaning
        One sentence about the figure.
    lowest_first
        Else the highest comes first.
    """

    title: str
    column: str
    unit: str
    kind: str
    meaning: str
    lowest_first: bool = False


GENE_LISTS = {
    "trusted": GeneList(
        "Best predicted", "Held-out PCC", "", "",
        "Correlation of prediction and measurement on sections that the model had not seen.",
    ),
    "variable": GeneList(
        "Most variable", "Variance", "(log2(1 + count))²", "variance",
        "Variance of the prediction over the spots of this slide.",
    ),
    "structured": GeneList(
        "Most spatially structured", "Moran's I", "", "structure",
        "How alike neighbouring spots are predicted: 0 for values that are scattered, up to 1 for "
        "smooth ones. Predictions are smoother than tissue.",
    ),
    "rising": GeneList(
        "Rising with {gene}", "Correlation", "", "correlation",
        "Pearson correlation with {gene} over the spots of this slide, predicted values.",
    ),
    "falling": GeneList(
        "Falling with {gene}", "Correlation", "", "correlation",
        "Pearson correlation with {gene} over the spots of this slide, predicted values.", True,
    ),
}  # fmt: skip
_HEIGHT_PX = 440


def show_gene_lists(run: Run, layers: list[Layer], active: int) -> None:
    """Show the choice of a list and its genes; a chosen one is shown in the active panel."""
    prediction, values = run.prediction, run.values
    shown = (*layers[active].genes, *prediction.symbols[:1])[0]
    reference = _reference(prediction.symbols, shown)
    known = best_predicted_first(prediction) is not None
    st.markdown("**Gene lists**")
    kind = st.selectbox(
        "Genes of the panel", list(GENE_LISTS), index=0 if known else None, key="gene_list",
        format_func=lambda name: GENE_LISTS[name].title.format(gene=reference),
        placeholder="Choose a list",
    )  # fmt: skip
    if kind is None:
        st.caption("How well this model predicts each gene is not known. Choose a list above.")
        return
    listed = GENE_LISTS[kind]
    if listed.kind == "correlation" and reference != shown:
        st.button(
            f"Compare with {plain(shown)}", key="list_reference", width="stretch",
            on_click=_refer, args=(shown,),
        )  # fmt: skip
    column = prediction.symbols.index(reference) if listed.kind == "correlation" else 0
    table = _table(run.id, kind, column, prediction)
    if listed.kind == "correlation":
        table = table.drop(index=reference, errors="ignore")
    if table.empty:
        st.caption("No gene has such a figure here.")
        return
    st.caption(
        f"{plain(listed.meaning.format(gene=reference))} {count(len(table), 'gene')}; click one to "
        f"show it in map {active + 1}."
    )
    key = f"list_{kind}_{column}_{_elsewhere(shown)}"
    st.dataframe(
        pd.DataFrame({"Gene": table.index, listed.column: table["figure"].to_numpy(),
                      "Trust": table["trust"].to_numpy()}),
        key=key, hide_index=True, height=_HEIGHT_PX, width="stretch",
        on_select=lambda: _row_chosen(key, list(table.index), values, layers, active),
        selection_mode="single-cell",
        alt=f"{listed.title.format(gene=reference)}: genes with their figure and trust",
        column_config={
            listed.column: st.column_config.NumberColumn(
                f"{listed.column}, {listed.unit}" if listed.unit else listed.column,
                format="%.2f", help=listed.meaning.format(gene=reference),
            ),
            "Trust": st.column_config.TextColumn(
                help="Held-out PCC: good from 0.5, fair from 0.3 on; ? is not known."
            ),
        },
    )  # fmt: skip
    st.download_button(
        "This list (CSV)", table.to_csv(), file_name=f"genes-{kind}.csv", mime="text/csv",
        icon=":material/download:", key="list_csv", width="stretch",
    )  # fmt: skip
    st.caption("Genes that differ between two regions: see [Regions](#regions) below the maps.")


def list_table(
    prediction: Prediction, listed: GeneList, figures: NDArray[np.float64]
) -> pd.DataFrame:
    """Return a list as a table, indexed by gene.

    Parameters
    ----------
    prediction
        Of G genes.
    listed
        What is listed.
    figures
        (G,) in panel order.

    Returns
    -------
    DataFrame
        Columns `figure`, `name` and `unit` of it, `trust` (words), `ensembl`, `held_out_pcc`.
    """
    ranked = ranked_genes(prediction.symbols, figures, lowest_first=listed.lowest_first)
    ids = dict(zip(prediction.symbols, prediction.ensembl, strict=True))
    trusts = [gene_trust(gene_row(prediction, gene)) for gene in ranked.index]
    return pd.DataFrame(
        {
            "figure": ranked,
            "name": listed.column,
            "unit": listed.unit,
            "trust": [trust.mark for trust in trusts],
            "ensembl": [ids[gene] for gene in ranked.index],
            "held_out_pcc": [trust.pcc for trust in trusts],
        },
        index=ranked.index,
    )


@st.cache_data(max_entries=32, show_spinner="Ranking the genes …")
def _table(run_id: str, kind: str, column: int, _prediction: Prediction) -> pd.DataFrame:
    """Rank once for each run, whose result never changes."""
    listed = GENE_LISTS[kind]
    return list_table(_prediction, listed, _figures(listed.kind, column, _prediction))


def _figures(kind: str, column: int, prediction: Prediction) -> NDArray[np.float64]:
    if not kind:
        rows = (gene_row(prediction, gene) for gene in prediction.symbols)
        return np.array([gene_trust(row).pcc for row in rows])
    spots, mpp = prediction.spots, prediction.mpp
    return gene_figure(kind, prediction.mean, spots.x_px * mpp, spots.y_px * mpp, column)


def _reference(symbols: Sequence[str], shown: str) -> str:
    """Return the gene that others are correlated with: it stays while genes of its list are shown.

    Without that a click would put another list under the pointer.
    """
    kept = st.session_state.get(Keys.LIST_GENE)
    correlating = st.session_state.get("gene_list") in ("rising", "falling")
    if kept not in symbols or not correlating:
        st.session_state[Keys.LIST_GENE] = kept = shown
    return str(kept)


def _elsewhere(shown: str) -> str:
    """Return the gene that was last chosen elsewhere than in a list.

    The table is a new one with each: one that was left takes the next click for the return to it.
    """
    chosen, elsewhere = st.session_state.get(Keys.LIST_CHOICE, (None, shown))
    if shown != chosen:
        chosen, elsewhere = None, shown
    st.session_state[Keys.LIST_CHOICE] = (chosen, elsewhere)
    return str(elsewhere)


def _refer(gene: str) -> None:
    st.session_state[Keys.LIST_GENE] = gene


def _row_chosen(
    key: str, symbols: list[str], values: MapValues, layers: list[Layer], active: int
) -> None:
    cells = st.session_state[key]["selection"]["cells"]
    if cells and 0 <= int(cells[0][0]) < len(symbols):
        gene = symbols[int(cells[0][0])]
        st.session_state[Keys.LIST_CHOICE] = (gene, st.session_state[Keys.LIST_CHOICE][1])
        show_gene(values, layers, active, gene)
