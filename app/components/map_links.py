"""Put maps on the page's panels from elsewhere on it: a row of a table, a button."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

__all__ = ["put_gene", "put_maps"]

# The address and the key in which the page keeps its maps and the one to change.
_PARAMETER = "maps"
_ACTIVE = "maps_active"


def put_maps(layers: Sequence[str]) -> None:
    """Show these layers, the first of them to be changed next. For callbacks of widgets."""
    st.query_params[_PARAMETER] = ";".join(layers)
    st.session_state[_ACTIVE] = 0


def put_gene(layers: Sequence[str], gene: str) -> None:
    """Show a gene's prediction in the active one of the panels. For callbacks of widgets."""
    active = min(int(st.session_state.get(_ACTIVE, 0)), len(layers) - 1)
    shown = [f"mean:{gene}" if place == active else layer for place, layer in enumerate(layers)]
    st.query_params[_PARAMETER] = ";".join(shown)
