"""What the address says of the maps that are shown, written from anywhere on the page."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app.maps.layers import Layer
from app.state import Keys

__all__ = ["MAPS_PARAMETER", "put_gene", "put_maps"]

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
