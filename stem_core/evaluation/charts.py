"""Small charts as inline SVG: drawn by matplotlib, coloured by the CSS variables of the page.

So light and dark both read well. A chart is 380 units wide; its text is 11 to 12 units, as the page
shows it at about that width.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal
from xml.etree import ElementTree

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from numpy.typing import NDArray

__all__ = ["Axis", "Chart", "axis_over", "interval_chart"]

Floats = NDArray[np.float64]

_WIDTH, _HEIGHT = 380, 310
_UNITS_PER_INCH = 72  # what matplotlib writes in an SVG
# Colours stand for CSS variables of the same names; no two may be alike.
_INKS = {
    "model": "#0b6577", "draw": "#c2570c", "other": "#7a878d", "measured": "#1c262a",
    "text": "#1c262b", "quiet": "#56666d", "line": "#d5dde0",
}  # fmt: skip
_STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "stem", "font.size": 11, "figure.titlesize": 13,
    "figure.titleweight": "bold", "axes.labelsize": 12,
    "axes.edgecolor": _INKS["line"], "axes.labelcolor": _INKS["text"], "axes.grid": True,
    "axes.axisbelow": True, "grid.color": _INKS["line"], "grid.linewidth": 0.7,
    "text.color": _INKS["text"], "xtick.color": _INKS["line"], "ytick.color": _INKS["line"],
    "xtick.labelcolor": _INKS["quiet"], "ytick.labelcolor": _INKS["quiet"],
    "axes.spines.top": False, "axes.spines.right": False,
}  # fmt: skip
_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"


@dataclass(frozen=True)
class Axis:
    """An axis in the units of its values.

    Attributes
    ----------
    label
        Name of the quantity, with its unit.
    low, high
        Ends of the axis.
    logarithmic
        Base 10; `low` is then above 0.
    """

    label: str
    low: float
    high: float
    logarithmic: bool = False


def axis_over(label: str, *values: Floats, logarithmic: bool = False) -> Axis:
    """Return an axis over all finite values, with a little room."""
    found = np.concatenate([np.ravel(v) for v in values])
    found = found[np.isfinite(found)]
    if logarithmic:
        found = found[found > 0]
        if not len(found):
            return Axis(label, 0.1, 1.0, True)
        low, high = float(found.min()) / 1.15, float(found.max()) * 1.15
        return Axis(label, max(low, high * 1e-6), high, True)
    if not len(found):
        return Axis(label, 0.0, 1.0)
    room = 0.04 * float(np.ptp(found)) or 0.5
    return Axis(label, float(found.min()) - room, float(found.max()) + room)


class Chart:
    """A chart that is filled mark by mark and then written.

    Colours are names of CSS variables: `model`, `draw`, `other` and `measured`.

    Parameters
    ----------
    title
        Title of the chart.
    x, y
        Its axes.
    alt
        Sentence that says what the chart shows, for those who do not see it.
    height
        Height in units; the width is 380.
    """

    def __init__(self, title: str, x: Axis, y: Axis, alt: str, height: int = _HEIGHT) -> None:
        self.title, self.x, self.y, self.alt = title, x, y, alt
        self._dots: dict[str, tuple[str, list[str] | None]] = {}
        self._legend: list[tuple[str, str]] = []
        with rc_context(_STYLE):
            size = (_WIDTH / _UNITS_PER_INCH, height / _UNITS_PER_INCH)
            self._figure = Figure(figsize=size, layout="constrained")
            self.axes: Axes = self._figure.add_subplot()
            self._figure.suptitle(title, x=0.02, ha="left")
            which: Literal["x", "y"]
            for which, axis in (("x", x), ("y", y)):
                if axis.logarithmic:
                    self.axes.set(**{f"{which}scale": "log"})
                    getattr(self.axes, f"{which}axis").set_major_formatter("{x:g}")
                else:
                    self.axes.locator_params(axis=which, nbins=5)
                self.axes.set(**{f"{which}label": axis.label, f"{which}lim": (axis.low, axis.high)})

    def diagonal(self) -> None:
        """Draw where x equals y."""
        low, high = max(self.x.low, self.y.low), min(self.x.high, self.y.high)
        if high > low:
            self.axes.plot([low, high], [low, high], color=_INKS["quiet"], ls=(0, (4, 3)), lw=1)

    def points(
        self,
        x: Floats,
        y: Floats,
        colour: str,
        name: str = "",
        hints: Sequence[str] | None = None,
    ) -> None:
        """Draw dots; hints appear under the mouse."""
        known = np.isfinite(x) & np.isfinite(y)
        dots: PathCollection = self.axes.scatter(
            self._inside(x[known], self.x), self._inside(y[known], self.y), s=20,
            color=_INKS[colour], alpha=0.6, linewidths=0, clip_on=False, zorder=3,
        )  # fmt: skip
        gid = f"dots{len(self._dots)}"
        dots.set_gid(gid)
        told = None if hints is None else [hints[i] for i in np.flatnonzero(known).tolist()]
        self._dots[gid] = (colour, told)
        if name:
            self._legend.append((colour, name))

    def line(
        self, x: Floats, y: Floats, colour: str, name: str = "", *, marked: bool = False
    ) -> None:
        """Draw a line, with dots at its points if `marked`."""
        self.axes.plot(x, y, color=_INKS[colour], lw=2, marker="o" if marked else None, ms=7)
        if name:
            self._legend.append((colour, name))

    def area(self, x: Floats, low: Floats, high: Floats, colour: str) -> None:
        """Fill between two lines."""
        self.axes.fill_between(x, low, high, color=_INKS[colour], alpha=0.14, linewidth=0)

    def cells(self, edges: Floats, counts: NDArray[np.int64], colour: str) -> None:
        """Shade cells by their count, on a logarithmic scale."""
        shade = np.ceil(8 * np.log1p(counts) / np.log1p(max(1, counts.max(initial=1)))) / 8
        rgba = np.broadcast_to(to_rgba(_INKS[colour]), (*counts.shape, 4)).copy()
        rgba[..., 3] = shade
        rows, columns = np.nonzero(counts.T)
        side = edges[1] - edges[0]
        self.axes.bar(
            edges[columns], np.full(len(rows), side), side, edges[rows], align="edge",
            color=rgba[columns, rows], linewidth=0,
        )  # fmt: skip

    def svg(self) -> str:
        """Return the chart as an HTML figure."""
        out = io.BytesIO()
        with rc_context(_STYLE):
            self._figure.patch.set_visible(False)
            self.axes.patch.set_visible(False)
            FigureCanvasSVG(self._figure).print_svg(out, metadata={"Date": None})
        ElementTree.register_namespace("", _SVG)
        ElementTree.register_namespace("xlink", _XLINK)
        root = ElementTree.fromstring(out.getvalue())
        for part in root.findall(f"{{{_SVG}}}metadata"):
            root.remove(part)
        for gid, (colour, hints) in self._dots.items():
            group = root.find(f".//*[@id='{gid}']")
            if group is not None:
                _shorten(group, colour, hints)
        for size in ("width", "height"):
            root.attrib.pop(size)
        root.attrib |= {"role": "img", "aria-label": self.alt}
        text = ElementTree.tostring(root, encoding="unicode")
        for name, ink in _INKS.items():
            text = text.replace(ink, f"var(--{name})")
        text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text).replace("xlink:href", "href")
        text = re.sub(r' id="(?!m[0-9a-f]|p[0-9a-f])[^"]*"', "", text)  # referred to by nobody
        names = "".join(
            f'<span><i class="key {colour}"></i>{escape(name)}</span>'
            for colour, name in self._legend
        )
        caption = f"<figcaption>{names}</figcaption>" if names else ""
        return f"<figure>{text}{caption}</figure>"

    @staticmethod
    def _inside(values: Floats, axis: Axis) -> Floats:
        """Bring values beyond the axis to its ends."""
        return np.clip(values, axis.low, axis.high)


def _shorten(group: ElementTree.Element, colour: str, hints: list[str] | None) -> None:
    """Write dots, a long element each, as one path, or shorter ones with their hints."""
    places = [
        (float(dot.get("x", 0)), float(dot.get("y", 0))) for dot in group.iter(f"{{{_SVG}}}use")
    ]
    for child in list(group):
        group.remove(child)
    if hints is None:
        path = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in places)
        ElementTree.SubElement(group, f"{{{_SVG}}}path", {"class": f"dots {colour}", "d": path})
        return
    group.set("class", f"dot {colour}")
    for (x, y), hint in zip(places, hints, strict=True):
        dot = ElementTree.SubElement(
            group, f"{{{_SVG}}}circle", {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": "2.6"}
        )
        ElementTree.SubElement(dot, f"{{{_SVG}}}title").text = hint


def interval_chart(
    title: str,
    label: str,
    rows: Sequence[tuple[str, str, float, tuple[float, float] | None]],
    alt: str,
    colour: Callable[[str], str],
) -> str:
    """Draw a figure of every method with its interval, one under the other.

    Parameters
    ----------
    title, label
        Title of the chart, and label of its axis with the unit.
    rows
        Name, kind, value and interval of each method.
    alt
        Sentence that says what the chart shows.
    colour
        Function from kind to colour.
    """
    ends = [v for _, _, value, interval in rows for v in (value, *(interval or ()))]
    chart = Chart(
        title, axis_over(label, np.array(ends)), Axis("", -0.5, len(rows) - 0.5), alt,
        height=80 + 24 * len(rows),
    )  # fmt: skip
    chart.axes.invert_yaxis()
    chart.axes.grid(visible=False, axis="y")
    chart.axes.set_yticks(range(len(rows)), [name for name, _, _, _ in rows])
    for place, (_, kind, value, interval) in enumerate(rows):
        if interval is not None:
            chart.line(np.array(interval), np.full(2, float(place)), colour(kind))
        chart.line(np.array([value]), np.array([float(place)]), colour(kind), marked=True)
    return chart.svg()
