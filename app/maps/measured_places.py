"""Measured sections in the server's own folder (`STEM_SLIDE_DIR`): h5ad files, and outs folders."""

from __future__ import annotations

import os
from pathlib import Path

from app import paths
from stem_core.analysis.measured_files import space_ranger_outs
from stem_core.errors import JobError

__all__ = ["list_measured", "measured_place"]

_MOST_LISTED = 2000
_MOST_FOLDERS = 20_000  # looked into; a server's folder may be a whole archive


def list_measured() -> list[str]:
    """Return the sections below `STEM_SLIDE_DIR` as places within it; empty if none is set."""
    root = paths.slide_dir()
    if root is None or not root.is_dir():
        return []
    places: list[str] = []
    for number, (folder, subfolders, names) in enumerate(os.walk(root)):
        if number > _MOST_FOLDERS or len(places) >= _MOST_LISTED:
            break
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        here = Path(folder)
        files = [here / name for name in sorted(names) if name.lower().endswith(".h5ad")]
        if space_ranger_outs(here) == here and here != root:
            files.insert(0, here)
        places += [p.relative_to(root).as_posix() for p in files if _is_inside(p, root)]
    return places[:_MOST_LISTED]


def measured_place(place: str) -> Path:
    """Return where a section of the server's folder lies.

    Raises
    ------
    JobError
        It is not there, or lies outside the folder.
    """
    root = paths.slide_dir()
    if root is not None:
        path = (root / place).resolve()
        is_section = path.is_file() and path.suffix.lower() == ".h5ad"
        if _is_inside(path, root) and (is_section or space_ranger_outs(path) is not None):
            return path
    msg = "This section is not in the server's folder (STEM_SLIDE_DIR); choose one from the list."
    raise JobError(msg)


def _is_inside(path: Path, root: Path) -> bool:
    return not path.name.startswith(".") and path.resolve().is_relative_to(root)
