"""`stem zoo convert`: a checkpoint of the original authors becomes a model folder."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from app.commands.options import OptionalWhole, Out
from app.terminal import DONE, Terminal, TerminalOptions
from stem_core.errors import SettingsError
from stem_core.model.config import NAME_PATTERN

if TYPE_CHECKING:
    from zoo.convert import ModelFacts

__all__ = ["Facts", "convert"]

_FACTS = Group("Facts for the manifest", sort_key=50)


@dataclass(frozen=True)
class Facts:
    """What a manifest says about a model and its checkpoint does not.

    Attributes
    ----------
    title
        Title of the model.
    tissue
        Tissue of the training sections.
    organ
        Organ of the training sections.
    species
        Species of the training sections.
    platform
        Platform of the training sections.
    disease
        Disease of the training sections.
    encoders
        Names of the encoders in order, A,B (default: uni,conch, as published).
    """

    title: Annotated[str | None, Parameter(group=_FACTS)] = None
    tissue: Annotated[str | None, Parameter(group=_FACTS)] = None
    organ: Annotated[str | None, Parameter(group=_FACTS)] = None
    species: Annotated[str | None, Parameter(group=_FACTS)] = None
    platform: Annotated[str | None, Parameter(group=_FACTS)] = None
    disease: Annotated[str | None, Parameter(group=_FACTS)] = None
    encoders: Annotated[str | None, Parameter(group=_FACTS)] = None

    def given(self) -> dict[str, Any]:
        """Return what was given, as `zoo.convert.ModelFacts` takes it."""
        found = {
            field.name: value
            for field in fields(self)
            if (value := getattr(self, field.name)) is not None
        }
        if self.encoders is not None:
            found["encoders"] = tuple(part.strip() for part in self.encoders.split(","))
        return found


def convert(
    checkpoint: Path,
    /,
    *,
    genes: Path,
    out: Out,
    name: str | None = None,
    weights: Literal["auto", "ema", "model"] = "auto",
    heads: OptionalWhole = None,
    facts: Annotated[Facts, Parameter(name="*")] = Facts(),
    terminal: TerminalOptions = Terminal(),
) -> int:
    """Turn a checkpoint of the original authors into a model folder.

    Parameters
    ----------
    checkpoint
        Checkpoint, a .pt file; nothing in it is run.
    genes
        Text file with the symbols of the panel, one a line.
    out
        Model folder to write, new or empty.
    name
        Name of the model; the registry knows the facts of some.
    weights
        Weights to take from a training state (default: auto).
    heads
        Number of attention heads, where the checkpoint does not say it.
    """
    from stem_core.prediction.export import claim_output_dir
    from zoo.convert import convert_checkpoint

    out = claim_output_dir(out, overwrite=False)
    manifest = convert_checkpoint(
        checkpoint, genes, out, _model_facts(checkpoint, name, facts), weights=weights, heads=heads
    )
    size = manifest.denoiser
    terminal.say(
        f"Converted {checkpoint.name} to {out}: {len(manifest.panel)} genes, depth "
        f"{size.depth}, width {size.width}, {size.heads} heads, condition "
        f"{size.condition_width}. Its quality was not measured here."
    )
    return DONE


def _model_facts(checkpoint: Path, name: str | None, facts: Facts) -> ModelFacts:
    """Take what a checkpoint does not say from the registry, where it names it, and the options."""
    import re

    from zoo.convert import ModelFacts, facts_from_entry
    from zoo.registry import list_offers

    name = name or re.sub(r"[^a-z0-9]+", "-", checkpoint.stem.lower()).strip("-")
    if not re.fullmatch(NAME_PATTERN, name):
        msg = (
            f"'{name}' cannot be a model's name; give one of small letters, digits and hyphens "
            "with --name."
        )
        raise SettingsError(msg)
    listed = {offer.entry.name: offer.entry for offer in list_offers().offers}
    entry = listed.get(name)
    known = entry is not None and entry.convert is not None
    base = facts_from_entry(entry) if entry is not None and known else ModelFacts(name=name)
    return base.model_copy(update=facts.given())
