"""Lay the shapes of regions elsewhere on the tissue."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

__all__ = ["place_regions"]

Indices = NDArray[np.int64]

_REACH = 0.75  # pitches from a point of the shape to the spot that takes its place
_SHARES = (0.7, 0.6, 0.5)  # of each shape that must fall on tissue; the first that gives enough
_TRIED_AT_ONCE = 500
_ROUNDS = 60
_PROBES = 60  # points of a shape that are looked at first
_SHAPE = 1500  # points that stand for a larger region


def place_regions(
    points: NDArray[np.float64],
    a: Indices,
    b: Indices | None,
    number: int,
    random: np.random.Generator,
) -> list[tuple[Indices, Indices]]:
    """Lay two regions, as one rigid piece, on other places of the map.

    The piece is turned by any angle, mirrored half of the time, and moved so that one of its
    spots, drawn at random, falls on a spot of the map, drawn at random. Each of its points takes
    the nearest spot within 0.75 pitches. A placement counts if at least 70 % of each region fall
    on tissue (60 or 50 % if there are too few such places).

    Parameters
    ----------
    points
        (N,2) positions of all spots in pitches.
    a, b
        Indices of the two regions. Without b, the other side is all the rest, and the smaller
        of the two sides is what is moved.
    number
        Placements wanted.
    random
        Where the placements come from.

    Returns
    -------
    list of pairs of index arrays
        What takes the place of a and of b; no spot in both; at most `number`.
    """
    n = len(points)
    swapped = b is None and len(a) > n / 2
    if b is None:
        moved = [np.setdiff1d(np.arange(n), a) if swapped else a]
    else:
        moved = [a, b]
    shapes = [_some(points[part], _SHAPE, random) for part in moved]
    piece = np.concatenate(shapes)
    tree = cKDTree(points)
    probes = [_some(shape, _PROBES, random) for shape in shapes]
    frames, scores = [], []
    for _ in range(_ROUNDS):
        turn, shift = _rigid(piece, points, random)
        score = np.ones(len(shift))
        for probe in probes:
            laid = probe @ turn + shift[:, None]
            distance, _ = tree.query(laid, distance_upper_bound=_REACH)
            score = np.minimum(score, np.isfinite(distance).mean(1))
        kept = score >= _SHARES[-1]
        frames += list(zip(turn[kept], shift[kept], strict=True))
        scores += list(score[kept])
        if (np.array(scores) >= _SHARES[0]).sum() >= number:
            break
    ranked = np.array(scores)
    for share in _SHARES:
        chosen = np.flatnonzero(ranked >= share)[:number]
        if len(chosen) >= number:
            break
    found = []
    for index in chosen:
        turn_one, shift_one = frames[index]
        taken = [_nearest(tree, shape @ turn_one + shift_one) for shape in shapes]
        if b is None:
            inside = np.zeros(n, dtype=bool)
            inside[taken[0]] = True
            sides = (taken[0], np.flatnonzero(~inside))
            found.append(sides[::-1] if swapped else sides)
        else:
            other = np.setdiff1d(taken[1], taken[0])
            if len(taken[0]) and len(other):
                found.append((taken[0], other))
    return found


def _rigid(
    piece: NDArray[np.float64], points: NDArray[np.float64], random: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rotations with or without a mirror (T,2,2), and shifts (T,2)."""
    angle = random.uniform(0, 2 * np.pi, _TRIED_AT_ONCE)
    mirror = random.choice([-1.0, 1.0], _TRIED_AT_ONCE)
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.stack([np.stack([cos, sin], 1), np.stack([-sin * mirror, cos * mirror], 1)], 1)
    pivot = piece[random.integers(len(piece), size=_TRIED_AT_ONCE)]
    goal = points[random.integers(len(points), size=_TRIED_AT_ONCE)]
    return turn, goal - np.einsum("ti,tij->tj", pivot, turn)


def _nearest(tree: cKDTree, laid: NDArray[np.float64]) -> Indices:
    distance, index = tree.query(laid, distance_upper_bound=_REACH)
    out: Indices = np.unique(index[np.isfinite(distance)])
    return out


def _some(
    points: NDArray[np.float64], most: int, random: np.random.Generator
) -> NDArray[np.float64]:
    if len(points) <= most:
        return points
    return points[random.choice(len(points), most, replace=False)]
