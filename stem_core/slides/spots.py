"""Where expression is predicted: spots that were measured, or laid out on the tissue."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from stem_core.errors import NoTissueError, SettingsError, SpotsError
from stem_core.model.config import LAYOUTS, LayoutKind, SpotSource
from stem_core.slides.reading import Slide
from stem_core.slides.spots_files import SpotTable, read_table
from stem_core.slides.tissue import TissueMask

__all__ = [
    "MAX_SPOTS",
    "Spots",
    "known_pitch",
    "lay_out_spots",
    "read_spots",
]

MAX_SPOTS = 200_000
_MAX_CANDIDATES = 20_000_000


@dataclass(frozen=True)
class Spots:
    """Places on a slide, in a fixed order.

    Attributes
    ----------
    ids
        Names, unique; those of the file, or "r0003_c0012" where spots were laid out.
    x_px, y_px
        Centres in level-0 pixels, float64 (N,).
    diameter_um
        Spot diameter in microns.
    pitch_um
        Distance between the centres of neighbouring spots in microns; None where there is none: a
        single spot, spots that all share one position, or a slide without microns per pixel.
    source
        "measured", "visium", "st" or "grid".
    array_row, array_col
        Place in the array, int32 (N,); Visium rows use every second column.
    in_tissue
        At least half of the spot lies on tissue, bool (N,); true until `with_tissue` was called.
    tissue_fraction
        Share of the spot on tissue, float32 (N,), 0 to 1; 1 until `with_tissue` was called.
    """

    ids: tuple[str, ...]
    x_px: NDArray[np.float64]
    y_px: NDArray[np.float64]
    diameter_um: float
    pitch_um: float | None
    source: SpotSource
    array_row: NDArray[np.int32]
    array_col: NDArray[np.int32]
    in_tissue: NDArray[np.bool_]
    tissue_fraction: NDArray[np.float32]

    def __post_init__(self) -> None:
        lengths = {
            len(values)
            for values in (
                self.ids, self.x_px, self.y_px, self.array_row, self.array_col,
                self.in_tissue, self.tissue_fraction,
            )
        }  # fmt: skip
        if len(lengths) != 1:
            msg = f"the columns of the spots have different lengths: {sorted(lengths)}"
            raise ValueError(msg)
        if self.pitch_um is not None and not (math.isfinite(self.pitch_um) and self.pitch_um > 0):
            msg = f"the pitch of the spots is {self.pitch_um} µm; give a positive number or None"
            raise ValueError(msg)

    def __repr__(self) -> str:
        pitch = "no pitch" if self.pitch_um is None else f"{self.pitch_um:.4g} µm apart"
        return (
            f"Spots({len(self):,} {self.source}, {pitch}, {self.diameter_um:.4g} µm wide, "
            f"{int(self.in_tissue.sum()):,} in tissue)"
        )

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, indices: Sequence[int] | NDArray[np.int64] | NDArray[np.bool_] | slice) -> Spots:
        """Return some of the spots: by positions, by a mask, or by a slice."""
        places = np.arange(len(self))[indices]
        return replace(
            self,
            ids=tuple(self.ids[place] for place in places),
            x_px=self.x_px[places],
            y_px=self.y_px[places],
            array_row=self.array_row[places],
            array_col=self.array_col[places],
            in_tissue=self.in_tissue[places],
            tissue_fraction=self.tissue_fraction[places],
        )

    def with_tissue(self, mask: TissueMask, mpp: float) -> Spots:
        """Return the same spots, none dropped, with their share of tissue measured."""
        fraction = mask.fraction_at(self.x_px, self.y_px, self.diameter_um / mpp)
        return replace(self, tissue_fraction=fraction, in_tissue=fraction >= 0.5)


def known_pitch(value: float | str | None) -> float | None:
    """Return a pitch read from a file, in microns; None where the file has no positive number."""
    pitch = math.nan if value is None else float(value)
    return pitch if math.isfinite(pitch) and pitch > 0 else None


def read_spots(path: str | Path, slide: Slide, *, diameter_um: float) -> Spots:
    """Read measured spots; the order of the file is kept and no spot is dropped by a mask.

    Understood are an h5ad with `obsm["spatial"]` (x, y), Space Ranger's `tissue_positions*.csv`
    with or without header (or a folder that holds it, such as `outs`; spots with in_tissue = 0 were
    not measured and are left out), and a CSV with the columns `x_px` and `y_px` and, if wanted,
    `spot`, `id` or `barcode`. The content decides, not the name.

    Parameters
    ----------
    path
        The file or folder.
    slide
        The slide on which the spots lie; positions are its level-0 pixels.
    diameter_um
        Diameter of the spots in microns.

    Raises
    ------
    SpotsError
        Not a file of these kinds, columns missing, values that are not numbers, names that repeat,
        or spots outside the image.
    """
    path = Path(path)
    _check_length("spot diameter", diameter_um)
    table = read_table(path)
    _check_table(table, path, slide)
    pitch_px = _pitch_px(table.x_px, table.y_px)
    row, col = table.array_row, table.array_col
    if row is None or col is None:
        row, col = _array_places(table.x_px, table.y_px, pitch_px)
    n = len(table.ids)
    return Spots(
        ids=table.ids,
        x_px=table.x_px,
        y_px=table.y_px,
        diameter_um=float(diameter_um),
        pitch_um=None if slide.mpp is None or pitch_px is None else pitch_px * slide.mpp,
        source="measured",
        array_row=row,
        array_col=col,
        in_tissue=np.ones(n, dtype=bool),
        tissue_fraction=np.ones(n, dtype=np.float32),
    )


def lay_out_spots(
    slide: Slide,
    mask: TissueMask,
    kind: LayoutKind,
    *,
    pitch_um: float | None = None,
    diameter_um: float | None = None,
    min_tissue: float = 0.5,
) -> Spots:
    """Lay spots out on the tissue in the pattern of a platform.

    "visium" is hexagonal: rows are pitch · √3/2 apart, odd rows shifted by half a pitch, and
    columns are counted in half pitches as Space Ranger does. "st" and "grid" are square. The
    pattern is anchored at the slide's corner, so a spot's name does not depend on the mask.

    Parameters
    ----------
    slide
        The slide; its microns per pixel must be known.
    mask
        Where tissue lies.
    kind
        "visium", "st" or "grid".
    pitch_um, diameter_um
        Distance between centres and spot diameter in microns; the platform's own when left out.
        With a pitch of one's own and no diameter the platform's ratio is kept.
    min_tissue
        Share of a spot that must lie on tissue, 0 to 1.

    Raises
    ------
    SettingsError
        An unknown kind, or a length or share out of range.
    SpotsError
        More than 200,000 spots would be laid out.
    NoTissueError
        No spot has enough tissue.
    MppError
        The slide's microns per pixel are not known.
    """
    if kind not in LAYOUTS:
        msg = f"The layout {kind!r} is not known; choose one of {', '.join(LAYOUTS)}."
        raise SettingsError(msg)
    usual = LAYOUTS[kind]
    pitch = usual.pitch_um if pitch_um is None else pitch_um
    _check_length("pitch", pitch)
    diameter = diameter_um
    if diameter is None:
        diameter = pitch * usual.spot_diameter_um / usual.pitch_um
    _check_length("spot diameter", diameter)
    if not 0 <= min_tissue <= 1:
        msg = f"The tissue share {min_tissue} is out of range; give a value from 0 to 1."
        raise SettingsError(msg)
    mpp = slide.require_mpp()
    pitch_px, diameter_px = pitch / mpp, diameter / mpp
    _check_number(slide, pitch, pitch_px, mask.fraction() if min_tissue > 0 else 1.0)
    row, col, x, y = _pattern(kind, slide.width_px, slide.height_px, pitch_px)
    fraction = mask.fraction_at(x, y, diameter_px)
    kept = fraction >= min_tissue
    if not kept.any():
        msg = (
            f"No {kind} spot of {diameter:g} µm has {min_tissue:.0%} of tissue on "
            f"{slide.path.name}; lower the pitch, or check the microns per pixel and the tissue "
            "preview."
        )
        raise NoTissueError(msg)
    if kept.sum() > MAX_SPOTS:
        raise _too_many(slide, pitch, int(kept.sum()))
    row, col = row[kept], col[kept]
    return Spots(
        ids=tuple(f"r{r:04d}_c{c:04d}" for r, c in zip(row, col, strict=True)),
        x_px=x[kept],
        y_px=y[kept],
        diameter_um=float(diameter),
        pitch_um=float(pitch),
        source=kind,
        array_row=row,
        array_col=col,
        in_tissue=fraction[kept] >= 0.5,
        tissue_fraction=fraction[kept],
    )


def _pattern(
    kind: str, width_px: int, height_px: int, pitch_px: float
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64], NDArray[np.float64]]:
    """All centres on the slide, row by row: row, column, x, y."""
    if kind == "visium":
        row_px, col_px, col_step = pitch_px * math.sqrt(3) / 2, pitch_px / 2, 2
    else:
        row_px, col_px, col_step = pitch_px, pitch_px, 1
    start = pitch_px / 2
    n_rows = max(0, math.floor((height_px - start) / row_px) + 1)
    n_cols = max(0, math.floor((width_px - start) / col_px) + 1)
    row, col = np.meshgrid(np.arange(n_rows), np.arange(n_cols), indexing="ij")
    used = (row + col) % col_step == 0
    row, col = row[used].astype(np.int32), col[used].astype(np.int32)
    return row, col, start + col * col_px, start + row * row_px


def _check_number(slide: Slide, pitch_um: float, pitch_px: float, share: float) -> None:
    """Refuse a pitch so small that even the pattern would not fit into memory."""
    candidates = slide.width_px * slide.height_px / pitch_px**2
    if candidates * share > 2 * MAX_SPOTS or candidates > _MAX_CANDIDATES:
        raise _too_many(slide, pitch_um, int(candidates * share))


def _too_many(slide: Slide, pitch_um: float, number: int) -> SpotsError:
    return SpotsError(
        f"A pitch of {pitch_um:g} µm puts about {number:,} spots on {slide.path.name}; at most "
        f"{MAX_SPOTS:,} are predicted in one run, so give a larger pitch."
    )


def _check_length(name: str, value_um: float) -> None:
    if not (math.isfinite(value_um) and 0.5 <= value_um <= 100_000):
        msg = f"The {name} of {value_um:g} µm is out of range; give 0.5 to 100,000 µm."
        raise SettingsError(msg)


def _check_table(table: SpotTable, path: Path, slide: Slide) -> None:
    if not len(table.ids):
        msg = f"{path.name} holds no spots; give the file of the measured section."
        raise SpotsError(msg)
    if len(set(table.ids)) != len(table.ids):
        twice = Counter(table.ids).most_common(1)[0][0]
        msg = f"{path.name} names the spot {twice!r} more than once; names of spots must be unique."
        raise SpotsError(msg)
    x, y = table.x_px, table.y_px
    wrong = int((~np.isfinite(x) | ~np.isfinite(y)).sum())
    if wrong:
        msg = (
            f"{path.name} has {wrong:,} spots whose position is not a number; correct or remove "
            "them."
        )
        raise SpotsError(msg)
    outside = int(((x < 0) | (y < 0) | (x > slide.width_px) | (y > slide.height_px)).sum())
    if outside:
        msg = (
            f"{outside:,} of the {len(x):,} spots of {path.name} lie outside {slide.path.name} "
            f"({slide.width_px:,} × {slide.height_px:,} px; spots reach x = {x.max():,.0f}, "
            f"y = {y.max():,.0f}): usually the wrong image, such as the hires picture instead of "
            "the full-resolution one that the spots were measured on."
        )
        raise SpotsError(msg)


def _pitch_px(x_px: NDArray[np.float64], y_px: NDArray[np.float64]) -> float | None:
    """Median over spots of the mean distance to three neighbours; None if there is no distance."""
    if len(x_px) < 2:
        return None
    points = np.stack([x_px, y_px], axis=1)
    # three, because the nearest of several neighbours that are not quite regular is always too near
    neighbours = 3 if len(points) >= 9 else 1
    distance, _ = cKDTree(points).query(points, k=neighbours + 1)
    return float(np.median(distance[:, 1:].mean(axis=1))) or None


def _array_places(
    x_px: NDArray[np.float64], y_px: NDArray[np.float64], pitch_px: float | None
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Rows and columns of a square grid of the spots' own pitch."""
    if pitch_px is None:
        zero = np.zeros(len(x_px), dtype=np.int32)
        return zero, zero.copy()
    row = np.rint((y_px - y_px.min()) / pitch_px)
    col = np.rint((x_px - x_px.min()) / pitch_px)
    return row.astype(np.int32), col.astype(np.int32)
