"""Regions of a run: drawn on the maps or read from a file, named, coloured, kept with the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import streamlit as st

from app.components.region_charts import show_heat_map, show_values
from app.components.region_compare import show_differences
from app.components.wording import count, plain
from app.jobs.folder import find_folder
from app.maps.layers import Layer
from app.maps.regions import REGION_COLOURS, keep_regions, kept_regions, next_name, regions_file
from app.maps.run import Run
from app.state import Keys
from stem_core.analysis.region_files import read_regions, write_regions
from stem_core.analysis.regions import Region, combine_regions
from stem_core.errors import JobError, OutputError, SettingsError, StemError

__all__ = ["add_drawing", "offer_lost_regions", "regions_of", "show_regions"]

_VIEWER = "maps"  # key of the component that is drawn on
_TURN = "region_turn"  # the drawing that was taken last
_FILE_TURN = "regions_turn"  # an uploader is emptied by a new key
_HELD = "regions_held"  # (run, regions): as they stand in this page
_UNKEPT = "regions_unkept"  # the run whose regions in this page could not be written down
_FAULT = "regions_fault"
_UNREAD = "regions_unread"  # why the file of the regions cannot be read
_PAGE = 12  # regions in sight at once
_PARTS = {
    "values": "Values and violins",
    "heat": "Heat map of genes",
    "differences": "Genes that differ",
}


def offer_lost_regions() -> None:
    """Offer what was drawn here on a run that is not there any more; first thing on the page."""
    run_id = st.query_params.get(Keys.RUN_PARAMETER) or st.session_state[Keys.LAST_RUN]
    held_of, regions = st.session_state.get(_HELD, (None, ()))
    if not run_id or held_of != run_id:
        return
    try:
        find_folder(run_id)
        return
    except JobError:
        drawn = (st.session_state.get(_VIEWER) or {}).get("drawn")
        if ring := _new_ring(run_id, drawn):
            regions = (*regions, _next_region(regions, ring[0]))
            st.session_state[_HELD] = (run_id, regions)
    if regions:
        st.warning(
            f"The run whose maps were open here was deleted. What was drawn on it "
            f"({count(len(regions), 'region')}) is still in this page.",
            icon=":material/draw:",
        )
        _download(regions, "Keep a copy of the regions (GeoJSON)")


def regions_of(run_id: str) -> tuple[Region, ...]:
    """Return the regions of a run as this page has them: those kept, or those not kept yet."""
    held_of, held = st.session_state.get(_HELD, (None, ()))
    if st.session_state.get(_UNKEPT) == run_id == held_of:
        return tuple(held)
    try:
        regions = kept_regions(run_id)
        st.session_state[_UNREAD] = None
    except OutputError as error:
        st.session_state[_UNREAD] = plain(str(error))
        regions = tuple(held) if held_of == run_id else ()
    st.session_state[_HELD] = (run_id, regions)
    return regions


def add_drawing(run: Run, drawn: dict[str, Any] | None) -> bool:
    """Keep what was drawn as a new region, once; tell whether there was something."""
    ring = _new_ring(run.id, drawn)
    if drawn is None or not ring:
        return False
    st.session_state[_TURN] = (run.id, drawn["turn"])
    corners = ring[0]
    if (corners.max(0) <= 0).any() or (corners.min(0) >= run.size_px).any():
        st.session_state[_FAULT] = "What you drew lies beside the slide; draw around its spots."
    else:
        _keep(run.id, (*run.regions, _next_region(run.regions, corners)))
    return True


def show_regions(run: Run, layers: list[Layer]) -> None:
    """Show the list of regions, their figures, their differences and their file."""
    st.subheader("Regions", divider="gray")
    prediction, regions = run.prediction, run.regions
    _show_faults(run)
    if not regions:
        st.caption("Draw around spots with *Lasso* or *Box* above the maps, or read a file.")
    x_px, y_px = prediction.spots.x_px, prediction.spots.y_px
    inside = [region.inside(x_px, y_px) for region in regions]
    _show_list(run, [int(chosen.sum()) for chosen in inside])
    _show_changes(run)
    _show_file(run)
    if not regions:
        return
    part = st.segmented_control(
        "Of the regions", list(_PARTS), default="values", required=True,
        format_func=_PARTS.__getitem__, key="regions_part", label_visibility="collapsed",
    )  # fmt: skip
    if part == "differences":
        show_differences(run, layers, inside)
    elif not any(chosen.any() for chosen in inside):
        st.caption("No spot lies inside any region, so there is nothing to show; draw one larger.")
    elif part == "heat":
        show_heat_map(run, layers, inside)
    else:
        show_values(run, layers, inside)


def _show_list(run: Run, spots: list[int]) -> None:
    regions = run.regions
    first = 0
    if len(regions) > _PAGE:
        pages = -(-len(regions) // _PAGE)
        page = st.number_input(
            f"Page of the {len(regions)} regions (1 to {pages})", 1, pages, width=260,
            key=f"regions_page_{pages}",
        )  # fmt: skip
        first = (int(page) - 1) * _PAGE
    for index, region in list(enumerate(regions))[first : first + _PAGE]:
        key = f"{index}_{region.name}_{region.colour}"
        with st.container(horizontal=True, vertical_alignment="center", key=f"region_{index}"):
            colour = st.color_picker(
                f"Colour of {plain(region.name)}", region.colour, key=f"colour_{key}",
                label_visibility="collapsed", width=48,
            )  # fmt: skip
            name = st.text_input(
                f"Name of region {index + 1}", region.name, key=f"name_{key}", width=220,
                max_chars=100, label_visibility="collapsed",
            ).strip()  # fmt: skip
            st.caption(
                count(spots[index], "spot")
                if spots[index]
                else "No spot has its centre inside; left out of tables and charts.",
                width="content",
            )
            if st.button(
                "Delete", key=f"delete_{key}", icon=":material/delete:", type="tertiary",
                help=f"Delete {plain(region.name)}",
            ):  # fmt: skip
                _keep(run.id, (*regions[:index], *regions[index + 1 :]))
                st.rerun()
            changed = replace(region, name=name or region.name, colour=colour)
            if (changed.name, changed.colour) != (region.name, region.colour):
                _keep(run.id, (*regions[:index], changed, *regions[index + 1 :]))
                st.rerun()


def _show_changes(run: Run) -> None:
    """Combine several regions, or delete all."""
    regions = run.regions
    if len(regions) < 2:
        return
    with st.container(horizontal=True):
        with st.popover("Combine", icon=":material/join:"):
            chosen = st.multiselect(
                "Regions to make one of", range(len(regions)), key="combine_regions",
                format_func=lambda i: f"{i + 1} · {regions[i].name}",
            )  # fmt: skip
            if st.button("Combine them", key="combine", disabled=len(chosen) < 2):
                _combine(run, sorted(chosen))
        with st.popover("Delete all", icon=":material/delete_sweep:"):
            st.markdown(f"Delete {count(len(regions), 'region')}? They cannot be brought back.")
            if st.button("Delete them", key="delete_all", type="primary"):
                _keep(run.id, ())
                st.rerun()


def _combine(run: Run, chosen: list[int]) -> None:
    spots, regions = run.prediction.spots, run.regions
    try:
        one = combine_regions([regions[i] for i in chosen], spots.x_px, spots.y_px)
    except SettingsError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return
    rest = {i: region for i, region in enumerate(regions) if i not in chosen[1:]}
    _keep(run.id, tuple({**rest, chosen[0]: one}.values()))
    st.session_state.pop("combine_regions", None)
    st.rerun()


def _show_file(run: Run) -> None:
    turn = st.session_state.get(_FILE_TURN, 0)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        given = st.file_uploader(
            "Regions from a GeoJSON file (QuPath and others; level-0 pixels)",
            type=["geojson", "json"], width=460, key=f"regions_file_{turn}",
        )  # fmt: skip
        _download(run.regions, "Regions (GeoJSON)")
    if given is None:
        return
    try:
        read = read_regions(given.getvalue(), *run.size_px, source="This file")
    except StemError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return
    _keep(run.id, (*run.regions, *read))
    st.session_state[_FILE_TURN] = turn + 1
    st.rerun()


def _show_faults(run: Run) -> None:
    """Say what could not be kept or read, and how to go on."""
    fault = st.session_state.pop(_FAULT, None)
    if st.session_state.get(_UNKEPT) == run.id:
        st.error(
            f"{fault or 'The regions in this page are not kept yet.'} What you see is in this page "
            "only: try again, or download it as GeoJSON below.",
            icon=":material/error:",
        )
        if st.button("Try to keep them again", key="regions_again", icon=":material/refresh:"):
            _keep(run.id, run.regions)
            st.rerun()
        return
    if fault:
        st.error(fault, icon=":material/error:")
    if unread := st.session_state.get(_UNREAD):
        st.error(unread, icon=":material/error:")
        st.download_button(
            "Original file", regions_file(run.id).read_bytes, file_name="regions.geojson",
            mime="application/geo+json", icon=":material/download:", on_click="ignore",
        )  # fmt: skip


def _keep(run_id: str, regions: tuple[Region, ...]) -> None:
    """Write the regions down; those that cannot be written stay in this page.

    Of a run that was deleted meanwhile the page says so on its next run, and offers them.
    """
    st.session_state[_UNKEPT] = None
    try:
        keep_regions(run_id, regions)
    except SettingsError as error:
        st.session_state[_FAULT] = plain(str(error))
        return
    except (JobError, OutputError) as error:
        st.session_state[_FAULT], st.session_state[_UNKEPT] = plain(str(error)), run_id
    st.session_state[_HELD] = (run_id, regions)


def _new_ring(run_id: str, drawn: Mapping[str, Any] | None) -> list[np.ndarray]:
    """Return the outline that was drawn, (P,2) in level-0 pixels, if it is a new one."""
    if not drawn or st.session_state.get(_TURN) == (run_id, drawn.get("turn")):
        return []
    try:
        ring = np.asarray(drawn.get("points"), np.float64)
    except (TypeError, ValueError):
        return []
    usable = ring.ndim == 2 and ring.shape[1] == 2 and len(ring) >= 3 and np.isfinite(ring).all()
    return [ring] if usable else []


def _next_region(regions: tuple[Region, ...], ring: np.ndarray) -> Region:
    colour = REGION_COLOURS[len(regions) % len(REGION_COLOURS)]
    return Region(next_name(regions), (ring,), colour=colour)


def _download(regions: tuple[Region, ...], label: str) -> None:
    st.download_button(
        label, lambda: write_regions(regions), file_name="regions.geojson",
        mime="application/geo+json", icon=":material/download:", disabled=not regions,
        on_click="ignore",
    )  # fmt: skip
