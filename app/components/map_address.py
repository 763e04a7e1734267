"""The maps and the part of the slide that the page's address names: a link shows the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st

from app.maps.layers import Layer
from app.maps.panels import View
from app.state import Keys

__all__ = ["MAPS_PARAMETER", "put_gene", "put_maps", "view_of_address", "write_view"]

MAPS_PARAMETER = "maps"


def view_of_address() -> View | None:
    """Return the part of the slide that the address names, if it names one."""
    try:
        x, y, width = (float(part) for part in st.query_params.get("view", "").split(","))
    except ValueError:
        return None
    return View(x, y, width) if np.isfinite([x, y, width]).all() and width > 0 else None


def write_view(seen: View | None) -> None:
    """Let the address name this part of the slide; None names the whole slide."""
    if seen is None:
        st.query_params.pop("view", None)
    else:
        st.query_params["view"] = f"{seen.x_um:.0f},{seen.y_um:.0f},{seen.width_um:.0f}"


def put_maps(layers: Sequence[Layer], active: int = 0) -> None:
    """Show these layers, one of them to be changed next. For callbacks of widgets."""
    st.query_params[MAPS_PARAMETER] = ";".join(map(str, layers))
    st.session_state[Keys.ACTIVE_MAP] = active
    st.session_state[Keys.GENE_SOUGHT] = None


def put_gene(layers: Sequence[Layer], gene: str) -> None:
    """Show a gene's prediction in the active one of the panels. For callbacks of widgets."""
    active = min(int(st.session_state.get(Keys.ACTIVE_MAP, 0)), len(layers) - 1)
    put_maps([*layers[:active], Layer.of("mean", gene), *layers[active + 1 :]], active)
