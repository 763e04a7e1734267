"""Files that are whole or not there, and what they hold."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from stem_core.errors import OutputError

__all__ = ["file_sha256", "names_in_output", "written_whole"]


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's content, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def names_in_output(folder: Path, *, overwrite: bool) -> list[str]:
    """Return the names in an output folder, in order; refuse one that is not empty.

    Parameters
    ----------
    folder
        Folder that exists.
    overwrite
        Accept a folder that is not empty.

    Raises
    ------
    OutputError
        The folder is not empty and `overwrite` is False.
    """
    held = sorted(item.name for item in folder.iterdir())
    if held and not overwrite:
        msg = (
            f"The output folder {folder} is not empty (it holds {held[0]}"
            f"{f' and {len(held) - 1} more' if len(held) > 1 else ''}); "
            "name another folder or allow overwriting (--overwrite)."
        )
        raise OutputError(msg)
    return held


@contextlib.contextmanager
def written_whole(path: Path, *, only_writer: bool = False) -> Iterator[Path]:
    """Give a place beside `path` to write a file to; it takes the name when all went well.

    Other processes and threads see the file before or the file after, never half of one; when
    writing fails, the file before stays and nothing is left beside it.

    Parameters
    ----------
    path
        The file; its folder is there.
    only_writer
        Nobody else writes this file, so that the name aside can be a fixed one: what a killed
        process left is written over by the next.

    Raises
    ------
    OSError
        It cannot be renamed; what writing raises goes through.
    """
    writer = "" if only_writer else f".{os.getpid()}-{threading.get_native_id()}"
    aside = path.with_name(f".{path.name}{writer}.partial")
    try:
        yield aside
        aside.replace(path)
    finally:
        with contextlib.suppress(OSError):  # the folder may be none
            aside.unlink(missing_ok=True)
