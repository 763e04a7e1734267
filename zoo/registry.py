"""Which models there are: the bundled ones and those in `STEM_MODELS_DIR`."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stem_core.errors import UnknownModelError
from zoo.manifest import Manifest, read_manifest

__all__ = ["BUNDLED_DIR", "Entry", "find_model", "list_models"]

BUNDLED_DIR = Path(__file__).parent / "models"


@dataclass(frozen=True)
class Entry:
    """A model that can be used now.

    Attributes
    ----------
    name
        By which it is asked for.
    source
        `bundled`, or `local` for the folder `STEM_MODELS_DIR`.
    folder, manifest
        Where it is and what it says of itself.
    """

    name: str
    source: Literal["bundled", "local"]
    folder: Path
    manifest: Manifest


def list_models() -> list[Entry]:
    """List all models, bundled first, by name; a bundled model cannot be replaced by a local one.

    Raises
    ------
    ModelFileError
        A model's manifest is faulty.
    """
    places: list[tuple[Literal["bundled", "local"], Path]] = [("bundled", BUNDLED_DIR)]
    if extra := os.environ.get("STEM_MODELS_DIR"):
        places.append(("local", Path(extra)))
    found: dict[str, Entry] = {}
    for source, place in places:
        for config in sorted(place.glob("*/config.json")):
            manifest = read_manifest(config)
            found.setdefault(manifest.name, Entry(manifest.name, source, config.parent, manifest))
    return list(found.values())


def find_model(name: str) -> Entry:
    """Find a model by name.

    Raises
    ------
    UnknownModelError
        There is none; the sentence names those there are.
    """
    entries = {entry.name: entry for entry in list_models()}
    if name in entries:
        return entries[name]
    close = difflib.get_close_matches(name, entries, n=1)
    hint = f"did you mean {close[0]}? Known models: " if close else "choose one of: "
    msg = f"There is no model '{name}'; {hint}{', '.join(entries) or 'none is installed'}."
    raise UnknownModelError(msg)
