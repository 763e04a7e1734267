"""What the maps of a view show: layers with their colours, the look, and the part of the slide."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from app.maps.values import MapValues
from stem_core.constants import UNITS
from stem_core.errors import SettingsError

__all__ = [
    "COLOUR_SCALES",
    "DIVERGING",
    "Detail",
    "Look",
    "Panel",
    "View",
    "details_of",
    "hex_colours",
    "layer_title",
    "layer_unit",
    "panels_of",
]

_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
_COLOURS = 32
_AROUND_ZERO = ("difference:", "error:", "score:")
COLOUR_SCALES = ("Viridis", "Cividis", "Magma", "Inferno")
"""Perceptually uniform scales; Cividis is made for colour-blind readers."""
DIVERGING = "RdBu_r"  # told apart with colour blindness, too
_OF_MEASURED = ("measured:", "error:")


@dataclass(frozen=True)
class Detail:
    """A line that is told of the spot under the pointer: words, then the values of some layers."""

    words: str
    layers: Sequence[str]
    between: str = " to "


@dataclass(frozen=True)
class Panel:
    """One map.

    Parameters
    ----------
    layer
        Name of the values at the server, such as `mean:GNAS`.
    title, unit, note
        What the values are; the note is said less loudly beside the title.
    palette
        2 to 64 colours `#rrggbb` from low to high.
    version
        Changes when the same layer has other values, such as those of another measured section;
        the browser keeps what it fetched under layer and version.
    low, high
        Values of the first and the last colour; what lies beyond takes those colours.
    spread
        Layer of the standard deviation of these values, told after "±"; "" where there is none.
    details
        What else is told of a spot; the browser fetches it when a spot is first pointed at.

    Raises
    ------
    SettingsError
        Limits that are not finite or the wrong way round, or a palette of something else.
    """

    layer: str
    title: str
    unit: str
    palette: Sequence[str]
    low: float
    high: float
    note: str = ""
    version: str = ""
    spread: str = ""
    details: Sequence[Detail] = ()

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            msg = (
                f"The colours of {self.title} cannot go from {self.low:g} to {self.high:g}; choose "
                "two numbers, the lower first."
            )
            raise SettingsError(msg)
        if not 2 <= len(self.palette) <= 64 or not all(map(_COLOUR.fullmatch, self.palette)):
            msg = f"The palette of {self.title} is not 2 to 64 colours like #0b6577; take another."
            raise SettingsError(msg)


@dataclass(frozen=True)
class Look:
    """How all panels look.

    Parameters
    ----------
    opacity
        Of the spots, 0 to 1.
    spot_size
        1 draws spots at their physical size.
    brightness
        Of the H&E image: 1 leaves it as it is, 0 is black, 2 is white.
    grey
        Take the stain's colour away.
    """

    opacity: float = 0.8
    spot_size: float = 1.0
    brightness: float = 1.0
    grey: bool = False


@dataclass(frozen=True)
class View:
    """The part that is seen: its centre and its width in microns."""

    x_um: float
    y_um: float
    width_um: float


def layer_title(layer: str, n_draws: int = 0) -> str:
    """Say what a layer is, for people; `n_draws` is how many single draws there are to see."""
    kind, _, rest = layer.partition(":")
    if kind == "domain":
        return "Domain distance"
    if kind == "difference":
        first, _, second = rest.partition(":")
        return f"{first} − {second}"
    if kind == "score":
        genes = rest.split(",")
        return f"Score of {len(genes)} genes" if len(genes) > 3 else f"Score of {', '.join(genes)}"
    if kind == "draw":
        gene, _, number = rest.rpartition(":")
        return f"{gene}, draw {number}" + (f" of {n_draws}" if n_draws else "")
    words = {
        "mean": "",
        "std": ", spread",
        "q05": ", lower bound",
        "q95": ", upper bound",
        "error": ", predicted − measured",
        "baseline": ", ridge baseline",
    }
    return rest + words.get(kind, f", {kind}")


def layer_unit(layer: str) -> str:
    """Return the unit of a layer."""
    kind = layer.partition(":")[0]
    return {
        "domain": "× edge of training",
        "score": "z-score",
        "difference": "log2 ratio",
    }.get(kind, UNITS)


def details_of(layer: str, *, has_domain: bool) -> tuple[Detail, ...]:
    """Return what is told of a spot besides its value on a map of this layer."""
    kind, _, gene = layer.partition(":")
    found = []
    if kind in ("std", "q05", "q95"):
        found.append(Detail("prediction", (f"mean:{gene}", f"std:{gene}"), " ± "))
    if kind in ("mean", "std", "q05", "q95"):
        found.append(Detail("90 % band", (f"q05:{gene}", f"q95:{gene}")))
    if has_domain and kind != "domain":
        found.append(Detail("domain distance", ("domain",)))
    return tuple(found)


def panels_of(
    values: MapValues,
    layers: list[str],
    scale: str,
    percentiles: tuple[int, int],
    *,
    shared: bool,
    version: str = "",
) -> list[Panel]:
    """Return the panels with their colours.

    `shared`: maps of one unit have one range, but spreads have one of their own, since they are a
    fraction of the values. Differences go as far below 0 as above, in two colours. `version` tells
    measured values apart from others given before.
    """
    limits = [values.limits(layer, *percentiles) for layer in layers]
    if shared:
        groups: dict[tuple[str, bool], list[tuple[float, float]]] = {}
        for layer, ends in zip(layers, limits, strict=True):
            groups.setdefault(_group(layer), []).append(ends)
        limits = [
            (min(low for low, _ in ends), max(high for _, high in ends))
            for ends in (groups[_group(layer)] for layer in layers)
        ]
    panels = []
    for layer, (low, high) in zip(layers, limits, strict=True):
        colours = hex_colours(scale)
        if layer.startswith(_AROUND_ZERO):
            high = max(abs(low), abs(high))
            low, colours = -high, hex_colours(DIVERGING)
        panels.append(
            Panel(
                layer, layer_title(layer, values.n_draws), layer_unit(layer), colours, low, high,
                note=_note(values, layer),
                version=version if layer.startswith(_OF_MEASURED) else "",
                spread=layer.replace("mean:", "std:", 1) if layer.startswith("mean:") else "",
                details=details_of(layer, has_domain=values.has_domain),
            )
        )  # fmt: skip
    return panels


def _note(values: MapValues, layer: str) -> str:
    if not layer.startswith("draw:") or values.draws_made == values.n_draws:
        return ""
    return f"kept of {values.draws_made} made"


def _group(layer: str) -> tuple[str, bool]:
    return layer_unit(layer), layer.startswith(("std:", "error:"))


def hex_colours(scale: str) -> list[str]:
    """Return 32 colours of a colour scale as #rrggbb, those that Plotly's charts have.

    They come from matplotlib, which the command line has without the packages of the pages.
    """
    import numpy as np
    from matplotlib import colormaps

    places = np.arange(0, 256, 256 // _COLOURS) / 255
    if scale == DIVERGING:
        colours = colormaps[scale](places)[:, :3] * 255
    else:  # Plotly has ten colours of these scales, and straight lines between them
        stops = np.linspace(0, 1, 10)
        known = np.round(colormaps[scale.lower()](stops)[:, :3] * 255)
        colours = np.stack([np.interp(places, stops, channel) for channel in known.T], axis=1)
    return ["#" + "".join(f"{round(part):02x}" for part in colour) for colour in colours.tolist()]
