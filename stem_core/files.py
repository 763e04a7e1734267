"""Files that are whole or not there."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

__all__ = ["written_whole"]


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a place beside `path` to write a file to; it takes the name when all went well.

    Other processes and threads see the file before or the file after, never half of one; when
    writing fails, the file before stays and nothing is left beside it.

    Raises
    ------
    OSError
        It cannot be renamed; what writing raises goes through.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_native_id()}.partial")
    try:
        yield aside
        aside.replace(path)
    finally:
        with contextlib.suppress(OSError):  # the folder may be none
            aside.unlink(missing_ok=True)
