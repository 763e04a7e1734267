"""Train the trunk of the compact encoder on unlabelled tissue (VICReg, Bardes et al. 2022).

No expression is read here, so one encoder serves every leave-one-section-out fold.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from stem_core.encoders.compact import LEARNED_WIDTH, TRUNK_PX, CompactTrunk
from stem_core.slides.reading import open_slide
from stem_core.slides.tissue import find_tissue
from stem_core.training.random_state import random_state_kept

__all__ = ["EncoderTraining", "train_trunk"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EncoderTraining:
    """Arguments of `train_trunk`.

    Attributes
    ----------
    side_um
        Side of a training patch in microns; it becomes 64 pixels.
    steps, batch, learning_rate
        Of AdamW with a one-cycle schedule.
    shift
        Largest distance between the two views of a place, as a share of the side.
    seed
        Of crops, augmentation and initial weights.
    """

    side_um: float = 154.0
    steps: int = 3000
    batch: int = 128
    learning_rate: float = 1e-3
    shift: float = 0.25
    seed: int = 0


@dataclass(frozen=True)
class _Section:
    image: NDArray[np.uint8]  # (h,w,3) at side_um / 64 microns per pixel
    rows: NDArray[np.int64]  # places on tissue
    columns: NDArray[np.int64]


def _read_section(path: Path, um_px: float) -> _Section:
    with open_slide(path) as slide:
        scale = slide.require_mpp() / um_px
        h, w = round(slide.height_px * scale), round(slide.width_px * scale)
        image = np.empty((h, w, 3), np.uint8)
        for top in range(0, h, 512):
            rows = min(512, h - top)
            image[top : top + rows] = slide.read_box(
                0, top / scale, slide.width_px, rows / scale, w, rows
            )
        tissue = find_tissue(slide)
        rows_, columns = np.nonzero(tissue.mask)
        to_px = tissue.scale_px * scale
    rows_, columns = (rows_ * to_px).astype(np.int64), (columns * to_px).astype(np.int64)
    edge = TRUNK_PX
    inside = (rows_ > edge) & (rows_ < h - edge) & (columns > edge) & (columns < w - edge)
    return _Section(image, rows_[inside], columns[inside])


def _crops(
    sections: Sequence[_Section], n: int, shift: float, random: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Two crops (n,3,96,96) of n places, the second up to `shift` sides away."""
    half, reach = 48, round(shift * TRUNK_PX)
    first, second = [], []
    for index in random.integers(0, len(sections), n):
        s = sections[index]
        at = random.integers(0, len(s.rows))
        row = int(np.clip(s.rows[at], half + reach, s.image.shape[0] - half - reach))
        column = int(np.clip(s.columns[at], half + reach, s.image.shape[1] - half - reach))
        dy, dx = random.integers(-reach, reach + 1, 2)
        first.append(s.image[row - half : row + half, column - half : column + half])
        second.append(
            s.image[row + dy - half : row + dy + half, column + dx - half : column + dx + half]
        )
    return tuple(
        torch.from_numpy(np.stack(c)).permute(0, 3, 1, 2).float() / 255 for c in (first, second)
    )  # type: ignore[return-value]


def _augment(rgb: Tensor, generator: torch.Generator) -> Tensor:
    """Rotate by any angle, flip, scale, cut to 64 pixels; shift stain, light and sharpness."""
    n = len(rgb)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(n, *shape, generator=generator)

    angle, scale = uniform(0, 2 * torch.pi), uniform(0.8, 1.15) * TRUNK_PX / rgb.shape[-1]
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    cos, sin, zero = torch.cos(angle) * scale, torch.sin(angle) * scale, torch.zeros(n)
    theta = torch.stack(
        [torch.stack([cos * mirror, -sin, zero], 1), torch.stack([sin * mirror, cos, zero], 1)], 1
    )
    grid = F.affine_grid(theta, [n, 3, TRUNK_PX, TRUNK_PX], align_corners=False)
    cut = F.grid_sample(rgb, grid, padding_mode="reflection", align_corners=False)
    density = -torch.log(cut.clamp_min(1 / 255))
    mix = torch.eye(3) + 0.06 * torch.randn(n, 3, 3, generator=generator)
    density = torch.einsum("nchw,ncd->ndhw", density, mix)
    density = density * uniform(0.75, 1.3, 3, 1, 1) + uniform(-0.08, 0.12, 3, 1, 1)
    blurred = F.avg_pool2d(density, 3, 1, 1, count_include_pad=False)
    density = torch.lerp(density, blurred, uniform(-0.3, 1.0, 1, 1, 1))
    return torch.exp(-density.clamp_min(0))


def _vicreg(a: Tensor, b: Tensor) -> Tensor:
    """Invariance + variance + covariance of two batches of projections (25, 25, 1)."""
    loss = 25 * F.mse_loss(a, b)
    for z in (a, b):
        z = z - z.mean(0)
        loss = loss + 12.5 * F.relu(1 - (z.var(0) + 1e-4).sqrt()).mean()
        covariance = z.T @ z / (len(z) - 1)
        loss = loss + (covariance.pow(2).sum() - covariance.diagonal().pow(2).sum()) / z.shape[1]
    return loss


@random_state_kept()
def train_trunk(slides: Sequence[Path], settings: EncoderTraining) -> CompactTrunk:
    """Train the learned half of the encoder.

    Parameters
    ----------
    slides
        Slides with microns per pixel; only their tissue is used.
    settings
        See `EncoderTraining`.

    Returns
    -------
    CompactTrunk
        Its output scaled to unit variance over the training tissue.
    """
    torch.manual_seed(settings.seed)
    random = np.random.default_rng(settings.seed)
    generator = torch.Generator().manual_seed(settings.seed)
    sections = [_read_section(path, settings.side_um / TRUNK_PX) for path in slides]
    trunk = CompactTrunk()
    projector = nn.Sequential(
        nn.Linear(LEARNED_WIDTH, 256), nn.BatchNorm1d(256), nn.GELU(), nn.Linear(256, 256)
    )
    parameters = [*trunk.parameters(), *projector.parameters()]
    optimiser = torch.optim.AdamW(parameters, settings.learning_rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.learning_rate, total_steps=settings.steps
    )
    started = time.monotonic()
    for step in range(settings.steps):
        views = [
            _augment(c, generator) for c in _crops(sections, settings.batch, settings.shift, random)
        ]
        a, b = projector(trunk(torch.cat(views))).chunk(2)
        loss = _vicreg(a, b)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
        if step % 100 == 0:
            log.info(
                "step %d loss %.3f after %.0f s", step, loss.item(), time.monotonic() - started
            )
    with torch.no_grad():
        sample = torch.cat(
            [_augment(c, generator) for _ in range(8) for c in _crops(sections, 64, 0, random)[:1]]
        )
        out = trunk(sample)
        trunk.head.weight /= out.std(0)[:, None]
        trunk.head.bias.copy_((trunk.head.bias - out.mean(0)) / out.std(0))
    return trunk.eval()
