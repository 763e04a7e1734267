"""Numbers and names as they stand in a picture."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from app.maps.panels import Panel
from stem_core.prediction.result import clean_text

__all__ = ["end_words", "number_words", "round_length_um", "written"]


def written(text: str) -> str:
    """Return text from outside as one line that can be drawn."""
    line = " ".join(clean_text(text).split())
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line
    )


def number_words(value: float, span: float) -> str:
    """Return a number with as many decimals as the range it lies in asks for."""
    decimals = max(0, min(6, 2 - math.floor(math.log10(span or 1.0))))
    words = f"{abs(value):,.{decimals}f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return ("\N{MINUS SIGN}" if value < 0 and words.strip("0.") else "") + words


def end_words(panel: Panel, values: NDArray[np.float32]) -> tuple[str, str, str]:
    """Return the numbers under a colour bar: low, middle, high; ≤ and ≥ where values lie beyond."""
    span = panel.high - panel.low
    low, middle, high = (
        number_words(value, span) for value in (panel.low, (panel.low + panel.high) / 2, panel.high)
    )
    shown = values[np.isfinite(values)]
    if shown.size and shown.min() < panel.low - span / 1000:
        low = f"≤ {low}"
    if shown.size and shown.max() > panel.high + span / 1000:
        high = f"≥ {high}"
    return low, middle, high


def round_length_um(most_um: float) -> float:
    """Return the largest of 1, 2 and 5 × 10ⁿ µm that is not above a length."""
    base = 10.0 ** math.floor(math.log10(most_um))
    return max(step * base for step in (1, 2, 5) if step * base <= most_um * (1 + 1e-9))
