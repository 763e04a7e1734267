"""The weights of a model's encoders: its own, the program's, or those that were installed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stem_core.encoders.catalogue import EncoderFacts, encoder_facts
from stem_core.errors import EncoderMissingError, HashError
from stem_core.files import file_sha256
from zoo.encoder_records import installed_encoder, missing_words

if TYPE_CHECKING:
    from stem_core.encoders.condition import Encoder

__all__ = ["ENCODERS_DIR", "find_encoder"]

ENCODERS_DIR = Path(__file__).parent / "encoders"


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
    if absent := missing_words(subject, [n for n in names if encoder_facts(n) is not None]):
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

    record = installed_encoder(facts.name)
    assert record is not None
    weights = Path(record.weights)
    if file_sha256(weights) != record.weights_sha256:
        msg = (
            f"The weights of {facts.title} are not what they were when they were pulled "
            f"({weights}); run stem zoo pull-encoder {facts.name} again."
        )
        raise HashError(msg)
    return load_published(facts, weights, sha256=record.source.sha256)
