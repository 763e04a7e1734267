"""What a patch goes through before a network sees it: resampled, cropped, normalised.

Resampling is Pillow's on 8-bit pixels, as in the pipelines the encoders were published with; it
decides the embedding's last digits, so no other library's filter of the same name will do.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from stem_core.encoders.catalogue import InputRule

__all__ = ["is_resized", "normalise", "resize_patch"]

_FILTERS = {
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
}


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


def is_resized(side_px: int, rule: InputRule) -> bool:
    """Tell whether patches of this side go through any resampling or cropping."""
    return rule.crop or any(step.px != side_px for step in rule.resize)


def normalise(patches: NDArray[np.uint8], rule: InputRule, device: torch.device) -> Tensor:
    """Scale pixels (N,3,P,P) to [0, 1], subtract the mean and divide by the deviation; float32."""
    mean, std = (torch.tensor(v, device=device)[:, None, None] for v in (rule.mean, rule.std))
    return (torch.from_numpy(np.ascontiguousarray(patches)).to(device).float() / 255 - mean) / std
