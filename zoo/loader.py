"""Load models and encoders by name: the program's, those that were pulled, and a model's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stem_core.encoders.catalogue import EncoderFacts, encoder_facts
from stem_core.encoders.pair import joined_parts
from stem_core.errors import EncoderMissingError, HashError, ModelFileError
from stem_core.model.folder import read_model
from stem_core.model.manifest import Manifest, read_manifest
from stem_core.model.stem_model import StemModel
from zoo.registry import missing_encoders
from zoo.store import faulty_files, find_installed

if TYPE_CHECKING:
    from stem_core.encoders.embedding import Encoder
    from stem_core.encoders.imported_embeddings import EmbeddingSource
    from stem_core.training.recipe import Recipe

__all__ = ["ENCODERS_DIR", "find_encoder", "load_model", "recipe_encoder"]

ENCODERS_DIR = Path(__file__).parent / "encoders"


def load_model(
    folder: Path, encoder: Encoder | None = None, *, allow_other_encoder: bool = False
) -> StemModel:
    """Load a model folder.

    Parameters
    ----------
    folder
        Holds config.json, model.safetensors, genes.csv, for a calibrated model
        reference.safetensors and, for an encoder of its own, encoder.safetensors.
    encoder
        Encoder to use in place of those on this machine. Its name and the sha256 of its weights
        must be those in the manifest. Where the manifest has no sha256, the name alone is checked;
        an encoder of the model's own is checked by its weights.
    allow_other_encoder
        Accept an `encoder` of another name or other weights. It must still give as many values
        per patch, and the run record names it.

    Returns
    -------
    StemModel
        On the CPU, in float32.

    Raises
    ------
    ModelFileError
        A file is missing, damaged, or does not fit the manifest; or the encoder is not the one the
        model was trained with.
    EncoderMissingError
        The encoder is not on this machine.
    """
    manifest = read_manifest(folder / "config.json")
    name = ""
    if encoder is None:
        encoder = find_encoder([ref.name for ref in manifest.encoders], folder)
        _check_weights(encoder, manifest, folder, "install it again")
    elif allow_other_encoder:
        name = encoder.name
    else:
        _check_given_encoder(encoder, manifest, folder)
    return read_model(folder, encoder, name)


def _check_weights(encoder: Encoder, manifest: Manifest, folder: Path, remedy: str) -> None:
    """Require the weights of the manifest's encoders, where it has their sha256."""
    for ref, part in zip(manifest.encoders, joined_parts(encoder), strict=True):
        if ref.sha256 and part.sha256 != ref.sha256:
            weights = f"sha256 {part.sha256[:12]}…" if part.sha256 else "no sha256"
            msg = (
                f"The encoder {ref.name} is not the one model {folder.name} was trained "
                f"with ({weights}, expected {ref.sha256[:12]}…); {remedy}."
            )
            raise ModelFileError(msg)


def _check_given_encoder(encoder: Encoder, manifest: Manifest, folder: Path) -> None:
    """Require the encoders of the manifest, in its order, by name and by weights."""
    remedy = "give that encoder, or pass allow_other_encoder=True"
    expected = [ref.name for ref in manifest.encoders]
    parts = joined_parts(encoder)
    same = len(parts) == len(expected) and all(
        part.name == ref.name
        # A model's own encoder has any name; its weights identify it.
        or (encoder_facts(ref.name) is None and part.sha256 == ref.sha256 != "")
        for part, ref in zip(parts, manifest.encoders, strict=True)
    )
    if not same:
        msg = (
            f"The encoder {encoder.name} is not the one model {folder.name} was trained with "
            f"({'+'.join(expected)}); {remedy}."
        )
        raise ModelFileError(msg)
    _check_weights(encoder, manifest, folder, remedy)


def recipe_encoder(recipe: Recipe, data: Path) -> EmbeddingSource:
    """Load the encoders of a recipe, or the embeddings that it imports.

    Parameters
    ----------
    recipe
        Checked recipe.
    data
        Data folder.

    Raises
    ------
    SettingsError
        An encoder is not known.
    EncoderMissingError
        An encoder that has to be run is not on this machine.
    """
    from stem_core.training.section_store import imported_encoders

    return imported_encoders(recipe, data) or find_encoder(recipe.encoders)


def find_encoder(names: Sequence[str], folder: Path | None = None) -> Encoder:
    """Load the encoders of a model, in its order; several become one.

    Parameters
    ----------
    names
        As in the catalogue.
    folder
        Of the model, which may have an encoder of its own.

    Raises
    ------
    EncoderMissingError
        Weights, or the package they need, are not on this machine.
    ModelFileError
        Weights are damaged.
    """
    from stem_core.encoders.compact import load_compact_encoder
    from stem_core.encoders.pair import JoinedEncoder

    subject = "This" if folder is None else f"The model {folder.name}"
    if absent := missing_encoders(subject, [n for n in names if encoder_facts(n) is not None]):
        raise EncoderMissingError(absent)  # of all encoders at once
    own = None if folder is None else folder / "encoder.safetensors"
    found: list[Encoder] = []
    for name in names:
        facts = encoder_facts(name)
        if facts is not None and facts.repo:
            found.append(_load_pulled(facts))
            continue
        shared = ENCODERS_DIR / f"{name}.safetensors"
        file = own if own is not None and own.is_file() else shared
        if not file.is_file():
            msg = (
                f"{subject} needs the encoder {name}, which is not among the program's files; "
                "update the program or install it again."
            )
            raise EncoderMissingError(msg)
        found.append(load_compact_encoder(file))
    return found[0] if len(found) == 1 else JoinedEncoder(tuple(found))


def _load_pulled(facts: EncoderFacts) -> Encoder:
    from stem_core.encoders.foundation import load_published

    record = find_installed("encoder", facts.name)
    assert record is not None
    weights = record.path / record.files[0].path
    if faulty_files(record.path, record.files):
        msg = (
            f"The weights of {facts.title} are not what they were when they were pulled "
            f"({weights}); run stem zoo pull-encoder {facts.name} again."
        )
        raise HashError(msg)
    return load_published(
        facts, weights, sha256=record.published[0].sha256, revision=record.revision
    )
