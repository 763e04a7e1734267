"""Regions of a run: drawn on the maps or read from a file, described and compared."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from app.components.wording import count, plain
from app.maps.panels import layer_title, layer_unit
from app.maps.regions import REGION_COLOURS, keep_regions, next_name
from app.maps.values import MapValues
from stem_core.analysis.region_differences import compare_regions
from stem_core.analysis.region_files import read_regions, write_regions
from stem_core.analysis.regions import Region, describe_region
from stem_core.errors import StemError
from stem_core.prediction.result import Prediction

__all__ = ["add_drawing", "show_regions"]

_TURN = "region_turn"
_REST = "All other spots"
_STATISTICS = {
    "n": "Spots", "mean": "Mean", "median": "Median", "sd": "Standard deviation",
    "q05": "5 %", "q25": "25 %", "q75": "75 %", "q95": "95 %",
}  # fmt: skip


def add_drawing(run_id: str, drawn: dict[str, Any] | None, regions: tuple[Region, ...]) -> bool:
    """Keep what was drawn as a new region, once; tell whether there was something."""
    if drawn is None or st.session_state.get(_TURN) == (run_id, drawn["turn"]):
        return False
    st.session_state[_TURN] = (run_id, drawn["turn"])
    ring = np.asarray(drawn["points"], np.float64)
    colour = REGION_COLOURS[len(regions) % len(REGION_COLOURS)]
    keep_regions(run_id, (*regions, Region(next_name(regions), (ring,), colour=colour)))
    return True


def show_regions(
    run_id: str,
    prediction: Prediction,
    values: MapValues,
    layers: list[str],
    regions: tuple[Region, ...],
    size_px: tuple[int, int],
) -> None:
    """Show the list of regions, their figures, their differences and their file."""
    st.subheader("Regions", divider="gray")
    if not regions:
        st.caption("Draw around spots with *Lasso* or *Box* above the maps, or read a file.")
    x_px, y_px = prediction.spots.x_px, prediction.spots.y_px
    inside = [region.inside(x_px, y_px) for region in regions]
    for index, (region, chosen) in enumerate(zip(regions, inside, strict=True)):
        with st.container(horizontal=True, vertical_alignment="center", key=f"region_{index}"):
            name = st.text_input(
                "Name", region.name, key=f"name_{index}_{region.name}", width=220, max_chars=60,
                label_visibility="collapsed",
            )  # fmt: skip
            st.caption(count(int(chosen.sum()), "spot"), width="content")
            if st.button(
                "Delete", key=f"delete_{index}_{region.name}", icon=":material/delete:",
                type="tertiary",
            ):  # fmt: skip
                keep_regions(run_id, (*regions[:index], *regions[index + 1 :]))
                st.rerun()
            if name.strip() and name != region.name:
                renamed = replace(region, name=name.strip())
                keep_regions(run_id, (*regions[:index], renamed, *regions[index + 1 :]))
                st.rerun()
    _show_file(run_id, regions, size_px)
    if regions:
        _show_figures(values, layers, regions, inside)
        _show_differences(run_id, prediction, regions, inside)


def _show_file(run_id: str, regions: tuple[Region, ...], size_px: tuple[int, int]) -> None:
    turn = st.session_state.get("regions_turn", 0)  # an uploader is emptied by a new key
    with st.container(horizontal=True, vertical_alignment="bottom"):
        given = st.file_uploader(
            "Regions from a GeoJSON file (QuPath and others; level-0 pixels)",
            type=["geojson", "json"], width=460,
            key=f"regions_file_{turn}",
        )  # fmt: skip
        st.download_button(
            "Regions (GeoJSON)", write_regions(regions), file_name="regions.geojson",
            mime="application/geo+json", icon=":material/download:", disabled=not regions,
        )  # fmt: skip
    if given is None:
        return
    try:
        read = read_regions(given.getvalue(), *size_px, source="This file")
    except StemError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return
    keep_regions(run_id, (*regions, *read))
    st.session_state["regions_turn"] = turn + 1
    st.rerun()


def _show_figures(
    values: MapValues, layers: list[str], regions: tuple[Region, ...], inside: list[Any]
) -> None:
    rows = []
    for layer in dict.fromkeys(layers):
        column = values.layer(layer)[:, None]
        for region, chosen in zip(regions, inside, strict=True):
            if chosen.any():
                row = describe_region(column, chosen, [layer]).iloc[0].to_dict()
                rows.append(
                    {"Map": layer_title(layer), "Unit": layer_unit(layer), "Region": region.name}
                    | {_STATISTICS[str(key)]: value for key, value in row.items()}
                )
    table = pd.DataFrame(rows)
    st.markdown("**Values in the regions** of the maps that are shown")
    st.dataframe(
        table, hide_index=True, alt="Statistics of each map in each region",
        column_config={
            name: st.column_config.NumberColumn(name, format="%.2f")
            for key, name in _STATISTICS.items() if key != "n"
        },
    )  # fmt: skip
    st.download_button(
        "These figures (CSV)", table.to_csv(index=False), file_name="regions.csv", mime="text/csv",
        icon=":material/download:", disabled=table.empty,
    )  # fmt: skip


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


def _show_differences(
    run_id: str, prediction: Prediction, regions: tuple[Region, ...], inside: list[Any]
) -> None:
    st.markdown("**Genes that differ between two regions**")
    names = [f"{i + 1} · {region.name}" for i, region in enumerate(regions)]
    first_place, second_place, go = st.columns([2, 2, 1], vertical_alignment="bottom")
    first = first_place.selectbox("Region", names, key="compare_first")
    others = [_REST, *(name for name in names if name != first)]
    second = second_place.selectbox("compared with", others, key="compare_second")
    if not go.button("Compare", key="compare", type="primary", width="stretch"):
        if st.session_state.get("compared") != (run_id, first, second):
            return
    st.session_state["compared"] = (run_id, first, second)
    a = inside[names.index(first)]
    b = None if second == _REST else inside[names.index(second)]
    draws = int(prediction.run.get("samples", 1))
    try:
        found = _compared(
            run_id, prediction, a.tobytes(), None if b is None else b.tobytes(), draws
        )
    except StemError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return

    def number(label: str, form: str) -> Any:
        return st.column_config.NumberColumn(label, format=form)

    st.dataframe(
        found.reset_index(), hide_index=True, alt="Genes by how much they differ",
        column_config={
            "gene": "Gene",
            "mean_a": number("Mean, first", "%.2f"),
            "mean_b": number("Mean, second", "%.2f"),
            "difference": number("Difference, log2", "%.2f"),
            "standard_error": number("Standard error, log2", "%.2f"),
            "effect": number("Effect size (d)", "%.2f"),
            "p": number("p", "%.3f"),
            "p_adjusted": number("p, adjusted", "%.3f"),
            "method": "Method of p",
        },
    )  # fmt: skip
    st.caption(
        "Spots resemble their neighbours, so any two places differ. p is the share of places where "
        "regions of these shapes, laid elsewhere on the tissue, differ as much, the sampling error "
        "of the draws included; adjusted after Benjamini and Hochberg. These are predictions: a "
        "difference may be the model's and not the tissue's."
    )
    st.download_button(
        "These genes (CSV)", found.to_csv(), file_name="region-differences.csv", mime="text/csv",
        icon=":material/download:",
    )  # fmt: skip
