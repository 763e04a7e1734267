"""Embeddings kept on disk, so that a slide is read and encoded once.

An entry is a safetensors file named after its key: slide, encoder and its weights, arithmetic, the
program's rules, patch, places. It carries its key and a checksum; one that does not fit them is
made again.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from stem_core.encoders.embedding import Encoder, embed_places
from stem_core.encoders.pair import JoinedEncoder, joined_parts
from stem_core.files import atomic_write
from stem_core.slides.content import slide_content
from stem_core.slides.patches import PatchSpec
from stem_core.slides.reading import Slide

__all__ = ["EmbeddingCache", "EmbeddingKey", "places_hash"]

log = logging.getLogger(__name__)

# Of reading a box of a slide, the views, resizing, normalising, the networks and their pooling:
# raised when any of them gives other values for the same patch, so that they are computed again.
RULES = 1


def places_hash(x_px: NDArray[np.float64], y_px: NDArray[np.float64]) -> str:
    """Return a sha256 of places on a slide, in their order: 64 hexadecimal digits."""
    places = np.stack([x_px, y_px]).astype("<f8")
    return hashlib.sha256(np.ascontiguousarray(places).tobytes()).hexdigest()


@dataclass(frozen=True)
class EmbeddingKey:
    """What embeddings depend on.

    Attributes
    ----------
    slide
        From `slide_content`.
    encoder, encoder_sha256
        Its name and the sha256 of its weights.
    mode, side, size_px
        Patches are `side` microns (`physical`) or level-0 pixels (`paper`) wide, read as `size_px`.
    places
        From `places_hash`.
    arithmetic
        Precision and kind of device.
    rules
        Number of the program's own rules.
    """

    slide: str
    encoder: str
    encoder_sha256: str
    mode: Literal["physical", "paper"]
    side: float
    size_px: int
    places: str
    arithmetic: str
    rules: int

    @property
    def text(self) -> str:
        """All of it as JSON."""
        return json.dumps(asdict(self), sort_keys=True, allow_nan=False)

    @property
    def digest(self) -> str:
        """Of the text, 64 hexadecimal digits: the name of the entry."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True)
class EmbeddingCache:
    """A folder of embeddings; it may be shared by processes, and deleted at any time."""

    folder: Path

    def get(self, key: EmbeddingKey) -> NDArray[np.float32] | None:
        """Return an entry, (N,width); None where there is none or it is damaged."""
        path = self.folder / f"{key.digest}.safetensors"
        try:
            with safe_open(path, framework="np") as file:
                kept = file.metadata() or {}
                values: NDArray[np.float32] = file.get_tensor("embeddings")
            if kept.get("key") == key.text and kept.get("sha256") == _checksum(values):
                return values
            reason = "it is not what was written"
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError) as error:
            reason = str(error)
        log.warning("The kept embeddings %s are damaged (%s); made again.", path, reason)
        return None

    def put(self, key: EmbeddingKey, values: NDArray[np.float32]) -> None:
        """Write an entry aside, then in place.

        Raises
        ------
        OutputError
            The folder cannot be written.
        """
        path = self.folder / f"{key.digest}.safetensors"
        values = np.ascontiguousarray(values, np.float32)
        advice = "Free space there, or choose another folder (for training by --work)."
        described = {"key": key.text, "sha256": _checksum(values)}
        with atomic_write(path, advice=advice, parents=True) as temporary:
            save_file({"embeddings": values}, temporary, metadata=described)

    def embed(
        self,
        slide: Slide,
        x_px: NDArray[np.float64],
        y_px: NDArray[np.float64],
        encoder: Encoder,
        patch: PatchSpec,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.float32]:
        """Embed the patches around places, or take what was kept; arguments as `embed_places`.

        Encoders that are joined are kept each for itself; those that lack are run in one go, so
        that each patch is read once for all of them. `progress` gets 0 places before any is
        embedded, and never where all were kept.

        Returns
        -------
        float32 array, shape (N, width)
        """
        parts = joined_parts(encoder)
        keys = [_key(slide, x_px, y_px, part, patch) for part in parts]
        found = {}
        for part, key in zip(parts, keys, strict=True):
            kept = self.get(key)
            if kept is not None and kept.shape == (len(x_px), part.width):
                found[key] = kept
        lacking = {k: part for k, part in zip(keys, parts, strict=True) if k not in found}
        if lacking:
            if progress is not None:
                progress(0, len(x_px))
            joined = JoinedEncoder(tuple(lacking.values()))
            made = embed_places(slide, x_px, y_px, joined, patch, progress=progress)
            ends = np.cumsum([part.width for part in lacking.values()])
            for key, values in zip(lacking, np.split(made, ends[:-1], 1), strict=True):
                self.put(key, values)
                found[key] = values
        return np.concatenate([found[key] for key in keys], 1)


def _key(
    slide: Slide,
    x_px: NDArray[np.float64],
    y_px: NDArray[np.float64],
    encoder: Encoder,
    patch: PatchSpec,
) -> EmbeddingKey:
    return EmbeddingKey(
        slide=slide_content(slide),
        encoder=encoder.name,
        encoder_sha256=encoder.sha256,
        mode="physical" if patch.side_px is None else "paper",
        # In pixels of the slide: microns are another patch when it is given another mpp.
        side=float(patch.level0_px(slide)),
        size_px=patch.size_px,
        places=places_hash(x_px, y_px),
        arithmetic=encoder.arithmetic,
        rules=RULES,
    )


def _checksum(values: NDArray[np.float32]) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
