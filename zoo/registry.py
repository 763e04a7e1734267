"""Which models can be used now, and which could be: bundled, pulled, or put there by hand."""

from __future__ import annotations

import difflib
import importlib.util
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from stem_core.encoders.catalogue import encoder_facts
from stem_core.errors import (
    ModelError,
    ModelFileError,
    RegistryError,
    StemError,
    UnknownModelError,
    missing_extra,
)
from stem_core.model.manifest import Manifest, read_manifest
from zoo.entries import (
    REGISTRY_FILE,
    ModelEntry,
    Registry,
    entry_from_manifest,
    read_registry,
    registry_sources,
)
from zoo.places import local_models_dirs
from zoo.store import Artifact, find_installed, installed, pinned_revision

__all__ = [
    "BUNDLED_DIR",
    "InstalledModel",
    "ModelListing",
    "ModelListings",
    "find_model",
    "find_offer",
    "list_models",
    "list_offers",
    "missing_encoders",
    "open_model",
]

BUNDLED_DIR = Path(__file__).parent / "models"
OWN_LIST = "this program"
_KEEP_S = 600.0
_DATASET = re.compile(r"^datasets/([\w.-]+/[\w.-]+)/([^@]+\.json)(?:@(.+))?$")
_KEEP_FAULT_S = 60.0
_fetched: dict[str, tuple[float, Registry | StemError]] = {}


@dataclass(frozen=True)
class InstalledModel:
    """A model that can be used now.

    Attributes
    ----------
    name
        By which it is asked for.
    source
        `bundled`, `hub` (pulled), or `local` (a folder put there by hand).
    folder, manifest
        Where it is and what it says of itself.
    """

    name: str
    source: Literal["bundled", "hub", "local"]
    folder: Path
    manifest: Manifest

    @property
    def cannot_run(self) -> str:
        """Why this program cannot predict with it, for want of an encoder; "" where it can."""
        names = [ref.name for ref in self.manifest.encoders]
        if (self.folder / "encoder.safetensors").is_file():  # stands for a name nobody knows
            names = [name for name in names if encoder_facts(name) is not None]
        return missing_encoders(f"The model {self.name}", names)


@dataclass(frozen=True)
class ModelListing:
    """A model of the registry, and whether it is here.

    Attributes
    ----------
    entry
        What the registry says.
    listed_in
        Where it was read: this program's own list, a path, or a Hub dataset.
    state
        `installed`, `available`, or `update`: it is here, and the registry names a newer revision.
    usable
        The model, where it is here.
    record
        Of its pull, where it was pulled.
    """

    entry: ModelEntry
    listed_in: str
    state: Literal["installed", "available", "update"]
    usable: InstalledModel | None = None
    record: Artifact | None = None


@dataclass(frozen=True)
class ModelListings:
    """All models, and one sentence for each that could not be read.

    `faults` is by name of a model, or of a list of models.
    """

    offers: tuple[ModelListing, ...]
    faults: dict[str, str] = field(default_factory=dict)


def list_models() -> list[InstalledModel]:
    """List the models that can be used: bundled first, then pulled, then those put there by hand.

    A model cannot be replaced by another one of its name. One whose manifest is faulty is left
    out; `list_offers` says why.
    """
    return list(_usable()[0].values())


def find_model(name: str) -> InstalledModel:
    """Find a model by name.

    Raises
    ------
    UnknownModelError
        There is none; the sentence names those there are, or says that it can be pulled.
    ModelFileError
        Its manifest is faulty.
    """
    entries, faults = _usable()
    if name in entries:
        return entries[name]
    if name in faults:
        raise ModelError(faults[name])
    offered = {offer.entry.name: offer for offer in list_offers().offers}
    if name in offered:
        msg = f"The model '{name}' is not installed; run stem zoo pull {name}."
        raise UnknownModelError(msg)
    raise UnknownModelError(_no_such(name, list(entries), others=list(offered)))


def open_model(name_or_folder: str) -> InstalledModel:
    """Find a model by name, or read the model folder at a path.

    For the command line: what is asked for from outside is a name, see `find_model`. What has a
    separator in it is a path, as in a shell.

    Raises
    ------
    UnknownModelError, ModelFileError
        There is no such model, or its manifest is faulty.
    """
    if "/" not in name_or_folder and os.sep not in name_or_folder:
        return find_model(name_or_folder)
    folder = Path(name_or_folder).expanduser().absolute()
    if not (folder / "config.json").is_file():
        msg = (
            f"{folder} is not a model folder (it has no config.json); name the folder that stem "
            "train or stem zoo convert wrote, or a model of stem zoo list."
        )
        raise ModelFileError(msg)
    manifest = read_manifest(folder / "config.json")
    return InstalledModel(manifest.name, "local", folder, manifest)


def list_offers() -> ModelListings:
    """List every model known, those of this program's list first."""
    entries, faults = _usable()
    records = installed("model")
    offers: dict[str, ModelListing] = {}
    for origin, registry in _registries(faults):
        for listed in registry.models:
            if listed.name in offers:
                continue
            usable, record = entries.get(listed.name), records.get(listed.name)
            if listed.source != "hub" and usable is None:
                continue  # said to be bundled or local, but not here
            offers[listed.name] = ModelListing(
                listed, origin, _state(listed, usable, record), usable, record
            )
    for entry in entries.values():
        if entry.name not in offers:
            own = entry_from_manifest(entry.manifest, "local")
            offers[entry.name] = ModelListing(own, str(entry.folder.parent), "installed", entry)
    return ModelListings(tuple(offers.values()), faults)


def find_offer(name: str) -> ModelListing:
    """Find a model by name, here or not.

    Raises
    ------
    UnknownModelError
        No list names it.
    """
    offers = {offer.entry.name: offer for offer in list_offers().offers}
    if name in offers:
        return offers[name]
    raise UnknownModelError(_no_such(name, list(offers)))


def missing_encoders(subject: str, names: Sequence[str]) -> str:
    """Say which encoders are not here, and how to get them; "" where all can run.

    Parameters
    ----------
    subject
        Begins the sentence: "The model so-and-so", "The recipe".
    names
        Of encoders.
    """
    known = [(name, encoder_facts(name)) for name in names]
    if unknown := [name for name, facts in known if facts is None]:
        return (
            f"{subject} needs the encoder {unknown[0]}, which this program does not know; update "
            "the program or choose another model."
        )
    published = [facts for _, facts in known if facts is not None and facts.repo]
    absent = [facts for facts in published if find_installed("encoder", facts.name) is None]
    if absent:
        shown = " and ".join(
            f"{facts.title} ({facts.repo}{', gated' if facts.gated else ''}; {facts.licence})"
            for facts in absent
        )
        commands = " and ".join(f"stem zoo pull-encoder {facts.name}" for facts in absent)
        ask = ", once its owner gave you access" if any(f.gated for f in absent) else ""
        return (
            f"{subject} needs {shown}, which {'are' if len(absent) > 1 else 'is'} not on this "
            f"machine; run {commands}{ask}."
        )
    if published and importlib.util.find_spec("timm") is None:
        return missing_extra(subject, "the package timm", "encoders")
    return ""


def _state(
    listed: ModelEntry, usable: InstalledModel | None, record: Artifact | None
) -> Literal["installed", "available", "update"]:
    if usable is None:
        return "available"
    if usable.source == "hub" and record is not None and listed.hub is not None:
        wanted = pinned_revision(listed.hub.repo, listed.hub.revision, listed.name)
        if wanted is not None and wanted != record.revision:
            return "update"
    return "installed"


def _usable() -> tuple[dict[str, InstalledModel], dict[str, str]]:
    """Read the manifests of all model folders here; faulty ones become sentences."""
    folders: list[tuple[Literal["bundled", "hub", "local"], str, Path]] = [
        ("bundled", config.parent.name, config.parent)
        for config in sorted(BUNDLED_DIR.glob("*/config.json"))
    ]
    folders += [("hub", record.name, record.path) for record in installed("model").values()]
    for place in local_models_dirs():
        configs = sorted(place.glob("*/config.json"))
        folders += [("local", config.parent.name, config.parent) for config in configs]
    found: dict[str, InstalledModel] = {}
    faults: dict[str, str] = {}
    for source, name, folder in folders:
        try:
            manifest = read_manifest(folder / "config.json")
        except ModelError as error:
            faults[name] = str(error)
        else:
            entry = InstalledModel(manifest.name, source, folder, manifest)
            first = found.setdefault(manifest.name, entry)
            if first is not entry and source == "local":
                faults[f"{name} in {folder.parent}"] = (
                    f"The model in {folder} is left out, since there is another model of the name "
                    f"{manifest.name}; give it another name in its config.json (or ask for it by "
                    "its path: stem predict --model)."
                )
    return found, faults


def _registries(faults: dict[str, str]) -> list[tuple[str, Registry]]:
    """Read all lists of models; those that cannot be had become sentences."""
    found = [(OWN_LIST, read_registry(REGISTRY_FILE))]
    for source in registry_sources():
        try:
            found.append((source, _read_source(source)))
        except StemError as error:
            faults[source] = str(error)
    return found


def _read_source(source: str) -> Registry:
    if not source.startswith("datasets/"):
        return read_registry(Path(source).expanduser(), source)
    matched = _DATASET.match(source)
    if matched is None:
        msg = (
            f"STEM_REGISTRY names '{source}'; a list on the Hub is written "
            "datasets/ORG/NAME/FILE.json or …/FILE.json@REVISION."
        )
        raise RegistryError(msg)
    kept = _fetched.get(source)
    if kept is not None and time.monotonic() < kept[0]:
        if isinstance(kept[1], StemError):
            raise kept[1]
        return kept[1]
    from zoo.hub import fetch_dataset_file

    repo, path, revision = matched.groups()
    try:
        registry = read_registry(fetch_dataset_file(repo, path, revision), source)
    except StemError as error:
        _fetched[source] = (time.monotonic() + _KEEP_FAULT_S, error)
        raise
    _fetched[source] = (time.monotonic() + _KEEP_S, registry)
    return registry


def _no_such(name: str, known: list[str], others: Sequence[str] = ()) -> str:
    """Say that there is no such model, and which name was meant; `others` can be pulled."""
    close = difflib.get_close_matches(name, [*known, *others], n=1)
    hint = f"did you mean {close[0]}? Known models: " if close else "choose one of: "
    return f"There is no model '{name}'; {hint}{', '.join(known) or 'none is installed'}."
