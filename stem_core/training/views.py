"""Views of a patch that training chooses from: turned, mirrored, and stained a little otherwise.

An encoder that is not trained gives the same embedding each time, so every view is embedded once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from stem_core.encoders.embedding import Encoder
from stem_core.encoders.preparation import Preparation, Prepared

__all__ = ["PatchView", "ViewedEncoder", "dihedral", "restain"]

_GAIN, _SHIFT = 0.2, 0.02  # largest change of a stain's strength, and of its background
_DIHEDRAL = 8


@dataclass(frozen=True)
class PatchView:
    """Stain and turn patches, then prepare them.

    Attributes
    ----------
    stain, turn
        Which; 0 is as it is.
    seed
        Of the stains.
    preparation
        Of the encoder.
    """

    stain: int
    turn: int
    seed: int
    preparation: Preparation

    def __call__(self, patches: NDArray[np.uint8]) -> Prepared:
        """Prepare a view of patches (N,3,P,P)."""
        if self.stain:
            patches = restain(patches, np.random.default_rng((self.seed, self.stain)))
        return self.preparation(np.ascontiguousarray(dihedral(patches, self.turn)))


@dataclass(frozen=True)
class ViewedEncoder:
    """An encoder that sees one view of each patch.

    View 0 is the patch as it is. The dihedral ones come first; the stain of view v is the
    v // 8-th (without dihedral views, the v-th).

    Attributes
    ----------
    encoder
        That embeds.
    view
        Which view.
    turned
        Whether there are dihedral views.
    seed
        Of the stains.
    """

    encoder: Encoder
    view: int
    turned: bool
    seed: int = 0

    @property
    def name(self) -> str:
        """Of the encoder, and which view it sees: all that its embeddings depend on."""
        stain, turn = self._stain_and_turn
        turned = f", turn {turn}" if turn else ""
        stained = f", stain {stain} of seed {self.seed}" if stain else ""
        return f"{self.encoder.name}{turned}{stained}"

    @property
    def _stain_and_turn(self) -> tuple[int, int]:
        return divmod(self.view, _DIHEDRAL) if self.turned else (self.view, 0)

    @property
    def width(self) -> int:
        """Values per patch."""
        return self.encoder.width

    @property
    def sha256(self) -> str:
        """Of the encoder's weights."""
        return self.encoder.sha256

    @property
    def arithmetic(self) -> str:
        """Of the encoder."""
        return self.encoder.arithmetic

    @property
    def preparation(self) -> PatchView:
        """The view, then what the encoder does."""
        return PatchView(*self._stain_and_turn, self.seed, self.encoder.preparation)

    def encode(self, patches: NDArray[np.uint8], *, batch: int = 64) -> NDArray[np.float32]:
        """Embed the view of each patch, (N,3,P,P) uint8 -> (N,width)."""
        starts = range(0, max(len(patches), 1), batch)
        parts = [self.preparation(patches[start : start + batch]) for start in starts]
        return np.concatenate([self.encode_prepared(part) for part in parts])

    def encode_prepared(self, prepared: Prepared) -> NDArray[np.float32]:
        """Embed views that were made already."""
        return self.encoder.encode_prepared(prepared)

    def to(self, device: torch.device) -> None:
        """Move the weights."""
        self.encoder.to(device)


def dihedral(patches: NDArray[np.uint8], turn: int) -> NDArray[np.uint8]:
    """Turn by quarter turns (0 to 3), after mirroring (4 to 7); (N,3,P,P)."""
    seen = patches[..., ::-1] if turn >= 4 else patches
    return np.rot90(seen, turn % 4, (2, 3))


def restain(patches: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Change how strong haematoxylin, eosin and the rest are, by up to a fifth.

    In optical density, unmixed by the stain vectors of Ruifrok & Johnston 2001; the same change for
    all patches.
    """
    from skimage.color import hed_from_rgb, rgb_from_hed

    gain = 1 + random.uniform(-_GAIN, _GAIN, 3)
    shift = random.uniform(-_SHIFT, _SHIFT, 3)
    mix = (hed_from_rgb @ np.diag(gain) @ rgb_from_hed).astype(np.float32)
    offset = (shift @ rgb_from_hed).astype(np.float32)
    out = np.empty_like(patches)
    for index, patch in enumerate(patches):  # one at a time: all at once would take much memory
        density = -np.log(np.maximum(patch, 1).astype(np.float32) / 255)
        changed = np.einsum("chw,cd->dhw", density, mix) + offset[:, None, None]
        out[index] = np.clip(255 * np.exp(-changed), 0, 255).round().astype(np.uint8)
    return out
