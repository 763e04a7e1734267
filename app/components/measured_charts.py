"""Charts of a prediction beside its measured section, each with its table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from app.components.region_charts import outline, plain_html, table_button
from app.components.wording import count, plain
from stem_core.constants import UNITS
from stem_core.prediction.result import Prediction

__all__ = ["show_calibration", "show_scatter", "show_variation"]

_MOST_POINTS = 20_000


def show_scatter(prediction: Prediction, measured: np.ndarray, gene: str) -> None:
    """Plot a gene's spots: measured against predicted."""
    column = prediction.symbols.index(gene)
    spots = prediction.spots
    table = pd.DataFrame(
        {
            "spot": spots.ids, "x_px": spots.x_px, "y_px": spots.y_px,
            "measured": measured[:, column], "predicted": prediction.mean[:, column],
            "q05": prediction.q05[:, column], "q95": prediction.q95[:, column],
        }
    ).dropna(subset=["measured"])  # fmt: skip
    if table.empty:
        st.caption(f"{plain(gene)} was not measured.")
        return
    shown = table
    if len(table) > _MOST_POINTS:
        shown = table.sample(_MOST_POINTS, random_state=0)
    low = float(min(table["measured"].min(), table["predicted"].min()))
    high = float(max(table["measured"].max(), table["predicted"].max()))
    figure = go.Figure()
    figure.add_scatter(
        x=[low, high], y=[low, high], mode="lines", line={"dash": "dot", "color": "gray"},
        hoverinfo="skip",
    )  # fmt: skip
    figure.add_scattergl(
        x=shown["measured"].to_numpy(np.float32), y=shown["predicted"].to_numpy(np.float32),
        mode="markers", marker={"size": 5, "opacity": 0.6},
        hovertemplate="measured %{x:.2f}<br>predicted %{y:.2f}<extra></extra>",
    )  # fmt: skip
    figure.update_layout(
        **outline(
            title=f"{plain_html(gene)}, one point a spot", xaxis_title=f"measured, {UNITS}",
            yaxis_title=f"predicted, {UNITS}", margin={"l": 10, "r": 10, "t": 40, "b": 10},
        )
    )  # fmt: skip
    r = np.nan
    if table["measured"].nunique() > 1 and table["predicted"].nunique() > 1:
        r = float(np.corrcoef(table["measured"], table["predicted"])[0, 1])
    st.plotly_chart(
        figure, key="scatter",
        alt=f"Measured against predicted {gene} in {count(len(table), 'spot')}, {UNITS}"
        + (f": PCC {r:.2f}" if np.isfinite(r) else ""),
    )  # fmt: skip
    if len(shown) < len(table):
        st.caption(f"{_MOST_POINTS:,} spots, taken at random, are drawn; the table has all.")
    table_button(table, "These spots (CSV)", "measured-spots.csv", index=False)


def show_calibration(bands: pd.DataFrame) -> None:
    """Plot how many measured values lie in bands of several levels."""
    figure = go.Figure()
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", line={"dash": "dot", "color": "gray"}, hoverinfo="skip"
    )
    figure.add_scatter(
        x=bands["nominal"], y=bands["observed"], mode="lines+markers",
        error_y={
            "type": "data", "symmetric": False,
            "array": bands["high"] - bands["observed"],
            "arrayminus": bands["observed"] - bands["low"],
        },
        hovertemplate="band of %{x:.0%}: %{y:.0%} inside<extra></extra>",
    )  # fmt: skip
    figure.update_layout(
        **outline(
            title="Are the bands honest?", xaxis_title="share the band promises",
            yaxis_title="share of measured values inside", xaxis_tickformat=".0%",
            yaxis_tickformat=".0%", margin={"l": 10, "r": 10, "t": 40, "b": 10},
        )
    )  # fmt: skip
    points = ", ".join(
        f"{row.observed:.0%} in the {row.nominal:.0%} band" for row in bands.itertuples()
    )
    st.plotly_chart(figure, key="calibration", alt=f"Measured values inside the bands: {points}")
    table_button(bands, "These shares (CSV)", "measured-bands.csv", index=False)


def show_variation(curve: pd.DataFrame) -> None:
    """Plot the variance of every gene: measured, of the mean, and of single draws."""
    figure = go.Figure()
    for name, words in (("measured", "measured"), ("predicted", "mean"), ("drawn", "draws")):
        figure.add_scatter(
            x=list(range(1, len(curve) + 1)), y=curve[name].to_numpy(np.float32), mode="lines",
            name=words, text=[plain_html(str(gene)) for gene in curve.index],
            hovertemplate="%{text}: %{y:.2f}<extra>" + words + "</extra>",
        )  # fmt: skip
    figure.update_layout(
        **outline(
            title="Variance of each gene", xaxis_title="genes, least varying first",
            yaxis_title=f"variance over spots, ({UNITS})²", showlegend=True,
            legend={"x": 0.02, "y": 0.98}, margin={"l": 10, "r": 10, "t": 40, "b": 10},
        )
    )  # fmt: skip
    sums = ", ".join(f"{name} {curve[name].median():.2f}" for name in curve.columns)
    st.plotly_chart(
        figure, key="variation",
        alt=f"Variance over spots of {count(len(curve), 'gene')}; medians: {sums}",
    )  # fmt: skip
    table_button(curve, "These variances (CSV)", "measured-variance.csv")
