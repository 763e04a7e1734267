"""A measured section beside the prediction: uploaded, matched, compared gene by gene."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import streamlit as st

from app import paths
from app.components.map_address import put_maps
from app.components.measured_charts import show_calibration, show_scatter, show_variation
from app.components.region_charts import table_button
from app.components.wording import count, plain
from app.maps.layers import Layer
from app.maps.measured_places import list_measured, measured_place
from app.maps.run import Run
from app.maps.runs import measured_version, set_measured
from stem_core.analysis.comparison import (
    calibration,
    compare_genes,
    compare_panel,
    gene_variation,
)
from stem_core.analysis.measured_files import read_measured
from stem_core.constants import UNITS
from stem_core.errors import StemError
from stem_core.prediction.result import Prediction

__all__ = ["show_measured"]

_GENE = "measured_gene"
_FOLLOWED = "measured_followed"  # the shown gene that the choice below followed last
_FIGURES = {
    "pcc_10": ("PCC-10", "Mean over the 10 genes that correlate best on this section."),
    "pcc_50": ("PCC-50", "Mean over the 50 genes that correlate best on this section."),
    "pcc_all": ("PCC, whole panel", "Mean over all genes of the panel that vary here."),
    "spearman_all": ("Spearman, whole panel", "Mean of the rank correlation over spots."),
    "rvd": ("RVD", "(Predicted − measured variance)² / measured variance²; mean over genes."),
    "mse": (f"MSE, ({UNITS})²", "Mean squared error over spots and genes."),
    "coverage_90": ("In the 90 % band", "Share of measured values inside the band."),
}
_COLUMNS = {
    "pcc": ("PCC", "%.2f"),
    "pcc_low": ("95 % from", "%.2f"),
    "pcc_high": ("95 % to", "%.2f"),
    "spearman": ("Spearman", "%.2f"),
    "n_effective": ("Independent spots", "%.0f"),
    "rvd": ("RVD", "%.2f"),
    "mse": ("MSE, (log2(1 + count))²", "%.2f"),
    "predicted_mean": (f"Mean predicted, {UNITS}", "%.2f"),
    "measured_mean": (f"Mean measured, {UNITS}", "%.2f"),
}


class _Comparison(NamedTuple):
    panel: dict[str, float | int | None]
    genes: pd.DataFrame
    bands: pd.DataFrame
    variation: pd.DataFrame


def show_measured(run: Run, gene: str) -> None:
    """Take a measured section, or show how the prediction compares with the one given.

    `gene` is the one that is shown on the first map.
    """
    st.subheader("Measured against predicted", divider="gray")
    prediction, measured = run.prediction, run.values.measured()
    if measured is None or not run.values.measured_genes:
        _ask_for_measured(run)
        return
    try:
        _show_given(run, measured)
        found = _compared(run.id, measured_version(run.id), prediction, measured)
    except StemError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return
    _show_panel(found)
    _show_genes(found.genes)
    chosen = _pick_gene(found.genes, gene)
    left, middle, right = st.columns(3, gap="medium")
    with left:
        show_scatter(prediction, measured, chosen)
    with middle:
        show_calibration(found.bands)
    with right:
        show_variation(found.variation)


def _show_given(run: Run, measured: np.ndarray) -> None:
    spots = int(np.isfinite(measured).any(1).sum())
    genes = len(run.values.measured_genes)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(
            f"Measured: {count(spots, 'spot')}, {count(genes, 'gene')} of the panel. "
            f"{_measured_news(run.id)} The maps *Measured* and *Predicted − measured* can be "
            "chosen above.",
            width="stretch",
        )
        if st.button("Remove measured data", icon=":material/close:", key="drop_measured"):
            set_measured(run.id, None)
            st.rerun()


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
        compare_panel(made.mean, made.q05, made.q95, _measured),
        compare_genes(made.mean, _measured, x_um, y_um, symbols),
        calibration(made.mean, made.q05, made.q95, _measured),
        gene_variation(made.mean, made.std, _measured, symbols),
    )


def _show_panel(found: _Comparison) -> None:
    """Show the figures over all genes, and the best and the worst of them."""
    with st.container(horizontal=True):
        for key, (label, words) in _FIGURES.items():
            value = found.panel[key]
            shown = "–" if value is None else f"{value:.0%}" if "cover" in key else f"{value:.2f}"
            st.metric(label, shown, help=words, width="content")
    pcc = found.genes["pcc"].dropna()
    spots = count(int(found.panel["n_spots"] or 0), "spot")
    words = (
        f"**PCC** over {count(len(pcc), 'gene')} and {spots}: "
        f"mean {pcc.mean():.2f}, best {pcc.max():.2f}, worst {pcc.min():.2f}."
    )
    if flat := found.panel["n_constant_genes"]:
        words += f" {count(int(flat), 'gene')} measured alike everywhere are left out."
    st.markdown(words)
    st.caption(
        "PCC-10 and PCC-50 are as in the paper of Stem: their genes are picked on this very "
        "section, so they flatter; the whole panel does not."
    )


def _show_genes(table: pd.DataFrame) -> None:
    ordered = table.sort_values("pcc", ascending=False)
    genes = [str(gene) for gene in ordered.index]
    st.dataframe(
        ordered.reset_index(), hide_index=True, height=280, key="measured_rows",
        on_select=lambda: _choose_row(genes), selection_mode="single-row",
        alt="Comparison of prediction and measurement, one row for each gene",
        column_config={
            "gene": "Gene",
            **{
                name: st.column_config.NumberColumn(label, format=form)
                for name, (label, form) in _COLUMNS.items()
            },
        },
    )  # fmt: skip
    st.caption(
        "PCC: Pearson correlation over spots. Its interval counts independent spots, fewer than "
        "there are, since neighbours resemble each other. RVD: (predicted − measured variance)² / "
        "measured variance². Choose a row to see the gene below."
    )
    table_button(table, "This comparison (CSV)", "measured-against-predicted.csv")


def _choose_row(genes: list[str]) -> None:
    rows = (st.session_state.get("measured_rows") or {}).get("selection", {}).get("rows", [])
    if rows and 0 <= rows[0] < len(genes):
        st.session_state[_GENE] = genes[rows[0]]


def _pick_gene(table: pd.DataFrame, shown: str) -> str:
    """Choose the gene of the scatter and of the maps: that of the first map, until another is."""
    genes = [str(gene) for gene in table.sort_values("pcc", ascending=False).index]
    if st.session_state.get(_FOLLOWED) != shown or st.session_state.get(_GENE) not in genes:
        st.session_state[_FOLLOWED], st.session_state[_GENE] = shown, shown
    with st.container(horizontal=True, vertical_alignment="bottom"):
        gene = str(st.selectbox("Gene (best predicted first)", genes, key=_GENE, width=260))
        st.button(
            f"Show prediction, measured and difference of {plain(gene)}", key="three_maps",
            icon=":material/view_column:", on_click=put_maps,
            args=([Layer.of(kind, gene) for kind in ("mean", "measured", "error")],),
            disabled=gene not in set(table.index[table["measured_mean"].notna()]),
        )  # fmt: skip
    return gene


_TURN = "measured_turn"  # an uploader is emptied by a new key
_FAULT = "measured_fault"
_NEWS = "measured_news"


def _ask_for_measured(run: Run) -> None:
    """Ask for a measured section, match it, and save it with the run."""
    fault = st.session_state.pop(_FAULT, None)
    if fault:
        st.error(fault, icon=":material/error:")
    given = st.file_uploader(
        "Measured section of this slide: h5ad, or a zip of Space Ranger's outs", width=560,
        type=["h5ad", "h5", "zip"], key=f"measured_file_{st.session_state.get(_TURN, 0)}",
        help="h5ad: raw counts in X (or layers['counts']). Zip: filtered_feature_bc_matrix.h5 and "
        "spatial/tissue_positions.csv, in any folder. Spots are matched by name, else by position "
        "in level-0 pixels; genes by symbol or Ensembl id.",
    )  # fmt: skip
    if given is not None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "measured"
            path.write_bytes(given.getvalue())
            _take(run, path, given.name)
        st.session_state[_TURN] = st.session_state.get(_TURN, 0) + 1  # the page forgets the bytes
        st.rerun()
    if paths.slide_dir() is not None:
        _show_server_folder(run)


def _measured_news(run_id: str) -> str:
    """Return how the section was matched, if it was given in this session; "" else."""
    of_run, words = st.session_state.get(_NEWS, ("", ""))
    return str(words) if of_run == run_id else ""


def _show_server_folder(run: Run) -> None:
    places = list_measured()
    if not places:
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        place = st.selectbox(
            "Section on the server", places, index=None, placeholder="Type to search", width=420,
            key="server_measured",
        )  # fmt: skip
        go = st.button("Take it", disabled=place is None, key="take_server_measured")
    if not go or place is None:
        return
    try:
        path = measured_place(place)
    except StemError as error:
        st.session_state[_FAULT] = plain(str(error))
    else:
        _take(run, path, place.rsplit("/", 1)[-1])
    st.rerun()


def _take(run: Run, path: Path, name: str) -> None:
    """Match a section and keep it with the run, or keep the reason why not."""
    st.session_state[_FAULT] = None
    try:
        with st.spinner("Matching spots and genes …"):
            measured = read_measured(path, run.prediction, source=name)
        set_measured(run.id, measured.values)
    except StemError as error:
        st.session_state[_FAULT] = plain(str(error))
        return
    spots = int(measured.spots.sum())
    words = f"{count(spots, 'spot')} of {len(measured.spots):,} matched by {measured.matched_by}."
    words = " ".join([words, *map(plain, measured.doubts)])
    st.session_state[_NEWS] = (run.id, words)
