"""The genes that differ between two regions: a table whose rows show their maps, and a chart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from app.components.map_address import put_gene
from app.components.region_charts import outline, plain_html, table_button
from app.components.wording import plain
from app.maps.layers import Layer
from app.maps.run import Run
from stem_core.analysis.region_differences import LEAST_P, compare_regions
from stem_core.errors import StemError
from stem_core.prediction.result import Prediction

__all__ = ["show_differences"]

_REST = "All other spots"
_LABELLED = 8  # genes named in the chart
_FOUND = 0.05  # adjusted p up to which a gene is drawn in colour
_COLUMNS = {
    "difference": ("Difference, log2", "%.2f"),
    "effect": ("Effect size (d)", "%.2f"),
    "p": ("p", "%.3f"),
    "p_adjusted": ("p, adjusted", "%.3f"),
    "mean_a": ("Mean, first", "%.2f"),
    "mean_b": ("Mean, second", "%.2f"),
    "standard_error": ("Standard error, log2", "%.2f"),
}


def show_differences(run: Run, layers: Sequence[Layer], inside: Sequence[np.ndarray]) -> None:
    """Compare a region with another or with the rest, gene by gene."""
    st.markdown("**Genes that differ between two regions**")
    names = [f"{i + 1} · {region.name}" for i, region in enumerate(run.regions)]
    first_place, second_place, go_place = st.columns([2, 2, 1], vertical_alignment="bottom")
    first = first_place.selectbox("Region", names, key="compare_first")
    others = [_REST, *(name for name in names if name != first)]
    second = second_place.selectbox("compared with", others, key="compare_second")
    asked = (run.id, first, second)
    if go_place.button("Compare", key="compare", type="primary", width="stretch"):
        st.session_state["compared"] = asked
    if st.session_state.get("compared") != asked:
        return
    a = inside[names.index(first)]
    b = None if second == _REST else inside[names.index(second)]
    prediction = run.prediction
    draws = int(prediction.run.get("samples", 1))
    try:
        found = _compared(
            run.id, prediction, a.tobytes(), None if b is None else b.tobytes(), draws
        )
    except StemError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return
    left, right = st.columns([3, 2], gap="medium")
    with left:
        _show_table(found, layers)
    with right:
        _show_volcano(found, layers, first, second)
    floor = found["method"].iloc[0] == "placements"
    st.caption(
        "Spots resemble their neighbours, so any two places differ. p is the share of places where "
        "regions of these shapes, laid elsewhere on the tissue, differ as much, the sampling error "
        "of the draws included; adjusted after Benjamini and Hochberg. "
        + (
            f"It is never below {LEAST_P:g}: 999 other places are tried. "
            if floor
            else "These regions are so large that they fit nowhere else: p is that of the standard "
            "error and a normal distribution. "
        )
        + "These are predictions: a difference may be the model's and not the tissue's."
    )
    table_button(found, "These genes (CSV)", "region-differences.csv")


@st.cache_data(max_entries=16, show_spinner="Comparing the regions …")
def _compared(
    run_id: str, _prediction: Prediction, a: bytes, b: bytes | None, draws: int
) -> pd.DataFrame:
    spots, mpp = _prediction.spots, _prediction.mpp
    n = len(spots)
    first = np.frombuffer(a, np.bool_, n)
    second = None if b is None else np.frombuffer(b, np.bool_, n)
    return compare_regions(
        _prediction.mean, first, second, spots.x_px * mpp, spots.y_px * mpp, _prediction.symbols,
        std=_prediction.std, draws=draws,
    )  # fmt: skip


def _show_table(found: pd.DataFrame, layers: Sequence[Layer]) -> None:
    genes = [str(gene) for gene in found.index]
    st.dataframe(
        found.reset_index(), hide_index=True, height=380, key="differences",
        on_select=lambda: _put_row(genes, layers), selection_mode="single-row",
        alt="Genes by how much they differ; a chosen row is shown on the active map",
        column_order=["gene", *_COLUMNS, "method"],
        column_config={
            "gene": "Gene",
            "method": "Method of p",
            **{
                name: st.column_config.NumberColumn(label, format=form)
                for name, (label, form) in _COLUMNS.items()
            },
        },
    )  # fmt: skip
    st.caption("Choose a row to see the gene on the active map.")


def _put_row(genes: Sequence[str], layers: Sequence[Layer]) -> None:
    chosen = (st.session_state.get("differences") or {}).get("selection", {}).get("rows", [])
    if chosen and 0 <= chosen[0] < len(genes):
        put_gene(layers, genes[chosen[0]])


def _show_volcano(found: pd.DataFrame, layers: Sequence[Layer], first: str, second: str) -> None:
    table = found.dropna(subset=["difference", "p_adjusted"])
    height = -np.log10(np.maximum(table["p_adjusted"].to_numpy(np.float64), 1e-300))
    clear = table["p_adjusted"].to_numpy() <= _FOUND
    figure = go.Figure()
    for chosen, colour, words in (
        (~clear, "#8a8f98", f"adjusted p above {_FOUND:g}"),
        (clear, "#e66101", f"adjusted p up to {_FOUND:g}"),
    ):
        part = table[chosen]
        figure.add_scattergl(
            x=part["difference"].to_numpy(np.float32), y=height[chosen].astype(np.float32),
            mode="markers", name=words, marker={"size": 7, "color": colour, "opacity": 0.75},
            customdata=np.column_stack([part.index.astype(str), part["p_adjusted"].round(4)]),
            hovertemplate="%{customdata[0]}<br>difference %{x:.2f} log2<br>"
            "adjusted p %{customdata[1]}<extra></extra>",
        )  # fmt: skip
    order = np.lexsort((-np.abs(table["difference"].to_numpy()), -height))[:_LABELLED]
    for place in order[clear[order]]:
        figure.add_annotation(
            x=float(table["difference"].iloc[place]), y=float(height[place]),
            text=plain_html(str(table.index[place])), showarrow=False, yshift=10,
            font={"size": 10},
        )  # fmt: skip
    line = float(-np.log10(_FOUND))
    figure.add_hline(y=line, line={"dash": "dot", "color": "gray", "width": 1})
    figure.update_layout(
        **outline(
            height=400, showlegend=True, legend={"orientation": "h", "y": 1.12},
            yaxis_range=[0, 1.15 * max(line, height.max(initial=0))],
            xaxis_title="difference, log2", yaxis_title="−log10 of adjusted p",
        )
    )  # fmt: skip
    st.plotly_chart(
        figure, key="volcano", on_select=lambda: _put_point(layers), selection_mode="points",
        alt=f"Difference and adjusted p of {len(table)} genes, {first} against {second}: "
        f"{int(clear.sum())} have an adjusted p up to {_FOUND:g}; the table has the numbers",
    )  # fmt: skip


def _put_point(layers: Sequence[Layer]) -> None:
    points: list[dict[str, Any]] = (
        (st.session_state.get("volcano") or {}).get("selection", {}).get("points", [])
    )
    if points and points[0].get("customdata"):
        put_gene(layers, str(points[0]["customdata"][0]))
