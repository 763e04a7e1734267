"""Keeps the part of the map that is seen when another gene, layer or colour is chosen.

Streamlit makes a chart anew whenever its figure changes, which loses the zoom. So the browser tells
which part is seen, and the next figure starts with it. As long as only the zoom changes, the figure
stays as it is, and nothing is drawn anew.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from pathlib import Path

import streamlit as st

__all__ = ["Box", "box_to_show", "watch_view"]

Box = tuple[float, float, float, float]
_KEY = "map_view"
_DRAWN = "map_drawn"

_component = st.components.v2.component(
    "stem_map_view",
    html="<span></span>",
    js=Path(__file__).with_name("map_view.js").read_text(encoding="utf-8"),
)


def watch_view(chart: str, view: str) -> None:
    """Watch the chart with the key `chart`; `view` names what it shows (a run)."""
    _component(key=_KEY, data={"chart": chart, "view": view}, height=1, on_seen_change=lambda: None)


def box_to_show(view: str, content: Hashable, home: Box) -> Box:
    """Return (left, top, right, bottom) in microns that the figure has to start with.

    Parameters
    ----------
    view
        What is shown (a run); the part that was seen of another one does not count.
    content
        Everything the figure is drawn from besides the part that is seen.
    home
        What is shown at first, and after a double click.
    """
    seen = _seen(view)
    drawn = st.session_state.get(_DRAWN)
    if drawn is not None and drawn[0] == (view, content) and (seen is not None or drawn[1] == home):
        before: Box = drawn[1]
        return before
    box = home if seen is None else seen
    st.session_state[_DRAWN] = ((view, content), box)
    return box


def _seen(view: str) -> Box | None:
    """Return what the browser told last, if it can be used."""
    told = (st.session_state.get(_KEY) or {}).get("seen") or {}
    box = told.get("box")
    if told.get("view") != view or not isinstance(box, list) or len(box) != 4:
        return None
    try:
        left, top, right, bottom = (float(edge) for edge in box)
    except (TypeError, ValueError):
        return None
    usable = all(map(math.isfinite, (left, top, right, bottom))) and left < right and top < bottom
    return (left, top, right, bottom) if usable else None
