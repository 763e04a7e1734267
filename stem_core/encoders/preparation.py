"""What a patch goes through before a network sees it: resampled, cropped, normalised.

Resampling is Pillow's on 8-bit pixels, as in the pipelines the encoders were published with; it
decides the embedding's last digits, so no other library's filter of the same name will do.

A `Preparation` is all of it that needs no network, so threads do it ahead; normalising is left to
the network's device, where it costs next to nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from stem_core.encoders.catalogue import InputRule

__all__ = [
    "AsRead",
    "Joined",
    "Preparation",
    "Prepared",
    "Resized",
    "normalise",
    "resize_patch",
]

# Patches as an encoder takes them, uint8 (N,3,P,P); of a joined encoder, one for each of its own.
Prepared = NDArray[np.uint8] | tuple[Any, ...]

_FILTERS = {
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
}


class Preparation(Protocol):
    """What is done to patches (N,3,P,P) before the network; safe to call from threads."""

    def __call__(self, patches: NDArray[np.uint8]) -> Prepared:
        """Prepare patches; each by itself, so any chunking gives the same."""
        ...


@dataclass(frozen=True)
class AsRead:
    """Nothing is done."""

    def __call__(self, patches: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the patches."""
        return patches


@dataclass(frozen=True)
class Resized:
    """Patches are brought to the network's size.

    Attributes
    ----------
    rule
        Of the encoder.
    """

    rule: InputRule

    def __call__(self, patches: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(N,3,P,P) -> (N,3,rule.px,rule.px)."""
        side = patches.shape[-1]
        if not self.rule.crop and all(step.px == side for step in self.rule.resize):
            return patches
        resized = np.empty((len(patches), 3, self.rule.px, self.rule.px), np.uint8)
        for index, patch in enumerate(patches):
            resized[index] = resize_patch(patch, self.rule)
        return resized


@dataclass(frozen=True)
class Joined:
    """Several preparations of the same patches.

    Attributes
    ----------
    parts
        In the order of the encoders.
    """

    parts: tuple[Preparation, ...]

    def __call__(self, patches: NDArray[np.uint8]) -> tuple[Prepared, ...]:
        """Prepare the patches in each of the ways."""
        return tuple(part(patches) for part in self.parts)


def resize_patch(patch: NDArray[np.uint8], rule: InputRule) -> NDArray[np.uint8]:
    """Bring a patch to the network's size.

    Parameters
    ----------
    patch
        uint8, shape (3,P,P).
    rule
        Of the encoder.

    Returns
    -------
    uint8, shape (3, rule.px, rule.px)
    """
    image = Image.fromarray(np.ascontiguousarray(patch.transpose(1, 2, 0)))
    for step in rule.resize:
        if image.size != (step.px, step.px):
            image = image.resize((step.px, step.px), _FILTERS[step.filter])
    if rule.crop:
        first = (image.width - rule.px) // 2
        image = image.crop((first, first, first + rule.px, first + rule.px))
    return np.asarray(image).transpose(2, 0, 1)


def normalise(patches: NDArray[np.uint8], rule: InputRule, device: torch.device) -> Tensor:
    """Scale pixels (N,3,P,P) to [0, 1], subtract the mean and divide by the deviation; float32."""
    mean, std = (torch.tensor(v, device=device)[:, None, None] for v in (rule.mean, rule.std))
    return (torch.from_numpy(np.ascontiguousarray(patches)).to(device).float() / 255 - mean) / std
