"""Charts of regions, each with its table: values and violins, a heat map of genes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from app.components.wording import count, plain
from app.maps.layers import Layer
from app.maps.run import Run
from app.maps.values import MapValues
from stem_core.analysis.gene_sets import match_genes, read_gene_list
from stem_core.analysis.region_tables import (
    density,
    differing_most,
    mean_z_scores,
    region_values,
    unique_names,
)
from stem_core.analysis.regions import describe_region
from stem_core.errors import SettingsError
from stem_core.prediction.result import Prediction

__all__ = ["outline", "plain_html", "show_heat_map", "show_values", "table_button"]

MOST_DRAWN = 24  # regions in one chart
MOST_GENES = 150  # rows of a heat map that can still be told apart
_DOTS = 300  # of a region; more would be a cloud, and the chart heavy
_MARGIN = {"l": 10, "r": 10, "t": 30, "b": 10}
_STATISTICS = {
    "n": "Spots", "mean": "Mean", "median": "Median", "sd": "Standard deviation",
    "q05": "5 %", "q25": "25 %", "q75": "75 %", "q95": "95 %",
}  # fmt: skip
_GENES = {"top": "Differ most", "shown": "Shown on the maps", "list": "A list"}


def table_button(table: pd.DataFrame, label: str, name: str, *, index: bool = True) -> None:
    """Show a button that gives a table as CSV; it is written when it is asked for."""
    st.download_button(
        label, lambda: table.to_csv(index=index), file_name=name, mime="text/csv",
        icon=":material/download:", disabled=table.empty, on_click="ignore", key=f"csv_{name}",
    )  # fmt: skip


def show_values(run: Run, layers: Sequence[Layer], inside: Sequence[np.ndarray]) -> None:
    """Show the statistics of each shown map in each region, and violins of one map."""
    values, regions, spots = run.values, run.regions, run.prediction.spots
    names = unique_names([region.name for region in regions])
    shown = list(dict.fromkeys(layers))
    st.markdown("**Values in the regions** of the maps that are shown")
    table = _statistics(values, shown, names, inside)
    st.dataframe(
        table, hide_index=True, alt="Statistics of each map in each region",
        column_config={
            name: st.column_config.NumberColumn(name, format="%.2f")
            for key, name in _STATISTICS.items() if key != "n"
        },
    )  # fmt: skip
    table_button(table, "These figures (CSV)", "regions.csv", index=False)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        layer = shown[0]
        if len(shown) > 1:
            layer = st.selectbox(
                "Violins of", shown, format_func=Layer.title, key="violin_layer", width=320
            )
        dots = st.toggle("Spots as dots", key="violin_dots")
    column = values.layer(layer)
    kept = [i for i, chosen in enumerate(inside) if np.isfinite(column[chosen]).any()]
    if not kept:
        st.caption("No spot of the regions has a value on this map.")
        return
    figure = go.Figure()
    for place, i in enumerate(kept[:MOST_DRAWN]):
        inner = column[inside[i]]
        _add_violin(figure, place, inner[np.isfinite(inner)], names[i], regions[i].colour, dots)
    unit = layer.unit
    figure.update_layout(
        height=400, margin=_MARGIN, showlegend=False, yaxis_title=f"{layer.title()}, {unit}",
        xaxis={
            "tickvals": list(range(len(kept[:MOST_DRAWN]))),
            "ticktext": [
                f"{_short(names[i])}<br>n = {int(np.isfinite(column[inside[i]]).sum())}"
                for i in kept[:MOST_DRAWN]
            ],
            "showgrid": False, "zeroline": False,
        },
    )  # fmt: skip
    st.plotly_chart(
        figure, key="violins",
        alt=f"Violins: how {layer.title()} in {unit} is spread in "
        f"{count(min(len(kept), MOST_DRAWN), 'region')}; the table has the numbers",
    )  # fmt: skip
    words = "Width: how many spots have a value. Box: the middle half; line: the median."
    if dots and any(int(inside[i].sum()) > _DOTS for i in kept):
        words += f" Of larger regions {_DOTS} spots, taken at random, are dots."
    if len(kept) > MOST_DRAWN:
        words += f" The first {MOST_DRAWN} regions are drawn; the table has all {len(kept)}."
    st.caption(words)
    table_button(
        region_values(column, inside, names, spots.ids, spots.x_px, spots.y_px),
        "The spots behind the violins (CSV)", "region-values.csv", index=False,
    )  # fmt: skip


def _statistics(
    values: MapValues, layers: Sequence[Layer], names: Sequence[str], inside: Sequence[np.ndarray]
) -> pd.DataFrame:
    rows = []
    for layer in layers:
        column = values.layer(layer)[:, None]
        for name, chosen in zip(names, inside, strict=True):
            if chosen.any():
                row = describe_region(column, chosen, [str(layer)]).iloc[0].to_dict()
                rows.append(
                    {"Map": layer.title(), "Unit": layer.unit, "Region": name}
                    | {_STATISTICS[str(key)]: value for key, value in row.items()}
                )
    return pd.DataFrame(rows)


def _add_violin(
    figure: go.Figure, place: int, values: np.ndarray, name: str, colour: str, dots: bool
) -> None:
    """Add an outline, the box of the quartiles and, if wanted, dots.

    The outline is computed here. Otherwise the browser would receive every spot to estimate it.
    """
    at, height = density(values)
    half = 0.42 * height / height.max()
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    figure.add_scatter(
        x=np.concatenate([place - half, (place + half)[::-1]]).astype(np.float32),
        y=np.concatenate([at, at[::-1]]).astype(np.float32), mode="lines", fill="toself",
        line={"color": colour, "width": 1.5}, hoveron="fills", name=name,
        text=f"{name}: median {middle:.2f}, middle half {low:.2f} to {high:.2f}, n = {len(values)}",
        hoverinfo="text",
    )  # fmt: skip
    if dots:
        random = np.random.default_rng(place)
        some = values if len(values) <= _DOTS else random.choice(values, _DOTS, replace=False)
        figure.add_scatter(
            x=(place + random.uniform(-0.12, 0.12, len(some))).astype(np.float32),
            y=some.astype(np.float32), mode="markers", name=name,
            marker={"size": 5, "color": colour, "line": {"color": "white", "width": 0.7}},
            hovertemplate="%{y:.2f}<extra>" + plain_html(name) + "</extra>",
        )  # fmt: skip
    figure.add_scatter(
        x=[place - 0.06, place + 0.06, place + 0.06, place - 0.06, place - 0.06],
        y=[low, low, high, high, low], mode="lines", fill="toself", hoverinfo="skip",
        line={"color": "white", "width": 1}, fillcolor=colour,
    )  # fmt: skip
    figure.add_scatter(
        x=[place - 0.06, place + 0.06], y=[middle, middle], mode="lines", hoverinfo="skip",
        line={"color": "white", "width": 3},
    )  # fmt: skip


@st.cache_data(max_entries=8, show_spinner=False)
def _z_scores(
    run_id: str, _prediction: Prediction, masks: tuple[bytes, ...], names: tuple[str, ...]
) -> pd.DataFrame:
    inside = [np.frombuffer(mask, np.bool_) for mask in masks]
    return mean_z_scores(_prediction.mean, inside, names, _prediction.symbols)


def show_heat_map(run: Run, layers: Sequence[Layer], inside: Sequence[np.ndarray]) -> None:
    """Show the mean z-score of genes in each region."""
    prediction, regions = run.prediction, run.regions
    st.markdown("**Heat map**: the prediction's mean z-score of each gene in each region")
    names = unique_names([region.name for region in regions])
    z = _z_scores(run.id, prediction, tuple(chosen.tobytes() for chosen in inside), names)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        which = st.segmented_control(
            "Genes", list(_GENES), default="top", required=True, format_func=_GENES.__getitem__,
            key="heat_genes",
        )  # fmt: skip
        most = min(MOST_GENES, len(z))
        number = most
        if which == "top" and most > 1:
            number = int(
                st.number_input("Number of genes", 1, most, min(30, most), width=160, key="heat_n")
            )
    try:
        genes, missing = _chosen_genes(which or "top", prediction, layers, z, number)
    except SettingsError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return
    if missing:
        st.caption(plain(missing))
    if not genes:
        st.caption("No gene to show: choose *Differ most*, or give a list with genes of the panel.")
        return
    shown = z.loc[genes[:MOST_GENES]].iloc[:, :MOST_DRAWN]
    limit = max(0.5, float(np.abs(shown.to_numpy()).max()))
    figure = go.Figure(
        go.Heatmap(
            z=shown.to_numpy(np.float32), y=[str(gene) for gene in shown.index],
            x=[_short(name) for name in shown.columns], colorscale="RdBu_r", zmin=-limit,
            zmax=limit, colorbar={"title": "mean<br>z-score", "thickness": 14},
            hovertemplate="%{y} in %{x}: %{z:.2f}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_layout(
        height=int(min(2400, 140 + 16 * len(shown))), margin=_MARGIN,
        yaxis={"autorange": "reversed", "type": "category", "dtick": 1, "tickfont": {"size": 11}},
        xaxis={"type": "category", "side": "top"},
    )  # fmt: skip
    st.plotly_chart(
        figure, key="heat_map",
        alt=f"Heat map of the mean z-score of {count(len(shown), 'gene')} in "
        f"{count(shown.shape[1], 'region')}; the table has the numbers",
    )  # fmt: skip
    words = (
        "z-score: (value − mean) / standard deviation of the gene over all spots, so 0 is the mean "
        "of the map."
    )
    if len(genes) > len(shown) or z.shape[1] > shown.shape[1]:
        words += (
            f" Drawn: the first {count(len(shown), 'gene')} and "
            f"{count(shown.shape[1], 'region')}; the table has all {len(genes)} and {z.shape[1]}."
        )
    st.caption(words)
    table_button(z.loc[genes], "These z-scores (CSV)", "region-z-scores.csv")


def _chosen_genes(
    which: str, prediction: Prediction, layers: Sequence[Layer], z: pd.DataFrame, number: int
) -> tuple[list[str], str]:
    """Return the genes of the heat map, and what to say about those that are not there."""
    if which == "top":
        return differing_most(z, number), ""
    if which == "shown":
        return list(dict.fromkeys(gene for layer in layers for gene in layer.genes)), ""
    text = st.text_area(
        "Symbols or Ensembl ids, separated by spaces, commas or lines", key="heat_list", height=100
    )
    if not text.strip():
        return [], ""
    match = match_genes(read_gene_list(text), prediction.symbols, prediction.ensembl)
    return list(match.symbols), match.sentence() if match.missing else ""


def plain_html(text: str) -> str:
    """Return text that came from outside so that Plotly's labels show it as it is."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _short(name: str) -> str:
    return plain_html(name if len(name) <= 18 else name[:17] + "…")


def outline(**settings: Any) -> dict[str, Any]:
    """Return the layout that all charts of this page share, with settings of one."""
    return {"height": 340, "margin": _MARGIN, "showlegend": False} | settings
