"""Small charts as inline SVG: coloured by CSS variables, so that light and dark both read well.

A chart is 380 units wide; its text is 11 to 12 units, as the page shows it at about that width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np
from numpy.typing import NDArray

__all__ = ["Axis", "Chart", "axis_over", "interval_chart"]

Floats = NDArray[np.float64]

WIDTH, HEIGHT = 380, 310
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 30, 44


@dataclass(frozen=True)
class Axis:
    """An axis in the units of its values.

    Attributes
    ----------
    label
        With the unit.
    low, high
        Its ends.
    logarithmic
        Base 10; low is then above 0.
    """

    label: str
    low: float
    high: float
    logarithmic: bool = False

    def place(self, values: Sequence[float] | Floats, start: float, end: float) -> Floats:
        """Bring values to positions between two ends; those beyond the axis stop at its ends."""
        v = np.asarray(values, dtype=np.float64)
        low, high = self.low, self.high
        if self.logarithmic:
            v, low, high = np.log10(np.maximum(v, low)), math.log10(low), math.log10(high)
        share = np.clip((v - low) / (high - low), 0, 1)
        return np.asarray(start + share * (end - start))

    def ticks(self) -> list[tuple[float, str]]:
        """Round values along the axis with their texts."""
        if self.logarithmic:
            first, last = math.floor(math.log10(self.low)), math.floor(math.log10(self.high))
            every = max(1, (last - first) // 5)
            parts = (1, 2, 5) if last - first < 3 else (1,)
            found = [m * 10.0**e for e in range(first, last + 1, every) for m in parts]
            return [(v, f"{v:g}") for v in found if self.low * 0.999 <= v <= self.high * 1.001]
        raw = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * (1 - 1e-9))
        first = math.ceil(self.low / step - 1e-9)
        count = math.floor(self.high / step + 1e-9) - first
        digits = max(0, -math.floor(math.log10(step) + 1e-9)) + (step / power == 2.5)
        values = [(first + i) * step + 0.0 for i in range(count + 1)]
        return [(v, f"{v:.{digits}f}".replace("-", "−")) for v in values]


def axis_over(
    label: str,
    *values: Floats,
    logarithmic: bool = False,
    least: float | None = None,
    most: float | None = None,
) -> Axis:
    """Return an axis over all finite values, with a little room, or up to the ends given."""
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
    low = float(found.min()) - room if least is None else least
    high = float(found.max()) + room if most is None else most
    return Axis(label, low, high if high > low else low + 1.0)


@dataclass
class Chart:
    """A chart that is filled mark by mark and then written.

    Attributes
    ----------
    title, x, y
        Its title and axes.
    alt
        What it shows, in words, for those who do not see it.
    """

    title: str
    x: Axis
    y: Axis
    alt: str
    marks: list[str] = field(default_factory=list)
    legend: list[tuple[str, str]] = field(default_factory=list)

    def _at(
        self, x: Sequence[float] | Floats, y: Sequence[float] | Floats
    ) -> tuple[Floats, Floats]:
        across = self.x.place(x, _LEFT, WIDTH - _RIGHT)
        up = self.y.place(y, HEIGHT - _BOTTOM, _TOP)
        known = np.isfinite(np.asarray(x, np.float64)) & np.isfinite(np.asarray(y, np.float64))
        return np.where(known, across, np.nan), np.where(known, up, np.nan)

    def diagonal(self) -> None:
        """Draw where x equals y."""
        low, high = max(self.x.low, self.y.low), min(self.x.high, self.y.high)
        if high > low:
            (x1, x2), (y1, y2) = self._at([low, high], [low, high])
            self.marks.append(f'<path class="guide" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>')

    def points(
        self,
        x: Floats,
        y: Floats,
        colour: str,
        name: str = "",
        hints: Sequence[str] | None = None,
    ) -> None:
        """Draw dots; hints appear under the mouse."""
        across, up = self._at(x, y)
        known = np.flatnonzero(np.isfinite(across)).tolist()
        if hints is None:
            path = "".join(f"M{across[i]:.1f} {up[i]:.1f}h0" for i in known)
            self.marks.append(f'<path class="dots {colour}" d="{path}"/>')
        else:
            dots = "".join(
                f'<circle cx="{across[i]:.1f}" cy="{up[i]:.1f}" r="2.6">'
                f"<title>{escape(hints[i])}</title></circle>"
                for i in known
            )
            self.marks.append(f'<g class="dot {colour}">{dots}</g>')
        if name:
            self.legend.append((colour, name))

    def line(
        self, x: Floats, y: Floats, colour: str, name: str = "", *, marked: bool = False
    ) -> None:
        """Draw a line, with dots at its points if `marked`."""
        across, up = self._at(x, y)
        pairs = [f"{a:.1f} {u:.1f}" for a, u in zip(across, up, strict=True) if np.isfinite(a)]
        self.marks.append(f'<path class="line {colour}" d="M{"L".join(pairs)}"/>')
        if marked:
            self.points(x, y, f"{colour} big")
        if name:
            self.legend.append((colour, name))

    def area(self, x: Floats, low: Floats, high: Floats, colour: str) -> None:
        """Fill between two lines."""
        across, under = self._at(x, low)
        _, over = self._at(x, high)
        there = [f"{a:.1f} {u:.1f}" for a, u in zip(across, over, strict=True)]
        back = [f"{a:.1f} {u:.1f}" for a, u in zip(across[::-1], under[::-1], strict=True)]
        self.marks.append(f'<path class="area {colour}" d="M{"L".join(there + back)}Z"/>')

    def cells(self, edges: Floats, counts: NDArray[np.int64], colour: str) -> None:
        """Shade cells by their count, on a logarithmic scale."""
        across, _ = self._at(edges, edges)
        _, up = self._at(edges, edges)
        top = math.log1p(float(counts.max(initial=1)))
        steps: dict[int, list[str]] = {}
        for i, j in zip(*np.nonzero(counts), strict=True):
            shade = max(1, math.ceil(8 * math.log1p(counts[i, j]) / top))
            steps.setdefault(shade, []).append(
                f"M{across[i]:.1f} {up[j + 1]:.1f}H{across[i + 1]:.1f}V{up[j]:.1f}H{across[i]:.1f}Z"
            )
        for shade, paths in sorted(steps.items()):
            self.marks.append(
                f'<path class="cell {colour}" fill-opacity="{shade / 8:.3g}" d="{"".join(paths)}"/>'
            )

    def svg(self) -> str:
        """Write the chart."""
        frame = _frame(self.x, self.y)
        return _wrapped(HEIGHT, self.title, self.alt, frame + "".join(self.marks), self.legend)


def _frame(x: Axis, y: Axis) -> str:
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    middle = (_LEFT + right) / 2
    parts = []
    for value, text in x.ticks():
        at = float(x.place([value], _LEFT, right)[0])
        parts.append(f'<path class="grid" d="M{at:.1f} {_TOP}V{bottom}"/>')
        parts.append(f'<text x="{at:.1f}" y="{bottom + 15}" class="tick mid">{text}</text>')
    for value, text in y.ticks():
        at = float(y.place([value], bottom, _TOP)[0])
        parts.append(f'<path class="grid" d="M{_LEFT} {at:.1f}H{right}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" class="tick end">{text}</text>')
    parts.append(
        f'<text x="{middle}" y="{HEIGHT - 8}" class="name mid">{escape(x.label)}</text>'
        f'<text x="13" y="{(_TOP + bottom) / 2}" class="name mid" '
        f'transform="rotate(-90 13 {(_TOP + bottom) / 2})">{escape(y.label)}</text>'
    )
    return "".join(parts)


def _wrapped(
    height: float, title: str, alt: str, body: str, legend: Sequence[tuple[str, str]]
) -> str:
    names = "".join(
        f'<span><i class="key {colour}"></i>{escape(name)}</span>' for colour, name in legend
    )
    return (
        f'<figure><svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(alt)}">'
        f'<text x="{_LEFT}" y="16" class="title">{escape(title)}</text>{body}</svg>'
        + (f"<figcaption>{names}</figcaption>" if names else "")
        + "</figure>"
    )


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
        Of the chart, and of its axis with the unit.
    rows
        Name, kind, value and interval of each method.
    alt
        What it shows.
    colour
        Kind -> class.
    """
    left, step = 116, 24
    ends = [v for _, _, value, interval in rows for v in (value, *(interval or ()))]
    x = axis_over(label, np.array(ends))
    bottom = _TOP + 8 + step * len(rows)
    parts = []
    for value, text in x.ticks():
        at = float(x.place([value], left, WIDTH - _RIGHT)[0])
        parts.append(f'<path class="grid" d="M{at:.1f} {_TOP}V{bottom}"/>')
        parts.append(f'<text x="{at:.1f}" y="{bottom + 15}" class="tick mid">{text}</text>')
    for place, (name, kind, value, interval) in enumerate(rows):
        y = _TOP + 4 + step * (place + 0.5)
        at = float(x.place([value], left, WIDTH - _RIGHT)[0])
        parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" class="name end">{escape(name)}</text>')
        if interval is not None:
            low, high = x.place(interval, left, WIDTH - _RIGHT)
            parts.append(f'<path class="line {colour(kind)}" d="M{low:.1f} {y:.1f}H{high:.1f}"/>')
        parts.append(f'<path class="dots big {colour(kind)}" d="M{at:.1f} {y:.1f}h0"/>')
    parts.append(
        f'<text x="{(left + WIDTH - _RIGHT) / 2}" y="{bottom + 34}" class="name mid">'
        f"{escape(label)}</text>"
    )
    return _wrapped(bottom + 42, title, alt, "".join(parts), [])
