"""Which encoders are on this machine: a small JSON file for each that was installed.

`<home>/zoo/encoders/<name>.json` is written last, after the weights were checked and loaded once,
so what it names is whole.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stem_core.encoders.catalogue import encoder_facts
from stem_core.errors import missing_extra
from stem_core.files import write_atomically
from stem_core.model.config import ModelName
from zoo.entries import FileEntry
from zoo.places import home, zoo_dir
from zoo.records import BY_HAND

__all__ = [
    "InstalledEncoder",
    "installed_encoder",
    "missing_encoder_message",
    "record_encoder",
]


class InstalledEncoder(BaseModel):
    """The record of an encoder whose weights are here.

    Attributes
    ----------
    name, repo
        As in the catalogue.
    revision
        Of the repository, 40 digits; or `by hand`.
    source
        The published file.
    weights, weights_sha256
        The safetensors file that is loaded, and its sha256.
    pulled
        When, UTC.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: ModelName
    repo: str
    revision: str = Field(pattern=rf"^([0-9a-f]{{40}}|{BY_HAND})$")
    source: FileEntry
    weights: str
    weights_sha256: str
    pulled: str


def installed_encoder(name: str) -> InstalledEncoder | None:
    """Return the record of an encoder whose weights are still there; quick, nothing is hashed."""
    try:
        text = (home() / "zoo" / "encoders" / f"{name}.json").read_text(encoding="utf-8")
        record = InstalledEncoder.model_validate_json(text)
    except (OSError, ValidationError):
        return None
    return record if Path(record.weights).is_file() else None


def missing_encoder_message(subject: str, names: Sequence[str]) -> str:
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
    absent = [facts for facts in published if installed_encoder(facts.name) is None]
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


def record_encoder(record: InstalledEncoder) -> None:
    """Note that an encoder is installed; from here on it is."""
    path = zoo_dir("encoders") / f"{record.name}.json"
    write_atomically(path, record.model_dump_json(indent=1) + "\n")
