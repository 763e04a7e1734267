"""Where things lie in a picture, in its pixels from the upper left; arithmetic alone."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from stem_core.errors import SettingsError

__all__ = ["LEAST_WIDTH_PX", "MOST_MAPS", "MOST_WIDTH_PX", "Layout", "Stage", "lay_out"]

MOST_MAPS = 6
LEAST_WIDTH_PX, MOST_WIDTH_PX = 400, 6000
_MOST_HEIGHT_PX = 12_000
_LEAST_DPI, _MOST_DPI = 50, 1200
_NARROWEST_PT = 90.0  # of a map: what its title and numbers need
_HEADER, _FOOT_LINE = 4.3, 1.2  # in font sizes
_LETTER = 0.58  # width of one, of the font size


@dataclass(frozen=True)
class Stage:
    """A map's place, and where the header above it begins."""

    left: int
    top: int
    width: int
    height: int
    header_top: int


@dataclass(frozen=True)
class Layout:
    """A picture's size in pixels, its font size in points, and the places in it."""

    width: int
    height: int
    dpi: float
    font: float
    pad: int
    title_top: int
    stages: tuple[Stage, ...]
    foot_top: int
    foot: tuple[str, ...]

    @property
    def unit(self) -> float:
        """Pixels of a point."""
        return self.dpi / 72

    @property
    def foot_line(self) -> float:
        """Distance between two lines of the foot, in pixels."""
        return self.points(_FOOT_LINE)

    def points(self, fonts: float) -> float:
        """Return a length in font sizes as pixels."""
        return fonts * self.font * self.unit


def lay_out(
    maps: int, shape: float, width_px: int, dpi: float, foot: Sequence[str], *, titled: bool
) -> Layout:
    """Return where up to six maps lie.

    Parameters
    ----------
    maps
        How many.
    shape
        Height of a map over its width.
    width_px, dpi
        Of the picture.
    foot
        Parts of the line below; it is broken where it is too long.
    titled
        Leave room for a line above.

    Raises
    ------
    SettingsError
        No map or more than six, or a size that cannot be.
    """
    if not 1 <= maps <= MOST_MAPS:
        msg = f"A picture shows 1 to {MOST_MAPS} maps, not {maps}; choose fewer."
        raise SettingsError(msg)
    if not LEAST_WIDTH_PX <= width_px <= MOST_WIDTH_PX:
        msg = (
            f"A picture cannot be {width_px:,} px wide; choose {LEAST_WIDTH_PX} to "
            f"{MOST_WIDTH_PX:,} px."
        )
        raise SettingsError(msg)
    if not _LEAST_DPI <= dpi <= _MOST_DPI:
        msg = f"A picture cannot have {dpi:g} dpi; choose {_LEAST_DPI} to {_MOST_DPI:,}."
        raise SettingsError(msg)
    unit = dpi / 72
    columns = 3 if maps > 4 else 2 if maps > 1 else 1
    if width_px / unit / columns < _NARROWEST_PT:
        least = int(_NARROWEST_PT * columns * unit) + 1
        msg = (
            f"At {dpi:g} dpi {columns} map{'s' if columns > 1 else ''} side by side need "
            f"{least:,} px; choose a wider picture, fewer dpi or fewer maps."
        )
        raise SettingsError(msg)
    font = min(10.0, max(4.5, width_px / unit / columns / 30))
    em = font * unit
    pad, gap = round(1.2 * em), round(1.6 * em)
    stage_width = (width_px - 2 * pad - (columns - 1) * gap) // columns
    stage_height = max(1, round(stage_width * shape))
    first = pad + (round(2.4 * em) if titled else 0)
    step = round(_HEADER * em) + stage_height
    stages = []
    for place in range(maps):
        row, column = divmod(place, columns)
        header_top = first + row * (step + gap)
        left = pad + column * (stage_width + gap)
        stages.append(
            Stage(left, header_top + step - stage_height, stage_width, stage_height, header_top)
        )
    letters = max(20, int((width_px - 2 * pad) / (0.8 * em * _LETTER)))
    lines = _lines(foot, letters)[:5]
    foot_top = stages[-1].top + stage_height + round(0.8 * em)
    height = foot_top + round(len(lines) * _FOOT_LINE * em) + pad // 2
    if height > _MOST_HEIGHT_PX:
        msg = (
            f"The picture would be {height:,} px high and {_MOST_HEIGHT_PX:,} is the most; choose "
            "a narrower one."
        )
        raise SettingsError(msg)
    return Layout(width_px, height, dpi, font, pad, pad, tuple(stages), foot_top, tuple(lines))


def _lines(parts: Sequence[str], letters: int) -> list[str]:
    """Return parts as lines; one is broken only where it is longer than a line."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + len(part) + 3 <= letters:
            lines[-1] += f" · {part}"
        else:
            lines += textwrap.wrap(part, letters)
    return lines
