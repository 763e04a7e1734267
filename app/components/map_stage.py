"""The maps of the page: a part of it that runs again alone when the user moves them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import streamlit as st

from app.components.maps_viewer import maps_viewer
from app.components.region_tools import add_drawing
from app.maps.layers import Layer
from app.maps.panels import View
from app.state import Keys
from stem_core.analysis.regions import Region

__all__ = ["MAPS_PARAMETER", "put_gene", "put_maps", "show_stage", "view_of_address"]

MAP_HEIGHT_PX = 640


def view_of_address() -> View | None:
    """Return the part of the slide that the address names, if it names one."""
    try:
        x, y, width = (float(part) for part in st.query_params.get("view", "").split(","))
    except ValueError:
        return None
    return View(x, y, width) if np.isfinite([x, y, width]).all() and width > 0 else None


def _write_address(seen: View | None) -> None:
    if seen is None:
        st.query_params.pop("view", None)
    else:
        st.query_params["view"] = f"{seen.x_um:.0f},{seen.y_um:.0f},{seen.width_um:.0f}"


@st.fragment
def show_stage(
    run_id: str,
    regions: tuple[Region, ...],
    size_px: tuple[int, int],
    outlines: list[dict[str, Any]],
    **shown: Any,
) -> None:
    """Show the maps; a pause in moving them runs this part of the page again, not all of it."""
    drawn = maps_viewer(
        "maps", view=view_of_address(), regions=outlines, height_px=MAP_HEIGHT_PX,
        on_move=_write_address, **shown,
    )  # fmt: skip
    if add_drawing(run_id, drawn, regions, size_px):
        st.rerun()


MAPS_PARAMETER = "maps"


def put_maps(layers: Sequence[Layer], active: int = 0) -> None:
    """Show these layers, one of them to be changed next. For callbacks of widgets."""
    st.query_params[MAPS_PARAMETER] = ";".join(map(str, layers))
    st.session_state[Keys.ACTIVE_MAP] = active
    st.session_state[Keys.GENE_SOUGHT] = None


def put_gene(layers: Sequence[Layer], gene: str) -> None:
    """Show a gene's prediction in the active one of the panels. For callbacks of widgets."""
    active = min(int(st.session_state.get(Keys.ACTIVE_MAP, 0)), len(layers) - 1)
    put_maps([*layers[:active], Layer.of("mean", gene), *layers[active + 1 :]], active)
