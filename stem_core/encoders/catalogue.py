"""The encoders there are, as their makers publish them: where, how wide, under which terms.

Facts only, so that asking costs no import; nothing here loads weights. A revision that cannot be
known here is `unpinned`: the first pull records what it found.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CATALOGUE", "EncoderFacts", "encoder_facts"]

_MAHMOOD = "CC BY-NC-ND 4.0, no commercial use, no redistribution, personal registration"


@dataclass(frozen=True)
class EncoderFacts:
    """An encoder as published.

    Attributes
    ----------
    name, title
        By which manifests and people refer to it.
    repo, file
        On the Hub; empty for the encoder that comes with the program.
    width
        Values per patch.
    licence
        Of the weights, in words.
    gated
        Whether the Hub asks for the owner's consent before it gives the weights.
    revision
        40 hexadecimal digits, or `unpinned`.
    """

    name: str
    title: str
    repo: str
    file: str
    width: int
    licence: str
    gated: bool
    revision: str = "unpinned"


_ALL = (
    EncoderFacts("compact-he", "Compact H&E encoder", "", "", 141, "MIT", gated=False),
    EncoderFacts("uni", "UNI", "MahmoodLab/UNI", "pytorch_model.bin", 1024, _MAHMOOD, gated=True),
    EncoderFacts(
        "conch", "CONCH", "MahmoodLab/conch", "pytorch_model.bin", 512, _MAHMOOD, gated=True
    ),
    EncoderFacts(
        "uni2-h", "UNI2-h", "MahmoodLab/UNI2-h", "pytorch_model.bin", 1536, _MAHMOOD, gated=True
    ),
    EncoderFacts(
        "h-optimus-0", "H-optimus-0", "bioptimus/H-optimus-0", "model.safetensors", 1536,
        "Apache-2.0", gated=False,
    ),
    EncoderFacts(
        "virchow2", "Virchow2", "paige-ai/Virchow2", "model.safetensors", 2560,
        "CC BY-NC-ND 4.0, no commercial use", gated=True,
    ),
    EncoderFacts(
        "prov-gigapath", "Prov-GigaPath", "prov-gigapath/prov-gigapath", "pytorch_model.bin", 1536,
        "tagged Apache-2.0, but its form says research only", gated=True,
    ),
    EncoderFacts(
        "midnight-12k", "Midnight-12k", "kaiko-ai/midnight", "model.safetensors", 3072,
        "MIT", gated=False,
    ),
    EncoderFacts(
        "phikon-v2", "Phikon-v2", "owkin/phikon-v2", "model.safetensors", 1024,
        "Owkin non-commercial licence", gated=False,
    ),
)  # fmt: skip
CATALOGUE: dict[str, EncoderFacts] = {facts.name: facts for facts in _ALL}


def encoder_facts(name: str) -> EncoderFacts | None:
    """Return what is known of an encoder; None for one that is not in the catalogue."""
    return CATALOGUE.get(name)
