"""Turn the original authors' checkpoints into model folders, executing nothing that is in them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from torch import Tensor

from stem_core.constants import UNITS
from stem_core.diffusion.denoiser import Denoiser
from stem_core.diffusion.schedule import Schedule
from stem_core.encoders.catalogue import encoder_facts
from stem_core.errors import ModelFileError, SettingsError
from stem_core.model.config import (
    LAYOUTS,
    PUBLISHED_PRESETS,
    DenoiserConfig,
    Licences,
    ModelCard,
    SpotLayout,
)
from stem_core.model.folder import check_model, write_model
from stem_core.model.manifest import HeldOut, Manifest
from stem_core.model.stem_model import Generator
from zoo.checkpoint import Checkpoint, read_checkpoint
from zoo.entries import ModelEntry

__all__ = ["ModelFacts", "convert_checkpoint", "convert_entry", "facts_from_entry", "read_genes"]

_PAIR = ("uni", "conch")  # the publication's encoders, in its order
_HEAD_WIDTH = 64  # as published; the number of heads cannot be read off the weights
_MOST_GENES = 20_000
_UNKNOWN = "unknown"


class ModelFacts(ModelCard):
    """What a manifest says that no checkpoint does."""

    title: str = ""
    version: str = _UNKNOWN
    tissue: str = _UNKNOWN
    organ: str = _UNKNOWN
    species: str = _UNKNOWN
    platform: str = _UNKNOWN
    disease: str = _UNKNOWN
    licences: Licences = Licences(code=_UNKNOWN, weights=_UNKNOWN, data=_UNKNOWN)
    citation: str = _UNKNOWN
    encoders: tuple[str, ...] = _PAIR
    layout: SpotLayout = LAYOUTS["visium"]
    patch_um: float = 112.0
    panel_rule: str = "As given with the checkpoint."
    training_slides: tuple[str, ...] = ()
    held_out: HeldOut = HeldOut(
        protocol="Not measured here.",
        note="Nothing is known here of how well this model does on new sections.",
    )


def facts_from_entry(entry: ModelEntry) -> ModelFacts:
    """Take the facts from an entry of the registry that is to be converted."""
    assert entry.convert is not None
    how = entry.convert.model_dump(exclude={"checkpoint", "genes"})
    return ModelFacts.model_validate(
        {**entry.card(), "encoders": entry.encoders, "held_out": entry.held_out, **how}
    )


def convert_entry(entry: ModelEntry, files: Mapping[str, Path], out: Path) -> Manifest:
    """Convert what was pulled for an entry into the folder `out`; errors as below."""
    assert entry.convert is not None
    checkpoint, genes = files[entry.convert.checkpoint], files[entry.convert.genes]
    return convert_checkpoint(checkpoint, genes, out, facts_from_entry(entry))


def convert_checkpoint(
    checkpoint: Path,
    genes: Path,
    out: Path,
    facts: ModelFacts,
    *,
    weights: Literal["auto", "ema", "model"] = "auto",
    heads: int | None = None,
) -> Manifest:
    """Write a model folder from a checkpoint and its gene list.

    Parameters
    ----------
    checkpoint
        A `.pt` file: a pickled model, a training state or a state dict (see `zoo.checkpoint`).
    genes
        Gene symbols, one a line, in the model's order.
    out
        An empty or new folder.
    facts
        What the checkpoint does not say.
    weights
        Which of a training state's weights.
    heads
        Attention heads, where the checkpoint does not say; width / 64 by default, as published.

    Returns
    -------
    Manifest
        Of the written folder, which was loaded once.

    Raises
    ------
    ModelFileError
        The checkpoint cannot be read safely, is not a denoiser of this kind, or does not fit the
        gene list.
    SettingsError
        The encoders are unknown or do not fit.
    OutputError
        The folder cannot be written.
    """
    read = read_checkpoint(checkpoint, weights=weights)
    table = read.tensors.get("gene_joint_embed.gene_name_ebd")
    if table is not None and table.dim() == 3 and len(table) == 1:
        read.tensors["gene_joint_embed.gene_name_ebd"] = table[0]
    symbols = read_genes(genes)
    size = _size_of(read, checkpoint.name, heads)
    if len(symbols) != size.genes:
        msg = (
            f"The list {genes.name} names {len(symbols)} genes, the checkpoint {checkpoint.name} "
            f"has {size.genes}; give the list that belongs to it."
        )
        raise ModelFileError(msg)
    denoiser = Denoiser(size)
    try:
        denoiser.load_state_dict(read.tensors, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        msg = f"The checkpoint {checkpoint.name} is not a denoiser of the published kind: {reason}."
        raise ModelFileError(msg) from error
    manifest = _manifest(facts, symbols, size, _encoders(facts, size), checkpoint, read)
    generator = Generator(
        denoiser, None, condition_width=size.condition_width, projected_width=None
    )
    write_model(out, manifest, generator, _gene_table(symbols))
    return check_model(out)


def read_genes(path: Path) -> list[str]:
    """Read gene symbols, one a line.

    Raises
    ------
    ModelFileError
        The file cannot be read, is empty, or names a gene twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"The gene list {path.name} cannot be read ({error}); give a text file."
        raise ModelFileError(msg) from error
    symbols = [line.strip().strip("\"',") for line in text.splitlines()]
    symbols = [symbol for symbol in symbols if symbol]
    twice = sorted({s for s in symbols if symbols.count(s) > 1}) if len(symbols) < 5000 else []
    odd = [s for s in symbols if not re.fullmatch(r"[\w.:()/|@ -]{1,60}", s)]
    if not symbols or len(symbols) > _MOST_GENES or twice or odd:
        why = (
            f"it names {twice[0]} twice" if twice
            else f"'{odd[0][:40]}' is not a gene symbol" if odd
            else f"it has {len(symbols)} lines"
        )  # fmt: skip
        msg = f"The gene list {path.name} cannot be used: {why}; give one symbol a line."
        raise ModelFileError(msg)
    return symbols


def _size_of(read: Checkpoint, name: str, heads: int | None) -> DenoiserConfig:
    """Read the denoiser's size off the shapes of its tensors."""

    def shape(key: str, dimensions: int) -> tuple[int, ...]:
        tensor: Tensor | None = read.tensors.get(key)
        if tensor is None or tensor.dim() != dimensions:
            msg = (
                f"The checkpoint {name} is not a denoiser of the published kind: it has no tensor "
                f"{key} of {dimensions} dimensions; give the file of the model itself."
            )
            raise ModelFileError(msg)
        return tuple(tensor.shape)

    genes, width = shape("gene_joint_embed.gene_name_ebd", 2)
    label_width, condition_width = shape("label_embed.0.weight", 2)
    hidden = shape("blocks.0.mlp.fc1.weight", 2)[0]
    inputs = shape("gene_joint_embed.gene_count_ebd.0.weight", 2)[1]
    numbers = [int(m[1]) for key in read.tensors if (m := re.match(r"blocks\.(\d+)\.", key))]
    count = heads or read.heads or max(1, width // _HEAD_WIDTH)
    if width % count:
        msg = (
            f"A width of {width} does not divide into {count} attention heads; "
            "give the model's number with --heads."
        )
        raise SettingsError(msg)
    return DenoiserConfig(
        genes=genes,
        condition_width=condition_width,
        depth=max(numbers) + 1,
        width=width,
        heads=count,
        mlp_ratio=hidden / width,
        gene_inputs=inputs,
        label_width=label_width,
    )


def _encoders(facts: ModelFacts, size: DenoiserConfig) -> list[dict[str, object]]:
    known = [(name, encoder_facts(name)) for name in facts.encoders]
    if unknown := [name for name, found in known if found is None]:
        msg = f"There is no encoder '{unknown[0]}'; see stem doctor --gated for those there are."
        raise SettingsError(msg)
    widths = [found.width for _, found in known if found is not None]
    if sum(widths) != size.condition_width:
        shown = " + ".join(f"{n} {w}" for n, w in zip(facts.encoders, widths, strict=True))
        msg = (
            f"The checkpoint takes {size.condition_width} values per spot, but the encoders give "
            f"{sum(widths)} ({shown}); name those it was trained with by --encoders."
        )
        raise SettingsError(msg)
    return [
        {"name": found.name, "revision": found.revision, "width": found.width}
        for _, found in known
        if found is not None
    ]


def _manifest(
    facts: ModelFacts,
    symbols: list[str],
    size: DenoiserConfig,
    encoders: list[dict[str, object]],
    checkpoint: Path,
    read: Checkpoint,
) -> Manifest:
    schedule = Schedule()
    which = "" if read.kind == "model" else f", its {read.weights} weights"
    card = {**facts.card(), "title": facts.title or facts.name}
    return Manifest.model_validate(
        {
            **card,
            "schema_version": 1,
            "units": UNITS,
            "panel": [{"symbol": symbol} for symbol in symbols],
            "panel_rule": facts.panel_rule,
            "encoders": encoders,
            "condition": {"side_um": facts.patch_um, "size_px": 224, "patch_mode": "paper"},
            "layout": facts.layout,
            "presets": PUBLISHED_PRESETS,
            "condition_width": size.condition_width,
            "target": "published",
            "regression": None,
            "denoiser": size,
            "calibrated": False,
            "diffusion_steps": schedule.steps,
            "beta_start": schedule.beta_start,
            "beta_end": schedule.beta_end,
            "training_slides": facts.training_slides,
            "held_out": facts.held_out,
            "recipe": (
                f"Converted from {checkpoint.name} (sha256 {read.sha256[:16]}…{which}) with "
                "stem zoo convert"
            ),
            "seed": 0,
            "created": datetime.now(UTC).date().isoformat(),
        }
    )


def _gene_table(symbols: list[str]) -> pd.DataFrame:
    """Make the table of a model that came without held-out figures: no figure, no calibration."""
    names = ["held_out_pcc", "held_out_pcc_low", "held_out_pcc_high", "held_out_rvd"]
    table = pd.DataFrame({"symbol": symbols, "ensembl": ""})
    for name in names:
        table[name] = np.nan
    table["held_out_folds"] = 0
    return table.set_index("symbol")
