"""The controls of the result map, and what they say about how to draw it."""

from __future__ import annotations

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from app.maps.layers import KINDS, Layer
from app.maps.panels import COLOUR_SCALES, Look

__all__ = ["pick_layer", "pick_limits", "pick_look"]

_KINDS = ("mean", "std", "q05", "q95", "domain")


def pick_layer(gene: str, *, has_domain: bool) -> Layer:
    """Choose what is shown of a gene."""
    offered = [kind for kind in _KINDS if has_domain or kind != "domain"]
    kind = st.selectbox("Show", offered, format_func=lambda kind: KINDS[kind].words, key="layer",
                        persist_state="session")  # fmt: skip
    return Layer("domain") if kind == "domain" else Layer.of(kind, gene)


def pick_limits(values: NDArray[np.float32], unit: str) -> tuple[float, float]:
    """Choose the range of the colour scale; its ends, in the unit of the values."""
    mode = st.segmented_control(
        "Colour range", ["Percentiles", "Manual"], default="Percentiles", required=True,
        key="range_mode", width="stretch", persist_state="session",
    )  # fmt: skip
    if mode == "Manual":
        low_box, high_box = st.columns(2)
        low = low_box.number_input(f"From ({unit})", value=0.0, step=0.5, format="%.2f",
                                   key="range_low", persist_state="session")  # fmt: skip
        high = high_box.number_input(f"To ({unit})", value=6.0, step=0.5, format="%.2f",
                                     key="range_high", persist_state="session")  # fmt: skip
        if high <= low:
            st.caption(":red[The upper end must be above the lower end.]")
            return low, low + 1.0
        return low, high
    low_p, high_p = st.slider(
        "Percentiles of the spots", 0, 100, (1, 99), format="%d %%", key="range_percentiles",
        label_visibility="collapsed", persist_state="session",
    )  # fmt: skip
    low, high = (float(edge) for edge in np.percentile(values, (low_p, high_p)))
    return (low, high) if high > low else (low, low + 1e-3)


def pick_look() -> tuple[str, Look]:
    """Choose the colour scale; and opacity, sizes and the image behind."""
    scale = st.selectbox(
        "Colour scale", COLOUR_SCALES, key="colour_scale", persist_state="session",
        help="All four are perceptually even; Cividis reads the same with colour blindness.",
    )  # fmt: skip
    opacity = _percent("Spot opacity", 0, 100, 85, "spot_opacity")
    size = _percent("Spot size, of the physical one", 25, 250, 100, "spot_size")
    brightness = _percent("H&E brightness", 30, 170, 100, "image_brightness")
    grey = st.toggle("H&E in grey", key="image_grey", persist_state="session")
    return scale, Look(opacity, size, brightness, grey)


def _percent(label: str, low: int, high: int, value: int, key: str) -> float:
    return st.slider(label, low, high, value, step=5, format="%d %%", key=key,
                     persist_state="session") / 100  # fmt: skip
