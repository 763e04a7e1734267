"""The store of artifacts: models and encoders on this machine, complete or absent.

    <home>/zoo/
      installed/models/<name>.json   the record of a model, and so for encoders; written last
      models/<name>-…/               its files, each a link to a blob
      blobs/<sha256>                 contents, each once, whichever artifacts have them
      pins.json                      revisions and hashes that first pulls of unpinned ones found

An artifact is installed when its record is written: after every file has come, was checked, and was
loaded once. Killed at any moment before, nothing of it can be used, and the contents that came stay
for the next try. Content-addressed blobs with links to them are the idea of the Hub's own cache.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout
from pydantic import Field, ValidationError

from stem_core.errors import Cancelled, ModelFileError, OutputError
from stem_core.files import atomic_directory, file_sha256, write_atomically
from stem_core.model.config import Config, ModelName
from stem_core.model.manifest import UNPINNED
from zoo.entries import FileEntry
from zoo.places import home, zoo_dir

__all__ = [
    "BY_HAND",
    "Artifact",
    "Kind",
    "Pin",
    "blob_path",
    "faulty_files",
    "find_installed",
    "install",
    "installed",
    "keep_blob",
    "pinned_revision",
    "place_file",
    "read_pins",
    "record_pin",
    "remove",
    "take_turn",
]

BY_HAND = "by hand"
Kind = Literal["model", "encoder"]
_LOCK_PATIENCE_S = 3600.0
_KEEP_UNUSED_S = 7 * 86_400.0  # what broken pulls left, for the next try


class Artifact(Config):
    """The record of an installed model or encoder.

    Attributes
    ----------
    kind, name
        What it is.
    folder
        Folder with its files.
    repo
        Repository on the Hub.
    revision
        Of the repository, 40 digits; or `by hand`.
    files
        Of the folder, with size and sha256.
    sources
        Published files, where those of the folder were made from them.
    pulled
        When, UTC.
    """

    kind: Kind
    name: ModelName
    folder: str
    repo: str
    revision: str = Field(pattern=rf"^([0-9a-f]{{40}}|{BY_HAND})$")
    files: tuple[FileEntry, ...] = Field(min_length=1)
    sources: tuple[FileEntry, ...] = ()
    pulled: str

    @property
    def path(self) -> Path:
        """Its folder."""
        return Path(self.folder)

    @property
    def published(self) -> tuple[FileEntry, ...]:
        """The files as its authors published them."""
        return self.sources or self.files

    @property
    def size_bytes(self) -> int:
        """Of its files together."""
        return sum(file.size or 0 for file in self.files)


class Pin(Config):
    """What the first pull of an unpinned artifact found; `by hand`, the file that was brought."""

    repo: str
    revision: str = Field(pattern=rf"^([0-9a-f]{{40}}|{BY_HAND})$")
    files: tuple[FileEntry, ...]


def installed(kind: Kind) -> dict[str, Artifact]:
    """Return the records of all artifacts of a kind whose files are there; quick, no hashing."""
    found = (_read_record(path) for path in sorted(_records(kind).glob("*.json")))
    return {record.name: record for record in found if record is not None}


def find_installed(kind: Kind, name: str) -> Artifact | None:
    """Return the record of an artifact whose files are there; quick, no hashing."""
    return _read_record(_records(kind) / f"{name}.json")


def _records(kind: Kind) -> Path:
    return home() / "zoo" / "installed" / f"{kind}s"


def _read_record(path: Path) -> Artifact | None:
    try:
        record = Artifact.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        return None  # no record, no artifact: a pull makes a new one
    return record if all((record.path / f.path).is_file() for f in record.files) else None


def faulty_files(folder: Path, files: Iterable[FileEntry]) -> list[str]:
    """Name the files of a folder that are missing or not what was recorded; reads them all."""
    return [
        f.path
        for f in files
        if not (folder / f.path).is_file() or file_sha256(folder / f.path) != f.sha256
    ]


def install(
    kind: Kind,
    name: str,
    *,
    repo: str,
    revision: str,
    make: Callable[[Path], tuple[FileEntry, ...]],
) -> Artifact:
    """Make an artifact's folder, store its contents, and record it in place of an older one.

    Parameters
    ----------
    kind, name
        What it is; the caller holds its turn (`take_turn`).
    repo, revision
        Where it came from.
    make
        Fills an empty folder and checks what it made; returns the published files where those of
        the folder were made from them, else nothing.

    Raises
    ------
    OutputError
        The disk is full or cannot be written; or whatever `make` raises. Nothing is installed then;
        what was installed stays.
    """
    before = find_installed(kind, name)
    folder = zoo_dir(f"{kind}s") / f"{name}-{revision[:12].replace(' ', '-')}"
    with atomic_directory(folder, replace=True) as temporary:
        sources = make(temporary)
        made = [path for path in sorted(temporary.rglob("*")) if path.is_file()]
        files = tuple(_store(path, path.relative_to(temporary)) for path in made)
    record = Artifact(
        kind=kind,
        name=name,
        folder=str(folder),
        repo=repo,
        revision=revision,
        files=files,
        sources=sources,
        pulled=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    zoo_dir(f"installed/{kind}s")
    write_atomically(_records(kind) / f"{name}.json", record.model_dump_json(indent=1) + "\n")
    if before is not None and before.folder != record.folder:
        shutil.rmtree(before.path, ignore_errors=True)
    _sweep({f.sha256 for f in (*sources, *(before.files if before is not None else ()))})
    return record


def remove(kind: Kind, name: str) -> int:
    """Remove an artifact and return the bytes set free; contents that others have stay.

    Raises
    ------
    ModelFileError
        It was not pulled.
    """
    record = find_installed(kind, name)
    (_records(kind) / f"{name}.json").unlink(missing_ok=True)  # first
    if record is None:
        msg = (
            f"The {kind} {name} was not pulled, so there is nothing to remove; a model folder that "
            "was put there by hand is deleted by hand."
        )
        raise ModelFileError(msg)
    shutil.rmtree(record.path, ignore_errors=True)
    kept = _in_use()
    _sweep({file.sha256 for file in record.files})
    return sum(file.size or 0 for file in record.files if file.sha256 not in kept)


def blob_path(sha256: str) -> Path:
    """Return where a content lies, or would lie."""
    return home() / "zoo" / "blobs" / sha256


def keep_blob(file: Path, sha256: str) -> None:
    """Move a file, whose content was checked, into the store."""
    zoo_dir("blobs")
    file.chmod(0o400)  # several artifacts may link to it
    file.replace(blob_path(sha256))


def place_file(file: Path, target: Path) -> None:
    """Let a file of the store appear at a path: as a link, or as a copy where there are none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)


def _store(path: Path, inside: Path) -> FileEntry:
    """Describe a file of a new artifact, and let its content be a blob."""
    sha256 = file_sha256(path)
    entry = FileEntry(path=inside.as_posix(), size=path.stat().st_size, sha256=sha256)
    blob = blob_path(sha256)
    if not (blob.exists() and blob.samefile(path)):
        if not blob.exists() or file_sha256(blob) != sha256:
            aside = zoo_dir("partial") / f"{sha256}.made"
            path.replace(aside)
            keep_blob(aside, sha256)
        else:
            path.unlink()
        place_file(blob, path)
    return entry


def _in_use() -> set[str | None]:
    records = (*installed("model").values(), *installed("encoder").values())
    return {file.sha256 for record in records for file in record.files}


def _sweep(unwanted: Iterable[str | None]) -> None:
    """Drop contents that no artifact has: these, and what broken pulls left a week ago."""
    kept, unwanted = _in_use(), set(unwanted)
    oldest = time.time() - _KEEP_UNUSED_S
    for path in (*zoo_dir("blobs").iterdir(), *zoo_dir("partial").iterdir()):
        with contextlib.suppress(OSError):  # another process swept it
            if path.name not in kept and (path.name in unwanted or path.stat().st_mtime < oldest):
                path.unlink()


@contextlib.contextmanager
def take_turn(
    name: str,
    waiting: Callable[[], None] = lambda: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[None]:
    """Be the only one that installs or fetches something; wait for that up to an hour.

    Parameters
    ----------
    name
        What, as a file name.
    waiting
        Called every now and then.
    should_stop
        Asked every now and then.

    Raises
    ------
    OutputError
        Another process is at it all the time.
    Cancelled
        `should_stop` said so.
    """
    lock = FileLock(zoo_dir("locks") / f"{name}.lock")
    end = time.monotonic() + _LOCK_PATIENCE_S
    while not lock.is_locked:
        try:
            lock.acquire(timeout=0.2)
        except Timeout:
            waiting()
            if should_stop():
                msg = "The pull was stopped."
                raise Cancelled(msg) from None
            if time.monotonic() > end:
                msg = (
                    f"Another process has been pulling {name} for an hour; stop it, then try again."
                )
                raise OutputError(msg) from None
    try:
        yield
    finally:
        lock.release()


def read_pins() -> dict[str, Pin]:
    """Return what first pulls of unpinned artifacts found, by name; encoders as `encoder:<name>`.

    Raises
    ------
    OutputError
        The file is there but cannot be read.
    """
    path = home() / "zoo" / "pins.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return {name: Pin.model_validate(value) for name, value in raw.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        msg = (
            f"The file {path}, which records the revisions of first pulls, cannot be read "
            f"({error}); correct it, or delete it to record them again."
        )
        raise OutputError(msg) from error


def pinned_revision(repo: str, revision: str, name: str) -> str | None:
    """Return the revision that a pull takes: the given one, else that of the first pull, else None.

    Parameters
    ----------
    repo, revision
        From a list of models or encoders; 40 digits or `unpinned`.
    name
        Its name among pins.
    """
    if revision != UNPINNED:
        return revision
    pin = read_pins().get(name)
    # A file that was brought by hand says what it holds, not of which revision it is.
    named = pin is not None and pin.repo == repo and pin.revision != BY_HAND
    return pin.revision if pin is not None and named else None


def record_pin(name: str, pin: Pin) -> None:
    """Note what the first pull of an unpinned artifact found; later pulls must agree."""
    with FileLock(zoo_dir("locks") / "pins.lock"):
        pins = {**read_pins(), name: pin}
        plain = {key: pins[key].model_dump(mode="json") for key in sorted(pins)}
        text = json.dumps(plain, indent=1, allow_nan=False) + "\n"
        write_atomically(home() / "zoo" / "pins.json", text)
