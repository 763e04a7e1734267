"""Files that users hand in: written straight to disk under a made-up name.

A file's own name is never used as a path: an upload lies at `uploads/<id>/file.<suffix>`, where
the id is ours and the suffix is one of `SLIDE_SUFFIXES` or `SPOTS_SUFFIXES`. A slide of the
server's own folder (`STEM_SLIDE_DIR`) is not copied; the upload then holds its place there.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from app import paths
from app.jobs.model import SAMPLE_UPLOAD_ID, check_upload_id
from stem_core.errors import JobError, OutputError, SlideOpenError

__all__ = [
    "FOLDER_SUFFIXES",
    "SAMPLE_UPLOAD_ID",
    "SLIDE_SUFFIXES",
    "SPOTS_SUFFIXES",
    "Upload",
    "UploadWriter",
    "list_server_slides",
    "max_upload_bytes",
    "register_sample",
    "register_server_slide",
    "remove_unused",
    "remove_upload",
    "store_upload",
    "upload_path",
]

SLIDE_SUFFIXES = (
    ".svs",
    ".tif",
    ".tiff",
    ".ndpi",
    ".scn",
    ".bif",
    ".svslide",
    ".png",
    ".jpg",
    ".jpeg",
)
SPOTS_SUFFIXES = (".h5ad", ".csv")
FOLDER_SUFFIXES = (*SLIDE_SUFFIXES, ".mrxs", ".vms", ".vmu", ".dcm")
_PIECE_BYTES = 1 << 20
_MOST_LISTED = 2000


@dataclass(frozen=True)
class Upload:
    """A file that was handed in (`sha256` is empty for a slide of the server's own folder)."""

    id: str
    path: Path
    size_bytes: int
    sha256: str


class UploadWriter:
    """Takes a file in pieces and keeps it once it is whole; used as a context manager.

    Parameters
    ----------
    suffix_from_name
        The file's name as the browser gave it; only its suffix is used.

    Raises
    ------
    SlideOpenError
        The suffix is none that can be read.
    """

    def __init__(self, suffix_from_name: str) -> None:
        self.suffix = _checked_suffix(suffix_from_name)
        self.id = secrets.token_hex(16)
        self._folder = paths.uploads_dir() / self.id
        self._part = self._folder / "part"
        self._hash = hashlib.sha256()
        self._limit = max_upload_bytes()
        self.size_bytes = 0

    def __enter__(self) -> UploadWriter:
        """Open the file."""
        self._folder.mkdir(mode=paths.PRIVATE_MODE)
        self._file: BinaryIO = self._part.open("wb")
        return self

    def write(self, piece: bytes | memoryview) -> None:
        """Append a piece.

        Raises
        ------
        SlideOpenError
            The file grows beyond the limit.
        OutputError
            The disk is full or cannot be written.
        """
        self.size_bytes += len(piece)
        if self.size_bytes > self._limit:
            raise _too_large(self._limit)
        try:
            self._file.write(piece)
        except OSError as error:
            raise _not_written(error) from error
        self._hash.update(piece)

    def finish(self) -> Upload:
        """Close the file, name it, and return the upload.

        Raises
        ------
        SlideOpenError
            Nothing was written.
        OutputError
            The disk is full or cannot be written.
        """
        if self.size_bytes == 0:
            msg = "The uploaded file is empty (0 bytes); choose another file or upload it again."
            raise SlideOpenError(msg)
        target = self._folder / f"file{self.suffix}"
        try:
            self._file.close()
            self._part.replace(target)
        except OSError as error:
            raise _not_written(error) from error
        return Upload(self.id, target, self.size_bytes, self._hash.hexdigest())

    def __exit__(self, *_: object) -> None:
        """Close the file; what was not finished is removed."""
        try:
            self._file.close()
        except OSError:
            pass  # a full disk fails again on closing; the part is removed below
        if self._part.exists():
            shutil.rmtree(self._folder, ignore_errors=True)


def store_upload(
    content: bytes | memoryview | BinaryIO | Iterable[bytes], suffix_from_name: str
) -> Upload:
    """Keep a file that a user handed in.

    Parameters
    ----------
    content
        The file: bytes, an open binary file (read from where it stands), or pieces of bytes.
    suffix_from_name
        The file's name as the browser gave it; only its suffix is used.

    Raises
    ------
    SlideOpenError
        The suffix is none that can be read, the file is empty or larger than the limit.
    OutputError
        The disk is full or cannot be written.
    """
    with UploadWriter(suffix_from_name) as writer:
        for piece in _pieces(content):
            writer.write(piece)
        return writer.finish()


def upload_path(upload_id: str) -> Path:
    """Return where the file of an upload lies.

    Raises
    ------
    JobError
        The id is malformed, or the upload has been removed.
    """
    if check_upload_id(upload_id) == SAMPLE_UPLOAD_ID:
        return _sample_path()
    folder = paths.uploads_dir() / upload_id
    link = folder / "link.json"
    if link.is_file():
        return _server_slide(json.loads(link.read_text(encoding="utf-8"))["place"])
    for path in folder.glob("file.*"):
        return path
    msg = "The uploaded file is no longer there; upload it again."
    raise JobError(msg)


def register_sample() -> str:
    """Return the upload id of the synthetic sample slide, which is drawn on the first call."""
    _sample_path()
    return SAMPLE_UPLOAD_ID


def _sample_path() -> Path:
    """Return the sample slide's file, drawn on the first call."""
    from stem_core.slides.sample import sample_slide

    return sample_slide(paths.sample_dir())


def list_server_slides() -> list[str]:
    """Return the slides below `STEM_SLIDE_DIR` as places within it; empty if none is set."""
    root = paths.slide_dir()
    if root is None or not root.is_dir():
        return []
    places = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder) / name
            if path.suffix.lower() not in FOLDER_SUFFIXES or name.startswith("."):
                continue
            if path.resolve().is_relative_to(root):
                places.append(path.relative_to(root).as_posix())
        if len(places) >= _MOST_LISTED:
            break
    return places[:_MOST_LISTED]


def register_server_slide(place: str) -> Upload:
    """Use a slide of the server's own folder without copying it.

    Raises
    ------
    JobError
        It is not there, or lies outside the folder.
    """
    path = _server_slide(place)
    upload_id = secrets.token_hex(16)
    folder = paths.uploads_dir() / upload_id
    folder.mkdir(mode=paths.PRIVATE_MODE)
    (folder / "link.json").write_text(
        json.dumps({"place": place}, allow_nan=False), encoding="utf-8"
    )
    return Upload(upload_id, path, path.stat().st_size, "")


def remove_upload(upload_id: str) -> None:
    """Remove an upload (never the sample, never a slide of the server's own folder)."""
    if check_upload_id(upload_id) != SAMPLE_UPLOAD_ID:
        shutil.rmtree(paths.uploads_dir() / upload_id, ignore_errors=True)


def remove_unused(in_use: Callable[[], set[str]], *, older_than_s: float = 24 * 3600) -> int:
    """Remove uploads that no run refers to.

    Parameters
    ----------
    in_use
        Gives the upload ids that runs refer to.
    older_than_s
        Younger uploads stay: their page may still be open.

    Returns
    -------
    int
        The number of uploads removed.
    """
    limit = time.time() - older_than_s
    old = [entry for entry in paths.uploads_dir().iterdir() if entry.stat().st_mtime < limit]
    kept = in_use()
    unused = [entry for entry in old if entry.name not in kept]
    for entry in unused:
        shutil.rmtree(entry, ignore_errors=True)
    return len(unused)


def max_upload_bytes() -> int:
    """Return the largest upload taken: `STEM_MAX_UPLOAD_GB` (default 20) in bytes."""
    text = os.environ.get("STEM_MAX_UPLOAD_GB", "20")
    try:
        gigabytes = float(text)
    except ValueError:
        gigabytes = -1.0
    if not 0 < gigabytes < 1e6:
        msg = (
            f"STEM_MAX_UPLOAD_GB must be a number of gigabytes above 0, not {text!r}; correct "
            "or unset it."
        )
        raise OutputError(msg)
    return int(gigabytes * 1e9)


def _pieces(
    content: bytes | memoryview | BinaryIO | Iterable[bytes],
) -> Iterable[bytes | memoryview]:
    if isinstance(content, (bytes, bytearray, memoryview)):
        return (memoryview(content),)
    read = getattr(content, "read", None)
    if read is not None:
        return iter(lambda: read(_PIECE_BYTES), b"")
    return content


def _checked_suffix(name: str) -> str:
    suffix = Path(name).suffix.lower()
    if suffix in SLIDE_SUFFIXES or suffix in SPOTS_SUFFIXES:
        return suffix
    known = " ".join((*SLIDE_SUFFIXES, *SPOTS_SUFFIXES))
    said = f"The file type {suffix[:12]!r}" if suffix else "A file without a type"
    msg = f"{said} cannot be uploaded; choose one of: {known}."
    raise SlideOpenError(msg)


def _server_slide(place: str) -> Path:
    root = paths.slide_dir()
    if root is not None:
        path = (root / place).resolve()
        if (
            path.is_relative_to(root)
            and path.name.lower().endswith(FOLDER_SUFFIXES)
            and path.is_file()
        ):
            return path
    msg = (
        "This slide is not in the server's slide folder (STEM_SLIDE_DIR); choose one from the list."
    )
    raise JobError(msg)


def _too_large(limit: int) -> SlideOpenError:
    return SlideOpenError(
        f"The file is larger than the {limit / 1e9:g} GB taken here; raise STEM_MAX_UPLOAD_GB "
        "or put the "
        "slide into the server's slide folder (STEM_SLIDE_DIR)."
    )


def _not_written(error: OSError) -> OutputError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(
            "The upload did not fit: the server's disk is full; free space and upload it again."
        )
    return OutputError(
        f"The upload could not be written ({error.strerror or error}); check the folder "
        f"{paths.home()}."
    )
