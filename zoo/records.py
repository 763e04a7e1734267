"""What was pulled, and what first pulls found: small JSON files, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stem_core.errors import OutputError
from stem_core.files import file_sha256, write_atomically
from stem_core.model.config import ModelName
from stem_core.model.manifest import UNPINNED
from zoo.entries import FileEntry, ModelEntry
from zoo.places import home, zoo_dir

__all__ = [
    "BY_HAND",
    "Pin",
    "PullRecord",
    "faulty_files",
    "forget_pull",
    "installed",
    "pinned",
    "read_pins",
    "record_pin",
    "record_pull",
]


BY_HAND = "by hand"


class PullRecord(BaseModel):
    """The record of a pulled model.

    Attributes
    ----------
    name
        Of the model.
    folder
        Its model folder: in the Hub's cache, or among the converted ones.
    repo, revision
        Where it came from; 40 digits.
    files
        Of the folder, with size and sha256.
    sources
        What was fetched, where the folder was converted from it.
    pulled
        When, UTC.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: ModelName
    folder: str
    repo: str
    revision: str = Field(pattern=r"^[0-9a-f]{40}$")
    files: tuple[FileEntry, ...]
    sources: tuple[FileEntry, ...] = ()
    pulled: str

    @property
    def path(self) -> Path:
        """The model folder."""
        return Path(self.folder)


class Pin(BaseModel):
    """What the first pull of an unpinned entry found; `by hand`, the file that was brought."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    repo: str
    revision: str = Field(pattern=rf"^([0-9a-f]{{40}}|{BY_HAND})$")
    files: tuple[FileEntry, ...]


def installed() -> dict[str, PullRecord]:
    """Return the records of all pulled models whose files are still there, by name."""
    found = {}
    folder = home() / "zoo" / "installed"
    for path in sorted(folder.glob("*.json")):
        try:
            record = PullRecord.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValidationError):
            continue  # no record, no model: a pull makes a new one
        if all((record.path / f.path).is_file() for f in record.files):
            found[record.name] = record
    return found


def pinned(entry: ModelEntry) -> str | None:
    """Return the revision a pull takes: the registry's, else that of the first pull, else None."""
    if entry.hub is None:
        return None
    if entry.hub.revision != UNPINNED:
        return entry.hub.revision
    pin = read_pins().get(entry.name)
    return pin.revision if pin is not None and pin.repo == entry.hub.repo else None


def faulty_files(folder: Path, files: Iterable[FileEntry]) -> list[str]:
    """Name the files of a model folder that are missing or not what was recorded; takes a read."""
    return [
        f.path
        for f in files
        if not (folder / f.path).is_file() or file_sha256(folder / f.path) != f.sha256
    ]


def read_pins() -> dict[str, Pin]:
    """Return what the first pulls of unpinned entries found, by name of the model.

    Raises
    ------
    OutputError
        The file is there but cannot be read.
    """
    try:
        raw = json.loads((home() / "zoo" / "pins.json").read_text(encoding="utf-8"))
        return {name: Pin.model_validate(value) for name, value in raw.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        msg = (
            f"The file {home() / 'zoo' / 'pins.json'}, which records the revisions of first pulls, "
            f"cannot be read ({error}); correct it, or delete it to record them again."
        )
        raise OutputError(msg) from error


def record_pin(name: str, pin: Pin) -> None:
    """Note what the first pull of an unpinned entry found; later pulls must agree."""
    with FileLock(zoo_dir("locks") / "pins.lock"):
        pins = {**read_pins(), name: pin}
        plain = {key: pins[key].model_dump(mode="json") for key in sorted(pins)}
        text = json.dumps(plain, indent=1, allow_nan=False) + "\n"
        write_atomically(home() / "zoo" / "pins.json", text)


def record_pull(record: PullRecord) -> None:
    """Note that a model is installed; from here on it is."""
    path = zoo_dir("installed") / f"{record.name}.json"
    write_atomically(path, record.model_dump_json(indent=1) + "\n")


def forget_pull(name: str) -> None:
    """Take the note away; from here on the model is not installed."""
    (home() / "zoo" / "installed" / f"{name}.json").unlink(missing_ok=True)
