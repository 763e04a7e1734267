"""Level and tile arithmetic of Deep Zoom images."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from app.maps.pyramid import TILE_PX, level_count, level_size, tile_place
from stem_core.errors import JobError


@pytest.mark.parametrize("side", [1, 2, 3, 4, 5, 254, 255, 256, 257, 4096, 4097, 100_000])
def test_the_number_of_levels(side: int) -> None:
    assert level_count(side, 1) == level_count(1, side) == math.ceil(math.log2(side)) + 1


def test_levels_halve_and_round_up() -> None:
    sizes = [level_size(1500, 1100, level) for level in range(level_count(1500, 1100))]
    assert sizes[-1] == (1500, 1100)
    assert sizes[0] == (1, 1)
    for (small_w, small_h), (w, h) in itertools.pairwise(sizes):
        assert (small_w, small_h) == (-(-w // 2), -(-h // 2))


def test_tiles_share_one_pixel_with_each_neighbour() -> None:
    first, second, last = (tile_place(600, 300, 10, column, 0) for column in range(3))
    assert (first.x_px, first.out_width) == (0, 255)
    assert (second.x_px, second.out_width) == (253, 256)
    assert (last.x_px, last.x_px + last.width_px) == (507, 600)
    assert first.out_height == 255 and tile_place(600, 300, 10, 0, 1).out_height == 47


@pytest.mark.parametrize("level", range(12))
def test_the_tiles_of_a_level_cover_it_once(level: int) -> None:
    width, height = level_size(1500, 1100, level)
    seen = np.zeros((height, width), int)
    scale = 2 ** (11 - level)
    for column in range(-(-width // TILE_PX)):
        for row in range(-(-height // TILE_PX)):
            tile = tile_place(1500, 1100, level, column, row)
            assert (tile.width_px, tile.height_px) == (
                tile.out_width * scale, tile.out_height * scale,
            )  # fmt: skip
            x, y = tile.x_px // scale, tile.y_px // scale
            left, top = x + (column > 0), y + (row > 0)  # without what is the neighbour's
            right, bottom = min(left + TILE_PX, width), min(top + TILE_PX, height)
            assert x + tile.out_width == min(right + 1, width)
            assert y + tile.out_height == min(bottom + 1, height)
            seen[top:bottom, left:right] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize(
    "tile", [(12, 0, 0), (-1, 0, 0), (11, 6, 0), (11, 0, 5), (11, -1, 0), (0, 1, 0), (10**9, 0, 0)]
)
def test_there_are_no_other_tiles(tile: tuple[int, int, int]) -> None:
    with pytest.raises(JobError, match="no such tile"):
        tile_place(1500, 1100, *tile)
