"""The published encoders: patches to embeddings, with a safetensors file as it was published."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from stem_core.encoders.catalogue import EncoderFacts
from stem_core.encoders.embedding import encoder_repr
from stem_core.encoders.preparation import Prepared, Resized, normalise
from stem_core.encoders.weights import load_network
from stem_core.errors import SettingsError
from stem_core.files import file_sha256

__all__ = ["FoundationEncoder", "Precision", "load_published"]

Precision = Literal["auto", "fp32", "bf16", "fp16"]
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class FoundationEncoder:
    """A published encoder with its weights.

    Attributes
    ----------
    facts
        Of the catalogue.
    network
        (N,3,P,P) normalised -> (N,width).
    sha256
        Of the published weights file.
    precision
        Of the matrix products; `auto` is the published one on a GPU and fp32 on a CPU.
    revision
        Revision of the repository that the weights came from, where it is known.
    """

    facts: EncoderFacts
    network: nn.Module
    sha256: str
    precision: Precision = "auto"
    revision: str = ""

    __repr__ = encoder_repr

    @property
    def name(self) -> str:
        """By which manifests refer to it."""
        return self.facts.name

    @property
    def width(self) -> int:
        """Values per patch."""
        return self.facts.width

    @property
    def arithmetic(self) -> str:
        """Precision of the matrix products and kind of device.

        Raises
        ------
        SettingsError
            fp16 was asked for on a CPU.
        """
        device = next(self.network.parameters()).device.type
        precision = self.precision
        if precision == "auto":
            precision = "fp32" if device == "cpu" else self.facts.precision
        if precision == "fp16" and device == "cpu":
            msg = f"{self.facts.title} in fp16 needs a GPU; take fp32 or bf16 on this CPU."
            raise SettingsError(msg)
        return f"{precision} {device}"

    @property
    def preparation(self) -> Resized:
        """Patches are resized as the encoder was published with."""
        assert self.facts.input is not None
        return Resized(self.facts.input)

    def encode(self, patches: NDArray[np.uint8], *, batch: int = 64) -> NDArray[np.float32]:
        """Embed patches.

        Parameters
        ----------
        patches
            uint8, shape (N,3,P,P), of any P: they are resized as the encoder was published with.
        batch
            Patches at a time.

        Returns
        -------
        float32 array, shape (N, width)

        Raises
        ------
        SettingsError
            fp16 was asked for on a CPU.
        """
        parts = [np.zeros((0, self.width), np.float32)]
        for start in range(0, len(patches), batch):
            prepared = self.preparation(patches[start : start + batch])
            parts.append(self.encode_prepared(prepared))
        return np.concatenate(parts)

    @torch.inference_mode()
    def encode_prepared(self, prepared: Prepared) -> NDArray[np.float32]:
        """Embed resized patches, uint8 (N,3,px,px), all at once; errors as `encode`."""
        assert isinstance(prepared, np.ndarray)
        assert self.facts.input is not None
        device = next(self.network.parameters()).device
        dtype = _DTYPES.get(self.arithmetic.split()[0])
        if len(prepared) == 0:
            return np.zeros((0, self.width), np.float32)
        x = normalise(prepared, self.facts.input, device)
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            embedded = self.network(x)
        found: NDArray[np.float32] = embedded.float().cpu().numpy()
        return found

    def to(self, device: torch.device) -> None:
        """Move the weights."""
        self.network.to(device)


def load_published(
    facts: EncoderFacts,
    weights: Path,
    *,
    precision: Precision = "auto",
    sha256: str | None = None,
    revision: str = "",
) -> FoundationEncoder:
    """Load a published encoder.

    Parameters
    ----------
    facts
        Encoder of the catalogue.
    weights
        Safetensors file with the published names.
    precision
        Precision of the matrix products; `auto` is the published one on a GPU and fp32 on a CPU.
    sha256
        Hash of the published file, where `weights` was converted from it; else that of `weights`.
    revision
        Revision of the repository that the weights came from.

    Raises
    ------
    ModelFileError
        The file is missing, damaged, or not the published network.
    EncoderMissingError
        timm is not installed.
    """
    network = load_network(facts, weights)
    if sha256 is None:
        sha256 = file_sha256(weights)
    return FoundationEncoder(facts, network, sha256, precision, revision)
