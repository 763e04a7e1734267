"""Gene maps over the H&E image, drawn by the browser: up to six panels that pan and zoom together.

The page sends what to show; the browser fetches spots, values and tiles from the addresses under
`base` itself, so that another gene costs 4 bytes a spot. Back come the part that is seen and what
the user drew.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import streamlit as st

from app.maps.panels import Look, Panel, View
from app.maps.viewer_text import module_text, viewer_style
from stem_core.errors import SettingsError

__all__ = [
    "MODES",
    "MOST_PANELS",
    "Look",
    "Panel",
    "View",
    "maps_viewer",
]

MODES = ("pan", "lasso", "box")
"""What dragging does: move the maps, or draw a region around spots."""
MOST_PANELS = 6
MOST_POINTS = 2000


_component = st.components.v2.component("stem_maps_viewer", css=viewer_style(), js=module_text())


def maps_viewer(
    key: str,
    *,
    base: str,
    slide: Mapping[str, Any],
    panels: Sequence[Panel],
    look: Look,
    spot_diameter_um: float,
    view: View | None = None,
    regions: Sequence[Mapping[str, Any]] = (),
    mode: str = "pan",
    height_px: int = 660,
    on_move: Callable[[View | None], None] = lambda view: None,
) -> dict[str, Any] | None:
    """Show the maps and return what the user drew last, if anything.

    Parameters
    ----------
    key
        Of the component; one viewer keeps its part of the image as long as the key stays.
    base
        Address that has `/map/spots`, `/map/values` and `/tiles` under it; what the browser told
        about another one does not count.
    slide
        What `base/map/slide` gives: `width_px`, `height_px`, `mpp`, `tile_px`, `overlap`, `levels`,
        `tiles`, `thumbnail`.
    panels
        One to six; they lie in a grid as wide as the page lets it be.
    view
        The part to show at first, all spots with None. Later the maps stay where the user has them;
        going back in the browser shows the part that the address then names as `view=x,y,width`.
    regions
        `{"name": str, "points": [[x_px, y_px], …]}`: outlines to draw. Instead of `points` there
        may be `polygons`, a list of them, or `spots`, numbers of spots to ring; `colour` if wanted.
    mode
        One of `MODES`.
    height_px
        Of the whole grid; more where panels would become too flat.
    on_move
        Called with the part seen when the maps have been still for 300 ms; None is all spots.

    Returns
    -------
    dict or None
        `{"kind": "lasso" | "box", "points": [[x_px, y_px], …], "turn": n}` in level-0 pixels, 3 to
        2,000 points; the turn grows with each drawing.

    Raises
    ------
    SettingsError
        No panel or more than six, or an unknown mode.
    """
    if not 1 <= len(panels) <= MOST_PANELS:
        msg = f"The viewer shows 1 to {MOST_PANELS} maps, not {len(panels)}; choose fewer."
        raise SettingsError(msg)
    if mode not in MODES:
        msg = f"The viewer has no mode {mode!r}; choose one of {', '.join(MODES)}."
        raise SettingsError(msg)

    def tell_move() -> None:
        told = st.session_state[key].get("view")
        if isinstance(told, Mapping) and told.get("base") == base:
            on_move(_read_view(told, base))

    before = _read_drawn((st.session_state.get(key) or {}).get("drawn"), base)
    told = _component(
        key=key,
        data={
            "base": base,
            "slide": dict(slide),
            "panels": [panel.as_data() for panel in panels],
            "look": asdict(look),
            "spot_diameter_um": float(spot_diameter_um),
            "view": asdict(view) if view else None,
            "regions": [dict(region) for region in regions],
            "mode": mode,
            "height_px": int(height_px),
            "turn": before["turn"] if before else 0,
        },
        on_view_change=tell_move,
        on_drawn_change=lambda: None,
    )
    return _read_drawn(told.drawn, base)


def _read_view(told: Any, base: str) -> View | None:
    """Return the part seen, if what the browser told can be used."""
    if not isinstance(told, Mapping) or told.get("base") != base:
        return None
    view = told.get("view")
    if not isinstance(view, Mapping):
        return None
    numbers = [_finite(view.get(name)) for name in ("x_um", "y_um", "width_um")]
    x_um, y_um, width_um = numbers
    if x_um is None or y_um is None or width_um is None or width_um <= 0:
        return None
    return View(x_um, y_um, width_um)


def _read_drawn(told: Any, base: str) -> dict[str, Any] | None:
    """Return the drawing, if what the browser told can be used."""
    if not isinstance(told, Mapping) or told.get("base") != base:
        return None
    kind, points, turn = told.get("kind"), told.get("points"), told.get("turn")
    if kind not in MODES[1:] or not isinstance(points, list) or not 3 <= len(points) <= MOST_POINTS:
        return None
    if not isinstance(turn, int) or isinstance(turn, bool) or not 0 < turn < 2**53:
        return None
    read = []
    for point in points:
        if not isinstance(point, list) or len(point) != 2:
            return None
        x_px, y_px = map(_finite, point)
        if x_px is None or y_px is None:
            return None
        read.append([x_px, y_px])
    return {"kind": kind, "points": read, "turn": turn}


def _finite(value: Any) -> float | None:
    """Return a number as a float, and None for all else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
