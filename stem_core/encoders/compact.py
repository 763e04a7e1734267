"""The compact H&E encoder: small, trained by us, needs no download.

Half of the embedding is learned without labels (a convolutional trunk, trained so that two views of
one place, differing in rotation, flip, crop and stain, agree; VICReg, Bardes et al. 2022), half is
the fixed statistics of `stem_core.encoders.filterbank`.
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
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from stem_core.encoders.condition import encoder_repr
from stem_core.encoders.filterbank import FEATURE_COUNT, patch_statistics
from stem_core.encoders.preparation import AsRead, Prepared
from stem_core.errors import ModelFileError

__all__ = ["CompactEncoder", "CompactTrunk", "load_compact_encoder", "save_compact_encoder"]

TRUNK_PX = 64
LEARNED_WIDTH = 64


class _Block(nn.Module):
    """Two 3 × 3 convolutions and the way around them (He et al. 2016)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        update: Tensor = self.second(F.relu(self.norm(self.first(x))))
        return x + update


class CompactTrunk(nn.Module):
    """(N,3,64,64) in [0, 1] -> (N,64), unscaled."""

    def __init__(self, widths: tuple[int, int, int] = (32, 64, 128)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for index, width in enumerate(widths):
            stride = 4 if index == 0 else 2
            layers += [nn.Conv2d(before, width, stride, stride), nn.BatchNorm2d(width)]
            layers += [_Block(width) for _ in range(1 + index)]
            before = width
        self.stages = nn.Sequential(*layers)
        self.head = nn.Linear(2 * before, LEARNED_WIDTH)

    def forward(self, rgb: Tensor) -> Tensor:
        """(N,3,64,64) -> (N,64)."""
        density = -torch.log(rgb.clamp_min(1 / 255))
        maps = self.stages(density)  # (N,128,4,4)
        pooled = torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1)
        out: Tensor = self.head(pooled)
        return out


@dataclass(frozen=True)
class CompactEncoder:
    """Patches to embeddings.

    Attributes
    ----------
    trunk
        The learned half.
    sha256
        Of the weights file, "" before it is saved.
    """

    trunk: CompactTrunk
    sha256: str = ""
    name: str = "compact-he"
    width: int = LEARNED_WIDTH + FEATURE_COUNT
    preparation: ClassVar = AsRead()

    __repr__ = encoder_repr

    @property
    def arithmetic(self) -> str:
        """Precision and kind of device."""
        return f"fp32 {next(self.trunk.parameters()).device.type}"

    @torch.inference_mode()
    def encode(self, patches: NDArray[np.uint8], *, batch: int = 64) -> NDArray[np.float32]:
        """Embed patches.

        The learned half is averaged over the four quarter turns and their mirror images, so the
        embedding of a turned or mirrored patch is the same up to rounding.

        Parameters
        ----------
        patches
            uint8, shape (N,3,P,P), P at least 64 pixels.
        batch
            Patches at a time.

        Returns
        -------
        float32 array, shape (N, width)
        """
        parts = [np.zeros((0, self.width), np.float32)]
        device = next(self.trunk.parameters()).device
        for start in range(0, len(patches), batch):
            rgb = torch.from_numpy(patches[start : start + batch]).to(device).float() / 255
            statistics = patch_statistics(rgb)
            small = F.adaptive_avg_pool2d(rgb, TRUNK_PX) if rgb.shape[-1] > TRUNK_PX else rgb
            views = torch.cat(
                [torch.rot90(v, k, (2, 3)) for v in (small, small.flip(3)) for k in range(4)]
            )
            learned = self.trunk(views).unflatten(0, (8, len(rgb))).mean(0)
            parts.append(torch.cat([statistics, learned], 1).cpu().numpy())
        return np.concatenate(parts)

    def encode_prepared(self, prepared: Prepared) -> NDArray[np.float32]:
        """Embed patches as they were read."""
        assert isinstance(prepared, np.ndarray)
        return self.encode(prepared)

    def to(self, device: torch.device) -> None:
        """Move the weights."""
        self.trunk.to(device)


def save_compact_encoder(trunk: CompactTrunk, path: Path) -> CompactEncoder:
    """Write the weights as safetensors (half precision) and return the encoder they make."""
    save_file({k: v.detach().half().contiguous() for k, v in trunk.state_dict().items()}, path)
    return load_compact_encoder(path)


def load_compact_encoder(path: Path) -> CompactEncoder:
    """Load an encoder.

    Raises
    ------
    ModelFileError
        The file is missing or damaged, or its tensors do not fit.
    """
    trunk = CompactTrunk()
    try:
        state = {name: value.float() for name, value in load_file(path).items()}
        trunk.load_state_dict(state, strict=True)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        msg = f"The encoder {path.name} cannot be loaded ({reason}); install it again."
        raise ModelFileError(msg) from error
    return CompactEncoder(trunk.eval(), sha256=digest)
