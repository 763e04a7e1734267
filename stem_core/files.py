"""Files and folders that are complete or absent, and the hashes of their content."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from stem_core.errors import OutputError, StemError

__all__ = [
    "atomic_directory",
    "atomic_write",
    "file_sha256",
    "folder_state",
    "names_in_output",
    "unwritable",
    "unwritable_as",
    "write_atomically",
]

_ADVICE = "Free space there or name another place."


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's content, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_state(folder: Path) -> str:
    """Return a text that changes when a file directly in a folder is written, added or removed.

    It is made of names, sizes and times, so it costs no reading.
    """
    files = ((path.name, path.stat()) for path in sorted(folder.iterdir()))
    facts = [(name, found.st_size, found.st_mtime_ns) for name, found in files]
    return hashlib.sha256(repr(facts).encode()).hexdigest()


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


def unwritable(path: Path, error: BaseException, advice: str = _ADVICE) -> OutputError:
    """Return the error for a file or folder that cannot be written; it keeps the `errno`.

    Parameters
    ----------
    path
        File or folder.
    error
        Cause, mostly an OSError.
    advice
        Sentence that says what to do.
    """
    number = getattr(error, "errno", None)
    if number == errno.ENOENT and not path.parent.exists():
        advice = f"Make the folder {path.parent} first, or name another place."
    if number == errno.EISDIR:
        return OutputError(f"{path} cannot be written: it is a folder. Name a file.")
    if number in (errno.ENOTEMPTY, errno.EEXIST) and path.exists():
        return OutputError(f"{path} exists already. Name another place.")
    reason = getattr(error, "strerror", None) or (str(error).splitlines() or ["?"])[0]
    made = OutputError(f"{path} cannot be written ({reason}). {advice}")
    made.errno = number
    return made


@contextlib.contextmanager
def unwritable_as(path: Path, advice: str = _ADVICE) -> Iterator[None]:
    """Turn errors of the file system inside the block into `unwritable`; our own pass through.

    Raises
    ------
    OutputError
        The block raised OSError or SafetensorError.
    """
    try:
        yield
    except StemError:
        raise
    except (OSError, SafetensorError) as error:
        raise unwritable(path, error, advice) from error


@contextlib.contextmanager
def atomic_write(
    path: Path, *, advice: str = _ADVICE, parents: bool = False, only_writer: bool = False
) -> Iterator[Path]:
    """Yield a temporary path beside `path`, and rename it to `path` when the block succeeds.

    Other processes and threads see the old file or the new one, never a part. When the block
    fails, the old file stays and nothing is left beside it.

    Parameters
    ----------
    path
        File to write.
    advice
        Sentence of the error that says what to do.
    parents
        Make the folder of the file where it is missing.
    only_writer
        No other process writes this file, so the temporary name is fixed: the next writer
        overwrites what a killed process left.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    writer = "" if only_writer else f".{os.getpid()}-{threading.get_native_id()}"
    temporary = path.with_name(f".{path.name}{writer}.partial")
    with unwritable_as(path, advice):
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.touch()  # fails before any work
            yield temporary
            temporary.replace(path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def write_atomically(
    path: Path, content: str | bytes, *, advice: str = _ADVICE, parents: bool = False
) -> None:
    """Write a small file with `atomic_write`; text as UTF-8."""
    with atomic_write(path, advice=advice, parents=parents) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def atomic_directory(path: Path, *, advice: str = _ADVICE, replace: bool = False) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`, and rename it when the block succeeds.

    An empty folder of that name is replaced, missing parents are made.

    Parameters
    ----------
    path
        Folder to write.
    advice
        Sentence of the error that says what to do.
    replace
        Replace a folder that is not empty, as a whole.

    Raises
    ------
    OutputError
        The folder cannot be written, or it exists and may not be replaced.
    """
    writer = f"{os.getpid()}-{threading.get_native_id()}"
    temporary = path.with_name(f".{path.name}.{writer}.partial")
    before = path.with_name(f".{path.name}.{writer}.before")
    with unwritable_as(path, advice):
        if not replace and path.is_dir() and any(path.iterdir()):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        try:
            temporary.mkdir(parents=True)
            yield temporary
            if path.is_dir() and not (replace and any(path.iterdir())):
                path.rmdir()
            if path.is_dir():  # until the new one is in place the old one is kept
                path.replace(before)
            try:
                temporary.replace(path)
            except OSError:
                if before.is_dir():
                    before.replace(path)
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            if path.is_dir():
                shutil.rmtree(before, ignore_errors=True)
