"""EfficientNet-Lite0 as a reader of texture: mean and deviation of every stage's feature maps.

The network is that of Tan & Le (2019) in its Lite form (no squeeze-and-excitation, ReLU6), trained
on ImageNet by its authors. What it recognises in the end says little of tissue; what its stages
respond to on the way, at scales from 2 to 32 pixels, says much (Gatys et al. 2015 describe textures
by such statistics). So nothing is read off the last layer: the embedding is, stage after stage, the
mean and the standard deviation over the patch of each channel. Batch normalisation is folded into
the convolutions when the weights are converted.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from stem_core.encoders.embedding import encoder_repr
from stem_core.encoders.preparation import AsRead, Prepared
from stem_core.errors import ModelFileError

__all__ = ["STAGES", "EfficientNetEncoder", "EfficientNetLite0", "load_efficientnet_encoder"]

# Kernel, stride, expansion, channels and number of the blocks of each stage (Tan & Le 2019, Lite0).
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
_STEM = 32
_OFFSET, _SCALE = 127.0, 128.0  # of the input, as its makers trained it


class _Conv(nn.Module):
    """A convolution with TensorFlow's `SAME` padding: of an odd pad, more at the far side."""

    def __init__(
        self, before: int, after: int, kernel: int, stride: int = 1, *, groups: int = 1
    ) -> None:
        super().__init__()
        near = kernel // 2 if stride == 1 else (kernel - 2) // 2
        far = kernel // 2 if stride == 1 else kernel - 2 - near
        self.padding = (near, far, near, far)
        inside = near if near == far else 0
        self.conv = nn.Conv2d(before, after, kernel, stride, inside, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        near, far = self.padding[:2]
        out: Tensor = self.conv(x if near == far else F.pad(x, self.padding))
        return out


class _Block(nn.Module):
    """An inverted residual: expand, filter each channel, project (Sandler et al. 2018)."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = before * expansion
        self.expand = _Conv(before, inner, 1) if expansion > 1 else None
        self.filter = _Conv(inner, inner, kernel, stride, groups=inner)
        self.project = _Conv(inner, after, 1)
        self.around = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        inner = x if self.expand is None else F.relu6(self.expand(x))
        out: Tensor = self.project(F.relu6(self.filter(inner)))
        return x + out if self.around else out


class EfficientNetLite0(nn.Module):
    """(N,3,P,P), scaled, -> (N, 1568), P even at every stage (a multiple of 32)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _Conv(3, _STEM, 3, 2)
        stages, before = [], _STEM
        for kernel, stride, expansion, after, blocks in STAGES:
            parts = []
            for index in range(blocks):
                parts.append(_Block(before, after, kernel, stride if index == 0 else 1, expansion))
                before = after
            stages.append(nn.Sequential(*parts))
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> Tensor:
        """Statistics of all stages; moments are taken in fp32 whatever the weights are."""
        found = []
        x = F.relu6(self.stem(x))
        for stage in self.stages:
            x = stage(x)
            maps = x.flatten(2).float()
            found += [maps.mean(2), maps.std(2, correction=0)]
        return torch.cat(found, 1)
