"""A measured section beside the prediction: given as a file, matched, compared gene by gene."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from app.components.wording import count, plain
from app.maps.runs import measured_version, set_measured
from app.maps.values import MapValues
from stem_core.analysis.comparison import calibration, compare_genes, gene_variation
from stem_core.analysis.measured_files import read_measured
from stem_core.errors import StemError
from stem_core.prediction.result import Prediction

__all__ = ["show_measured"]

UNITS = "log2(1 + count)"
_TURN = "measured_turn"


def show_measured(run_id: str, prediction: Prediction, values: MapValues, gene: str) -> None:
    """Take a measured section, or show how the prediction compares with the one given.

    `gene` is the one whose spots are plotted.
    """
    st.subheader("Measured against predicted", divider="gray")
    measured = values.measured()
    if measured is None or not values.measured_genes:
        _ask_for_file(run_id, prediction)
        return
    spots = int(np.isfinite(measured).any(1).sum())
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(
            f"Measured: {count(spots, 'spot')}, {count(len(values.measured_genes), 'gene')} of the "
            "panel. The maps *Measured* and *Predicted − measured* can be chosen above.",
            width="stretch",
        )
        if st.button("Take it away", icon=":material/close:", key="drop_measured"):
            set_measured(run_id, None)
            st.rerun()
    found = _compared(run_id, measured_version(run_id), prediction, measured)
    table = found.genes
    pcc = table["pcc"].dropna()
    st.markdown(
        f"**PCC** over {count(len(pcc), 'gene')}: mean {pcc.mean():.2f}, best "
        f"{pcc.max():.2f}, worst {pcc.min():.2f}"
    )
    number = st.column_config.NumberColumn
    st.dataframe(
        table.sort_values("pcc", ascending=False).reset_index(), hide_index=True, height=280,
        alt="Comparison of prediction and measurement, one row for each gene",
        column_config={
            "gene": "Gene",
            "pcc": number("PCC", format="%.2f"),
            "pcc_low": number("95 % from", format="%.2f"),
            "pcc_high": number("95 % to", format="%.2f"),
            "n_effective": number("Independent spots", format="%.0f"),
            "rvd": number("RVD", format="%.2f"),
            "mse": number("MSE, (log2(1 + count))²", format="%.2f"),
            "predicted_mean": number(f"Mean predicted, {UNITS}", format="%.2f"),
            "measured_mean": number(f"Mean measured, {UNITS}", format="%.2f"),
        },
    )  # fmt: skip
    st.caption(
        "PCC: Pearson correlation over spots. Its interval counts independent spots, fewer than "
        "there are, since neighbours resemble each other. RVD: (predicted − measured variance)² / "
        "measured variance²."
    )
    st.download_button(
        "This comparison (CSV)", table.to_csv(), file_name="measured-against-predicted.csv",
        mime="text/csv", icon=":material/download:",
    )  # fmt: skip
    _show_charts(prediction, measured, found, gene)


class _Comparison(NamedTuple):
    genes: pd.DataFrame
    bands: pd.DataFrame
    variation: pd.DataFrame


@st.cache_data(max_entries=4, show_spinner="Comparing gene by gene …")
def _compared(
    run_id: str, version: str, _prediction: Prediction, _measured: np.ndarray
) -> _Comparison:
    """Compare once for each run and measured section; neither is hashed."""
    x_um, y_um = (
        part * _prediction.mpp for part in (_prediction.spots.x_px, _prediction.spots.y_px)
    )
    made, symbols = _prediction, _prediction.symbols
    return _Comparison(
        compare_genes(made.mean, _measured, x_um, y_um, symbols),
        calibration(made.mean, made.q05, made.q95, _measured),
        gene_variation(made.mean, made.std, _measured, symbols),
    )


def _ask_for_file(run_id: str, prediction: Prediction) -> None:
    given = st.file_uploader(
        "Measured section of this slide (h5ad: raw counts in X)", type=["h5ad"], width=460,
        key=f"measured_file_{st.session_state.get(_TURN, 0)}",
        help="Spots are matched by name, else by position in level-0 pixels (obsm['spatial']); "
        "genes by symbol or Ensembl id.",
    )  # fmt: skip
    if given is None:
        return
    try:
        with tempfile.TemporaryDirectory() as folder, st.spinner("Matching spots and genes …"):
            path = Path(folder) / "measured.h5ad"
            path.write_bytes(given.getvalue())
            measured = read_measured(path, prediction, source=given.name)
        set_measured(run_id, measured.values)
    except StemError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return
    st.session_state[_TURN] = st.session_state.get(_TURN, 0) + 1
    st.rerun()


def _show_charts(
    prediction: Prediction, measured: np.ndarray, found: _Comparison, gene: str
) -> None:
    left, middle, right = st.columns(3, gap="medium")
    layout = {"height": 340, "margin": {"l": 10, "r": 10, "t": 40, "b": 10}, "showlegend": False}
    with left:
        column = prediction.symbols.index(gene)
        if np.isfinite(measured[:, column]).any():
            figure = go.Figure(
                go.Scattergl(
                    x=measured[:, column], y=prediction.mean[:, column], mode="markers",
                    marker={"size": 5, "opacity": 0.6},
                    hovertemplate="measured %{x:.2f}<br>predicted %{y:.2f}<extra></extra>",
                )
            )  # fmt: skip
            figure.update_layout(
                title=f"{gene}, one point a spot", xaxis_title=f"measured, {UNITS}",
                yaxis_title=f"predicted, {UNITS}", **layout,
            )  # fmt: skip
            st.plotly_chart(figure, key="scatter", alt=f"Measured against predicted {gene}")
        else:
            st.caption(f"{plain(gene)} was not measured.")
    with middle:
        bands = found.bands
        figure = go.Figure()
        figure.add_scatter(
            x=[0, 1], y=[0, 1], mode="lines", line={"dash": "dot", "color": "gray"},
            hoverinfo="skip",
        )  # fmt: skip
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
            title="Are the bands honest?", xaxis_title="share the band promises",
            yaxis_title="share of measured values inside",
            xaxis_tickformat=".0%", yaxis_tickformat=".0%", **layout,
        )  # fmt: skip
        st.plotly_chart(figure, key="calibration", alt="Share of measured values inside the bands")
    with right:
        curve = found.variation
        figure = go.Figure()
        for name, words in (("measured", "measured"), ("predicted", "mean"), ("drawn", "draws")):
            figure.add_scatter(
                x=list(range(1, len(curve) + 1)), y=curve[name], mode="lines", name=words,
                text=list(curve.index),
                hovertemplate="%{text}: %{y:.2f}<extra>" + words + "</extra>",
            )  # fmt: skip
        figure.update_layout(
            title="Variance of each gene", xaxis_title="genes, least varying first",
            yaxis_title=f"variance over spots, ({UNITS})²",
            **{**layout, "showlegend": True, "legend": {"x": 0.02, "y": 0.98}},
        )  # fmt: skip
        st.plotly_chart(figure, key="variation", alt="Gene variation curves")
