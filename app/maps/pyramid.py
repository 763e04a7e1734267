"""Levels and tiles of an image in the pyramid of Deep Zoom images; arithmetic alone.

Level 0 is the whole image in one pixel; each level is twice as large as the one below it, and the
last one is the image at full resolution. A tile shows 254 × 254 px of its level and one more pixel
of each neighbour, so that no seam is seen between tiles that are scaled.
"""

from __future__ import annotations

from dataclasses import dataclass

from stem_core.errors import JobError

__all__ = ["OVERLAP_PX", "TILE_PX", "Tile", "level_count", "level_size", "tile_place"]

TILE_PX = 254
OVERLAP_PX = 1


@dataclass(frozen=True)
class Tile:
    """A tile's place: its box in level-0 pixels, and the size it is drawn at."""

    x_px: int
    y_px: int
    width_px: int
    height_px: int
    out_width: int
    out_height: int


def level_count(width_px: int, height_px: int) -> int:
    """Return the number of levels of an image: from one pixel to full resolution."""
    return (max(width_px, height_px, 1) - 1).bit_length() + 1


def level_size(width_px: int, height_px: int, level: int) -> tuple[int, int]:
    """Return width and height of a level in its own pixels.

    Raises
    ------
    JobError
        The image has no such level.
    """
    levels = level_count(width_px, height_px)
    if not 0 <= level < levels:
        raise _no_tile()
    scale = 1 << (levels - 1 - level)
    return -(-width_px // scale), -(-height_px // scale)


def tile_place(width_px: int, height_px: int, level: int, column: int, row: int) -> Tile:
    """Return where a tile lies.

    Parameters
    ----------
    width_px, height_px
        Size of the image at full resolution.
    level, column, row
        The tile, all counted from 0.

    Raises
    ------
    JobError
        The image has no such tile.
    """
    level_width, level_height = level_size(width_px, height_px, level)
    scale = 1 << (level_count(width_px, height_px) - 1 - level)
    left, right = _tile_span(column, level_width)
    top, bottom = _tile_span(row, level_height)
    return Tile(
        left * scale,
        top * scale,
        (right - left) * scale,
        (bottom - top) * scale,
        right - left,
        bottom - top,
    )


def _tile_span(index: int, size: int) -> tuple[int, int]:
    if not 0 <= index * TILE_PX < size:
        raise _no_tile()
    return max(0, index * TILE_PX - OVERLAP_PX), min(size, (index + 1) * TILE_PX + OVERLAP_PX)


def _no_tile() -> JobError:
    return JobError("The slide has no such tile; levels, columns and rows are counted from 0.")
