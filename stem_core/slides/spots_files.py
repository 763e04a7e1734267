"""Read positions of measured spots from the files that the field uses.

Nothing in a file is executed: h5ad is read as plain arrays, and links from it to other files are
refused, because a file that was uploaded must not reach into the machine it is read on.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stem_core.errors import SpotsError

__all__ = ["SpotTable", "read_table"]

MAX_MEASURED = 1_000_000
MAX_TEXT_BYTES = 300_000_000
SPACE_RANGER = (
    "barcode", "in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres",
)  # fmt: skip
_ID_COLUMNS = ("spot", "id", "barcode")
_EXPECTED = (
    "expected an h5ad with obsm['spatial'], Space Ranger's tissue_positions.csv, "
    "or a CSV with the columns x_px and y_px"
)
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True)
class SpotTable:
    """Positions as a file gives them; unchecked beyond their types.

    `x_px` and `y_px` are float64 (N,), `array_row` and `array_col` int32 (N,) or None.
    """

    ids: tuple[str, ...]
    x_px: NDArray[np.float64]
    y_px: NDArray[np.float64]
    array_row: NDArray[np.int32] | None
    array_col: NDArray[np.int32] | None


def read_table(path: Path) -> SpotTable:
    """Read the positions in an h5ad, a Space Ranger table or folder, or a plain CSV.

    Raises
    ------
    SpotsError
        The file cannot be read, or is of no known kind.
    """
    if path.is_dir():
        path = _positions_in(path)
    try:
        with path.open("rb") as file:
            head = file.read(8)
        if head == _HDF5_MAGIC:
            return _read_h5ad(path)
        if head[:4] in (b"PK\x03\x04", b"\xd0\xcf\x11\xe0", b"PAR1"):
            msg = f"{path.name} is a spreadsheet, an archive or a Parquet file; save it as CSV."
            raise SpotsError(msg)
        size = path.stat().st_size
        if size > MAX_TEXT_BYTES:
            msg = f"{path.name} has {size:,} bytes, too many for a table of spots; {_EXPECTED}."
            raise SpotsError(msg)
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        reason = error.strerror or str(error)
        msg = f"The spots file {path.name} cannot be read ({reason}); check the path and the file."
        raise SpotsError(msg) from error
    except UnicodeDecodeError as error:
        msg = f"{path.name} is not a text table; {_EXPECTED}."
        raise SpotsError(msg) from error
    return _read_csv(path, text)


def _positions_in(folder: Path) -> Path:
    """Find the position table in a Space Ranger folder."""
    for inside in (folder, folder / "spatial", folder / "outs" / "spatial"):
        for name in ("tissue_positions.csv", "tissue_positions_list.csv"):
            if (inside / name).is_file():
                return inside / name
    msg = (
        f"The folder {folder.name} holds no tissue_positions.csv; give Space Ranger's outs folder."
    )
    raise SpotsError(msg)


def _read_csv(path: Path, text: str) -> SpotTable:
    lines = text.splitlines()
    first = next((line for line in lines if line.strip()), "")
    if not first:
        msg = f"{path.name} is empty; {_EXPECTED}."
        raise SpotsError(msg)
    separator = max(",;\t", key=first.count)
    cells = [cell.strip() for cell in next(csv.reader([first], delimiter=separator))]
    has_header = not _is_headless_space_ranger(cells)
    try:
        frame = pd.read_csv(
            io.StringIO(text),
            sep=separator,
            header=0 if has_header else None,
            names=None if has_header else list(SPACE_RANGER),
            dtype=str,
            keep_default_na=False,
            index_col=False,
        )
    except (ValueError, pd.errors.ParserError) as error:
        reason = " ".join(str(error).split())
        msg = f"{path.name} cannot be read as a table ({reason}); {_EXPECTED}."
        raise SpotsError(msg) from error
    frame.columns = [str(column).strip() for column in frame.columns]
    if len(frame) > MAX_MEASURED:
        msg = f"{path.name} has {len(frame):,} rows; at most {MAX_MEASURED:,} spots are read."
        raise SpotsError(msg)
    if set(SPACE_RANGER) <= set(frame.columns):
        # only these were measured; the others are the empty rest of the array
        frame = frame[_numbers(frame, "in_tissue", path) == 1]
        x_name, y_name = "pxl_col_in_fullres", "pxl_row_in_fullres"
    elif {"x_px", "y_px"} <= set(frame.columns):
        x_name, y_name = "x_px", "y_px"
    else:
        found = ", ".join(map(repr, frame.columns[:8]))
        msg = f"{path.name} has the columns {found}; {_EXPECTED}."
        raise SpotsError(msg)
    id_column = next((name for name in _ID_COLUMNS if name in frame.columns), None)
    if id_column is None:
        ids = tuple(f"spot_{number:05d}" for number in range(len(frame)))
    else:
        ids = tuple(str(name).strip() for name in frame[id_column])
        if not all(ids):
            msg = f"{path.name} has spots without a name in its column {id_column!r}; fill it in."
            raise SpotsError(msg)
    row = col = None
    if {"array_row", "array_col"} <= set(frame.columns):
        row = _whole(_numbers(frame, "array_row", path))
        col = _whole(_numbers(frame, "array_col", path))
    x, y = _numbers(frame, x_name, path), _numbers(frame, y_name, path)
    return SpotTable(ids, x, y, row, col)


def _is_headless_space_ranger(cells: list[str]) -> bool:
    """Six cells, a barcode and five numbers: Space Ranger 1.x writes no header."""
    return len(cells) == 6 and not _is_number(cells[0]) and all(map(_is_number, cells[1:]))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(frame: pd.DataFrame, column: str, path: Path) -> NDArray[np.float64]:
    values = pd.to_numeric(frame[column].str.strip(), errors="coerce").to_numpy(dtype=np.float64)
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        msg = (
            f"{path.name} has {frame[column].iloc[wrong[0]]!r} in column {column!r} of spot "
            f"{wrong[0] + 1:,}, which is not a number; correct or remove that row."
        )
        raise SpotsError(msg)
    return values


def _whole(values: NDArray[Any]) -> NDArray[np.int32] | None:
    """Round array places; None where they are not usable numbers."""
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (ValueError, TypeError):
        return None
    if not np.isfinite(numbers).all() or np.abs(numbers).max(initial=0) > 1e9:
        return None
    return np.rint(numbers).astype(np.int32)


def _read_h5ad(path: Path) -> SpotTable:
    try:
        with h5py.File(path, "r") as file:
            spatial = _dataset(path, file, "obsm/spatial")
            if spatial is None:
                found = ", ".join(sorted(file["obsm"])) if "obsm" in file else "none"
                msg = (
                    f"{path.name} has no positions in obsm['spatial'] (obsm holds: "
                    f"{found or 'none'}); {_EXPECTED}."
                )
                raise SpotsError(msg)
            shape = spatial.shape
            if len(shape) != 2 or shape[1] < 2 or shape[0] > MAX_MEASURED:
                msg = (
                    f"{path.name} has an obsm['spatial'] of shape {shape}; expected one row (x, y) "
                    f"in pixels for each of at most {MAX_MEASURED:,} spots."
                )
                raise SpotsError(msg)
            xy = np.asarray(spatial[:, :2], dtype=np.float64)
            ids, row, col = _read_obs(path, file)
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, UnicodeDecodeError) as error:
        if isinstance(error, SpotsError):
            raise
        msg = f"{path.name} is a damaged or unusual h5ad ({error}); write it again with anndata."
        raise SpotsError(msg) from error
    if len(ids) != len(xy):
        msg = f"{path.name} names {len(ids):,} spots but places {len(xy):,}; write it again."
        raise SpotsError(msg)
    return SpotTable(ids, xy[:, 0].copy(), xy[:, 1].copy(), row, col)


def _read_obs(
    path: Path, file: h5py.File
) -> tuple[tuple[str, ...], NDArray[np.int32] | None, NDArray[np.int32] | None]:
    """Names and array places of the spots."""
    obs = file.get("obs")
    if not isinstance(obs, h5py.Group):
        msg = f"{path.name} has an obs table of an old kind; write it again with a newer anndata."
        raise SpotsError(msg)
    index = obs.attrs.get("_index", "_index")
    index = index.decode() if isinstance(index, bytes) else str(index)
    names = _column(path, obs, index)
    if names is None:
        msg = (
            f"{path.name} does not name its spots (obs has no index); write it again with anndata."
        )
        raise SpotsError(msg)
    ids = tuple(name.decode() if isinstance(name, bytes) else str(name) for name in names)
    row, col = (_column(path, obs, name) for name in ("array_row", "array_col"))
    if row is None or col is None or len(row) != len(ids) or len(col) != len(ids):
        return ids, None, None
    whole_row, whole_col = _whole(row), _whole(col)
    return (
        (ids, None, None) if whole_row is None or whole_col is None else (ids, whole_row, whole_col)
    )


def _column(path: Path, obs: h5py.Group, name: str) -> NDArray[Any] | None:
    """Read a column of an anndata table, plain, categorical or nullable."""
    if _is_group(path, obs, name):
        codes = _dataset(path, obs, f"{name}/codes")
        categories = _dataset(path, obs, f"{name}/categories")
        if codes is not None and categories is not None:
            chosen: NDArray[Any] = np.asarray(categories[:])[np.asarray(codes[:])]
            return chosen
        values = _dataset(path, obs, f"{name}/values")
        return None if values is None else np.asarray(values[:])
    column = _dataset(path, obs, name)
    return None if column is None or column.ndim != 1 else np.asarray(column[:])


def _is_group(path: Path, parent: h5py.Group, name: str) -> bool:
    _refuse_links(path, parent, name)
    return isinstance(parent.get(name), h5py.Group)


def _dataset(path: Path, parent: h5py.Group, name: str) -> h5py.Dataset | None:
    """Return a data set of this very file, or None where there is none."""
    _refuse_links(path, parent, name)
    found = parent.get(name)
    if not isinstance(found, h5py.Dataset):
        return None
    if found.external or found.is_virtual:
        raise _link_error(path)
    if found.size is not None and found.size > 4 * MAX_MEASURED:
        msg = f"{path.name} has {found.size:,} values in {name}; too many for a table of spots."
        raise SpotsError(msg)
    return found


def _refuse_links(path: Path, parent: h5py.Group, name: str) -> None:
    """Refuse a way that leads through a link to another file."""
    here: Any = parent
    for part in name.split("/"):
        if not isinstance(here, h5py.Group) or part not in here:
            return
        if isinstance(here.get(part, getlink=True), h5py.ExternalLink):
            raise _link_error(path)
        here = here.get(part)


def _link_error(path: Path) -> SpotsError:
    return SpotsError(
        f"{path.name} points to data in another file, which is not followed; "
        "write it again as one file with anndata."
    )
