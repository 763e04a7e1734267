"""The compact H&E encoder: small, trained by us, needs no download.

Half of the embedding is learned without labels (a convolutional trunk, trained so that two views of
one place, differing in rotation, flip, crop and stain, agree; VICReg, Bardes et al. 2022), half is
fixed statistics. For these, optical densities are unmixed into haematoxylin and eosin (Ruifrok &
Johnston 2001); of the stain and colour planes come means, standard deviations and quantiles, of the
stain planes band energies at octave scales, gradients and correlations. Every statistic is over the
whole patch and every filter is isotropic or summed over both axes, so quarter turns and flips of
the patch leave the result unchanged.
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

from stem_core.encoders.embedding import encoder_repr
from stem_core.encoders.preparation import AsRead, Prepared
from stem_core.errors import ModelFileError

__all__ = [
    "FEATURE_COUNT",
    "CompactEncoder",
    "CompactTrunk",
    "load_compact_encoder",
    "patch_statistics",
    "save_compact_encoder",
]

# Inverse of the normalised stain matrix (haematoxylin, eosin, residual) of Ruifrok & Johnston.
_STAINS = torch.tensor([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105], [0.268, 0.570, 0.776]])
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_BANDS = 4


def _planes(rgb: Tensor) -> Tensor:
    """(N,3,P,P) in [0, 1] -> (N,6,P,P).

    The planes: haematoxylin, eosin, residual, luminance, red-green, saturation.
    """
    density = -torch.log10(rgb.clamp_min(1 / 255))
    unmix = torch.linalg.inv(F.normalize(_STAINS, dim=1)).to(rgb)
    stains = torch.einsum("nchw,cs->nshw", density, unmix)
    luminance = rgb.mean(1, keepdim=True)
    opponent = rgb[:, :1] - rgb[:, 1:2]
    saturation = rgb.amax(1, keepdim=True) - rgb.amin(1, keepdim=True)
    return torch.cat([stains, luminance, opponent, saturation], 1)


def patch_statistics(rgb: Tensor) -> Tensor:
    """Statistics of patches.

    Parameters
    ----------
    rgb
        (N,3,P,P) float in [0, 1], P at least 16 pixels.

    Returns
    -------
    Tensor
        (N, FEATURE_COUNT) float32, unscaled.
    """
    planes = _planes(rgb.float())
    flat = planes.flatten(2)
    mean, std = flat.mean(2), flat.std(2)
    # On a thinned grid: quantiles of 1,024 pixels are stable and sorting all of them is slow.
    side = rgb.shape[-1]
    thin = F.avg_pool2d(planes, side // 32).flatten(2) if side >= 64 else flat
    quantiles = torch.quantile(thin, torch.tensor(_QUANTILES, device=rgb.device), dim=2).movedim(
        0, 2
    )

    bands, current = [], planes[:, [0, 1, 3]]
    for _ in range(_BANDS):
        smaller = F.avg_pool2d(current, 2)
        coarse = F.interpolate(smaller, size=current.shape[-2:], mode="nearest")
        detail = (current - coarse).flatten(2)
        bands += [detail.abs().mean(2), detail.pow(2).mean(2).clamp_min(1e-12).sqrt()]
        current = smaller
    dx = (planes[:, :2, :, 1:] - planes[:, :2, :, :-1]).abs().flatten(2)
    dy = (planes[:, :2, 1:] - planes[:, :2, :-1]).abs().flatten(2)
    gradient = 0.5 * (dx.mean(2) + dy.mean(2))
    centred = flat[:, :3] - mean[:, :3, None]
    scaled = centred / std[:, :3, None].clamp_min(1e-4)
    skew = scaled.pow(3).mean(2).clamp(-5, 5)
    pairs = torch.stack(
        [(scaled[:, 0] * scaled[:, 1]).mean(1), (scaled[:, 0] * scaled[:, 2]).mean(1)], 1
    )
    tissue = torch.sigmoid((planes[:, 5] - 0.08) * 60).flatten(1).mean(1, keepdim=True)
    nuclei = torch.sigmoid(
        (planes[:, 0, None] - torch.tensor([0.3, 0.5, 0.7], device=rgb.device)[:, None, None]) * 20
    )
    return torch.cat(
        [
            mean,
            std,
            quantiles.flatten(1),
            *bands,
            gradient,
            skew,
            pairs,
            tissue,
            nuclei.flatten(2).mean(2),
        ],
        1,
    )


# 6 means, 6 deviations, 30 quantiles, 24 band energies, 2 gradients, 3 skews, 2 correlations,
# 1 tissue, 3 nuclear
FEATURE_COUNT = 6 + 6 + 6 * len(_QUANTILES) + _BANDS * 6 + 2 + 3 + 2 + 1 + 3


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
