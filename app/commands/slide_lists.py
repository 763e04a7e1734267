"""Slides that a command names: files, folders and CSV lists, and the folder for each result."""

from __future__ import annotations

import csv
import difflib
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stem_core.errors import SettingsError

__all__ = ["SUMMARY_FILE", "SlideTask", "list_slides", "names_several"]

LOG = logging.getLogger("app.commands.slide_lists")

SUMMARY_FILE = "summary.csv"
_COLUMNS = ("slide", "mpp", "spots", "folder")


@dataclass(frozen=True)
class SlideTask:
    """One slide of a command.

    Attributes
    ----------
    slide
        Image file.
    folder
        Folder for the result.
    spots
        File of measured spots; None lays spots out.
    mpp
        Microns per pixel at full resolution; None takes the file's own.
    """

    slide: Path
    folder: Path
    spots: Path | None = None
    mpp: float | None = None


def names_several(sources: Sequence[Path]) -> bool:
    """Return whether each slide gets a folder of its own: several files, a folder or a list."""
    return len(sources) > 1 or any(_is_list(source) or source.is_dir() for source in sources)


def list_slides(sources: Sequence[Path], out: Path) -> list[SlideTask]:
    """List the slides of files, folders and CSV lists, in the order they were named.

    Parameters
    ----------
    sources
        Image files, folders with image files (by name, subfolders left out), or CSV lists with
        the columns `slide` and, optionally, `mpp`, `spots` and `folder`. Paths in a list are
        relative to its folder.
    out
        Folder for the results. Each goes to a subfolder, by default the slide's name without its
        ending.

    Raises
    ------
    SettingsError
        A folder holds no slide, a list cannot be read, or two slides would share a subfolder.
    """
    tasks: list[SlideTask] = []
    for source in (source.expanduser() for source in sources):
        if _is_list(source):
            tasks += _read_list(source, out)
        elif source.is_dir():
            tasks += [SlideTask(slide, out / slide.stem) for slide in _slides_of(source)]
        else:
            tasks.append(SlideTask(source, out / source.stem))
    _check_folders(tasks)
    return tasks


def _is_list(source: Path) -> bool:
    return source.suffix.lower() == ".csv"


def _slides_of(folder: Path) -> list[Path]:
    """List the slides of a folder; a DICOM slide is many files, and is named by one of them."""
    from app.uploads import FOLDER_SUFFIXES

    endings = tuple(suffix for suffix in FOLDER_SUFFIXES if suffix != ".dcm")
    slides = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in endings and path.is_file() and not path.name.startswith(".")
    )
    if not slides:
        msg = (
            f"The folder {folder} holds no slide. Slides end in {' '.join(endings)}; a DICOM slide "
            "is named by one of its files."
        )
        raise SettingsError(msg)
    return slides


def _read_list(path: Path, out: Path) -> Iterator[SlideTask]:
    """Read a CSV list of slides."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        msg = f"The list {path} cannot be read ({reason}). Name a CSV file with a column slide."
        raise SettingsError(msg) from error
    header = [name.strip().lower() for name in rows[0]] if rows else []
    _check_columns(path, header)
    found = 0
    for number, row in enumerate(rows[1:], start=2):
        cells = {name: cell.strip() for name, cell in zip(header, row, strict=False)}
        if not any(cells.values()):
            continue
        found += 1
        yield _task(path, number, cells, out)
    if not found:
        msg = f"The list {path} names no slide. Add a row for each slide."
        raise SettingsError(msg)


def _check_columns(path: Path, header: list[str]) -> None:
    """Refuse a list without slides and misspelled columns; warn about others."""
    if "slide" not in header:
        msg = f"The list {path} has no column slide. Its first row names the columns, slide first."
        raise SettingsError(msg)
    unknown = [name for name in header if name and name not in _COLUMNS]
    for name in unknown:
        if close := difflib.get_close_matches(name, _COLUMNS, n=1):
            msg = f"The list {path} has a column {name}. Did you mean {close[0]}?"
            raise SettingsError(msg)
    if unknown:
        LOG.warning("The list %s has columns that are not used: %s", path, ", ".join(unknown))


def _task(path: Path, number: int, cells: dict[str, str], out: Path) -> SlideTask:
    where = f"Row {number} of {path}"
    if not cells["slide"]:
        msg = f"{where} names no slide. Fill in the column slide or remove the row."
        raise SettingsError(msg)
    slide = path.parent / Path(cells["slide"]).expanduser()
    name = cells.get("folder") or slide.stem
    if Path(name).name != name or name == "..":
        msg = f"{where} has the folder '{name}'. Give one name without separators."
        raise SettingsError(msg)
    mpp: float | None = None
    if text := cells.get("mpp"):
        try:
            mpp = float(text)
        except ValueError:
            mpp = math.nan
        if not math.isfinite(mpp):
            msg = f"{where} has the mpp '{text}'. Give microns per pixel as a number, such as 0.5."
            raise SettingsError(msg)
    spots = cells.get("spots")
    return SlideTask(
        slide, out / name, path.parent / Path(spots).expanduser() if spots else None, mpp
    )


def _check_folders(tasks: Sequence[SlideTask]) -> None:
    """Refuse two slides that would write to one folder; some file systems ignore case."""
    taken: dict[str, SlideTask] = {}
    for task in tasks:
        key = task.folder.name.casefold()
        first = taken.setdefault(key, task)
        if first is not task:
            msg = (
                f"The results of {first.slide} and {task.slide} would go to the same subfolder "
                f"{task.folder.name}. Name other ones in a CSV list with the columns slide,folder."
            )
            raise SettingsError(msg)
        if key == SUMMARY_FILE:
            msg = f"The result of {task.slide} would replace {SUMMARY_FILE}. Rename the slide."
            raise SettingsError(msg)
