"""What the maps of a view show: layers with colours and trust, the look, the part of the slide."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.maps.layers import KINDS, Layer
from app.maps.values import MapValues
from stem_core.errors import SettingsError

__all__ = [
    "COLOUR_SCALES",
    "DIVERGING",
    "Badge",
    "Detail",
    "Look",
    "Mute",
    "Panel",
    "View",
    "details_of",
    "hex_colours",
    "panels_of",
]

_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
_COLOURS = 32
COLOUR_SCALES = ("Viridis", "Cividis", "Magma", "Inferno")
"""Perceptually uniform scales; Cividis is made for colour-blind readers."""
DIVERGING = "RdBu_r"  # told apart with colour blindness, too


@dataclass(frozen=True)
class Detail:
    """A line about the spot under the pointer: words, then the values of some layers."""

    words: str
    layers: Sequence[Layer]
    between: str = " to "


@dataclass(frozen=True)
class Panel:
    """One map.

    Parameters
    ----------
    layer
        The values.
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
        Layer of the standard deviation of these values, told after "±"; None where there is none.
    details
        Further lines about a spot; the browser fetches them when a spot is first pointed at.
    badge
        How far the map can be trusted; None says nothing.
    mutes
        What greys out spots; one that applies is enough.

    Raises
    ------
    SettingsError
        Limits that are not finite or the wrong way round, or a palette of something else.
    """

    layer: Layer
    title: str
    unit: str
    palette: Sequence[str]
    low: float
    high: float
    note: str = ""
    version: str = ""
    spread: Layer | None = None
    details: Sequence[Detail] = ()
    badge: Badge | None = None
    mutes: Sequence[Mute] = ()

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

    def as_data(self) -> dict[str, Any]:
        """Return the plain values that the viewer takes; layers go by their names."""
        return vars(self) | {
            "layer": str(self.layer),
            "palette": list(self.palette),
            "spread": str(self.spread or ""),
            "details": [
                vars(detail) | {"layers": [str(layer) for layer in detail.layers]}
                for detail in self.details
            ],
            "badge": vars(self.badge) if self.badge else None,
            "mutes": [vars(mute) | {"layer": str(mute.layer)} for mute in self.mutes],
        }


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


def details_of(layer: Layer, *, has_domain: bool) -> tuple[Detail, ...]:
    """Return the lines about a spot besides its value on a map of this layer."""
    found = []
    if layer.kind in ("std", "q05", "q95"):
        found.append(Detail("prediction", (layer.another("mean"), layer.another("std")), " ± "))
    if layer.kind in ("mean", "std", "q05", "q95"):
        found.append(Detail("90 % band", (layer.another("q05"), layer.another("q95"))))
    if has_domain and layer.kind != "domain":
        found.append(Detail("domain distance", (Layer("domain"),)))
    return tuple(found)


def panels_of(
    values: MapValues,
    layers: Sequence[Layer],
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
        if KINDS[layer.kind].around_zero:
            high = max(abs(low), abs(high))
            low, colours = -high, hex_colours(DIVERGING)
        panels.append(
            Panel(
                layer, layer.title(values.n_draws), layer.unit, colours, low, high,
                note=_note(values, layer),
                version=version if layer.from_measured else "",
                spread=layer.another("std") if layer.kind == "mean" else None,
                details=details_of(layer, has_domain=values.has_domain),
            )
        )  # fmt: skip
    return panels


def _note(values: MapValues, layer: Layer) -> str:
    if layer.kind != "draw" or values.draws_made == values.n_draws:
        return ""
    return f"kept of {values.draws_made} made"


def _group(layer: Layer) -> tuple[str, bool]:
    return layer.unit, KINDS[layer.kind].own_range


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


@dataclass(frozen=True)
class Badge:
    """How far a map can be trusted.

    Parameters
    ----------
    level
        `good`, `fair`, `weak` or `unknown`.
    words
        Beside the title; they say the level, too, since a colour is not for all.
    more
        Told on hover or focus, a paragraph each.
    """

    level: str
    words: str
    more: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mute:
    """Grey out the spots at which a layer is above a threshold.

    Parameters
    ----------
    layer
        The values.
    above
        In their unit.
    words, unit
        What they are, for the tooltip of a spot that is grey.
    """

    layer: Layer
    above: float
    words: str
    unit: str = ""
