"""Files that commands write: checked before work, written whole."""

from __future__ import annotations

from pathlib import Path

from stem_core.errors import OutputError
from stem_core.files import names_in_output, unwritable_as, write_atomically

__all__ = ["claim_output", "require_folder", "write_text"]


def require_folder(path: Path) -> None:
    """Refuse a file whose folder does not exist, before any work.

    Raises
    ------
    OutputError
        The folder does not exist.
    """
    if not path.expanduser().absolute().parent.is_dir():
        msg = f"The folder of {path} does not exist; make it or name another file."
        raise OutputError(msg)


def claim_output(path: Path, *, overwrite: bool, marks: tuple[str, ...] = ()) -> None:
    """Check, before any work, that a file or folder can be written without losing another one.

    Parameters
    ----------
    path
        File or folder to write.
    overwrite
        Accept a file that exists, or a folder that holds one of `marks`.
    marks
        Names of which an earlier output, if it is a folder, holds at least one; none where the
        output is a file.

    Raises
    ------
    OutputError
        The output exists and may not be replaced, or its folder does not exist.
    """
    path = path.expanduser().absolute()
    if path.is_dir():
        if not marks:
            msg = f"The output {path} is a folder, not a file; name a file."
            raise OutputError(msg)
        held = names_in_output(path, overwrite=overwrite)
        if held and not any(mark in held for mark in marks):
            msg = (
                f"The output folder {path} holds other files than an earlier output, which would "
                "be lost; name another folder."
            )
            raise OutputError(msg)
    elif path.exists() and not overwrite:
        msg = (
            f"The output {path} exists already; name another one or allow overwriting "
            "(--overwrite)."
        )
        raise OutputError(msg)
    elif path.exists() and marks:
        msg = f"The output {path} is a file, not a folder; name another folder."
        raise OutputError(msg)
    if not path.parent.is_dir():
        msg = f"The folder of {path} does not exist; make it or name another one."
        raise OutputError(msg)


def write_text(path: Path, text: str) -> None:
    """Write a file aside and rename it; a device such as /dev/stdout is written directly.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    path = path.expanduser()
    if path.exists() and not path.is_file():
        with unwritable_as(path):
            path.write_text(text, encoding="utf-8")
    else:
        write_atomically(path, text)
