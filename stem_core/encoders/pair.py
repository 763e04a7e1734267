"""Several encoders as one: their embeddings side by side, as in Stem's UNI ⊕ CONCH."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from stem_core.encoders.embedding import Encoder, encoder_repr
from stem_core.encoders.preparation import Joined, Prepared
from stem_core.errors import SettingsError

__all__ = ["JoinedEncoder", "joined_parts"]


@dataclass(frozen=True)
class JoinedEncoder:
    """Encoders in an order; the embedding is theirs, concatenated in it.

    Attributes
    ----------
    encoders
        At least one.
    """

    encoders: tuple[Encoder, ...]

    __repr__ = encoder_repr

    def __post_init__(self) -> None:
        if not self.encoders:
            msg = "A joined encoder needs at least one encoder; name it."
            raise SettingsError(msg)

    @property
    def name(self) -> str:
        """Their names with a plus between them."""
        return "+".join(encoder.name for encoder in self.encoders)

    @property
    def width(self) -> int:
        """Values per patch of all together."""
        return sum(encoder.width for encoder in self.encoders)

    @property
    def sha256(self) -> str:
        """Of their sha256s, written one after the other."""
        joined = "".join(encoder.sha256 for encoder in self.encoders)
        return hashlib.sha256(joined.encode()).hexdigest()

    @property
    def arithmetic(self) -> str:
        """Of each, with a plus between."""
        return "+".join(encoder.arithmetic for encoder in self.encoders)

    @property
    def preparation(self) -> Joined:
        """Each encoder's own."""
        return Joined(tuple(encoder.preparation for encoder in self.encoders))

    def encode(self, patches: NDArray[np.uint8], *, batch: int = 64) -> NDArray[np.float32]:
        """Embed patches (N,3,P,P): float32, shape (N, width)."""
        parts = [encoder.encode(patches, batch=batch) for encoder in self.encoders]
        return np.concatenate(parts, 1)

    def encode_prepared(self, prepared: Prepared) -> NDArray[np.float32]:
        """Embed what each one's preparation made of the same patches."""
        pairs = zip(self.encoders, prepared, strict=True)
        return np.concatenate([encoder.encode_prepared(own) for encoder, own in pairs], 1)

    def to(self, device: torch.device) -> None:
        """Move all weights."""
        for encoder in self.encoders:
            encoder.to(device)


def joined_parts(encoder: Encoder) -> tuple[Encoder, ...]:
    """Return the encoders whose embeddings lie side by side in this one's, in their order."""
    if not isinstance(encoder, JoinedEncoder):
        return (encoder,)
    return tuple(part for joined in encoder.encoders for part in joined_parts(joined))
