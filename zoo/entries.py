"""The registry: which models there are in the world, as a checked list (`registry.json`).

The program's own list comes with it. `STEM_REGISTRY` names more lists, separated by `;`: a path, or
a file of a Hub dataset as `datasets/ORG/NAME/FILE.json[@REVISION]`. Lists are merged by name, the
program's own first, and every entry remembers where it was read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from stem_core.constants import Units
from stem_core.encoders.catalogue import encoder_facts
from stem_core.errors import RegistryError
from stem_core.files import file_sha256
from stem_core.model.config import Config, ModelCard, SpotLayout
from stem_core.model.manifest import HeldOut, Manifest

__all__ = [
    "MODEL_FILES",
    "REGISTRY_FILE",
    "ConversionSpec",
    "FileEntry",
    "HubSource",
    "ModelEntry",
    "Registry",
    "describe_files",
    "entry_from_manifest",
    "read_registry",
    "registry_sources",
]

REGISTRY_FILE = Path(__file__).with_name("registry.json")
REGISTRY_VERSION = 1
# What a model folder may hold; nothing else is ever taken from a repository.
MODEL_FILES = (
    "config.json",
    "model.safetensors",
    "genes.csv",
    "reference.safetensors",
    "encoder.safetensors",
    "README.md",
)
_MOST_BYTES = 10_000_000
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class FileEntry(Config):
    """A file of a model; size and sha256 are left out where they cannot be known here."""

    path: str
    size: int | None = Field(default=None, ge=0)
    sha256: Sha256 | None = None

    @field_validator("path")
    @classmethod
    def _stays_inside(cls, value: str) -> str:
        parts = PurePosixPath(value).parts
        if not parts or value.startswith("/") or ".." in parts or "\\" in value or ":" in value:
            msg = f"'{value}' is not a path inside a repository"
            raise ValueError(msg)
        return value


class HubSource(Config):
    """A repository at a revision: 40 hexadecimal digits, or `unpinned`.

    Of an unpinned one the first pull records revision and hashes, and later pulls must agree.
    """

    repo: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")
    revision: str = Field(pattern=r"^([0-9a-f]{40}|unpinned)$")
    files: tuple[FileEntry, ...] = ()


class ConversionSpec(Config):
    """How another program's checkpoint becomes a model folder (see `zoo.convert`)."""

    checkpoint: str
    genes: str
    layout: SpotLayout
    patch_um: float = Field(gt=0)
    panel_rule: str
    training_slides: tuple[str, ...] = ()


class ModelEntry(ModelCard):
    """A model of the registry."""

    source: Literal["bundled", "hub", "local"]
    n_genes: int = Field(gt=0)
    units: Units
    encoders: tuple[str, ...] = Field(min_length=1)
    gated: bool
    held_out: HeldOut
    hub: HubSource | None = None
    files: tuple[FileEntry, ...] = ()
    convert: ConversionSpec | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> ModelEntry:
        if (self.source == "hub") != (self.hub is not None):
            msg = "an entry has a hub part if and only if its source is hub"
            raise ValueError(msg)
        return self

    @property
    def gated_encoders(self) -> tuple[str, ...]:
        """Names of its encoders that their owners give on request only."""
        known = ((name, encoder_facts(name)) for name in self.encoders)
        return tuple(name for name, facts in known if facts is not None and facts.gated)

    @property
    def wanted_files(self) -> tuple[str, ...]:
        """Paths in the repository that a pull takes where they are there."""
        if self.convert is not None:
            return (self.convert.checkpoint, self.convert.genes)
        return MODEL_FILES

    @property
    def size_bytes(self) -> int | None:
        """Of all files together; None where it is not known before the Hub is asked."""
        files = self.files if self.hub is None else self.hub.files
        sizes = [f.size for f in files if f.path in self.wanted_files]
        return sum(s for s in sizes if s is not None) if sizes and None not in sizes else None


class Registry(Config):
    """A list of models."""

    schema_version: Literal[1]
    models: tuple[ModelEntry, ...]

    @model_validator(mode="after")
    def _names_differ(self) -> Registry:
        names = [entry.name for entry in self.models]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            msg = f"the name {twice[0]} is given twice"
            raise ValueError(msg)
        return self


def read_registry(path: Path, shown: str = "") -> Registry:
    """Read and check a list of models.

    Parameters
    ----------
    path
        A JSON file.
    shown
        What to call it in errors; its path by default.

    Raises
    ------
    RegistryError
        The file cannot be read, is not JSON, too large, of another version, or a field is wrong.
    """
    where = shown or str(path)
    try:
        if path.stat().st_size > _MOST_BYTES:
            msg = (
                f"The model list {where} is larger than {_MOST_BYTES // 10**6} MB; name another "
                "one in STEM_REGISTRY."
            )
            raise RegistryError(msg)
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        msg = (
            f"The model list {where} cannot be read ({error}); correct it or take it out of "
            "STEM_REGISTRY."
        )
        raise RegistryError(msg) from error
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if version != REGISTRY_VERSION:
        msg = (
            f"The model list {where} has schema version {version!r}, this program reads "
            f"{REGISTRY_VERSION}; update the program or the list."
        )
        raise RegistryError(msg)
    try:
        return Registry.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the list"
        msg = f"The model list {where} is faulty: {place}: {first['msg']}; correct it."
        raise RegistryError(msg) from error


def registry_sources() -> list[str]:
    """Return what `STEM_REGISTRY` names: paths and Hub dataset files."""
    return [part.strip() for part in os.environ.get("STEM_REGISTRY", "").split(";") if part.strip()]


def describe_files(folder: Path) -> tuple[FileEntry, ...]:
    """Return size and sha256 of a model folder's files."""
    return tuple(
        FileEntry(path=name, size=(folder / name).stat().st_size, sha256=file_sha256(folder / name))
        for name in MODEL_FILES
        if (folder / name).is_file()
    )


def entry_from_manifest(
    manifest: Manifest,
    source: Literal["bundled", "hub", "local"],
    *,
    hub: HubSource | None = None,
    files: Iterable[FileEntry] = (),
) -> ModelEntry:
    """Make the entry of a model that is at hand from what its manifest says."""
    encoders = tuple(encoder.name for encoder in manifest.encoders)
    facts = [encoder_facts(name) for name in encoders]
    return ModelEntry(
        **manifest.card(),
        source=source,
        n_genes=len(manifest.panel),
        units=manifest.units,
        encoders=encoders,
        gated=any(f is not None and f.gated for f in facts),
        held_out=manifest.held_out.model_copy(update={"folds": ()}),
        hub=hub,
        files=tuple(files),
    )
