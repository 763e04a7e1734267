"""Stain and texture statistics of a patch: the fixed half of the compact encoder.

Optical densities are unmixed into haematoxylin and eosin (Ruifrok & Johnston 2001); of the stain
and colour planes it takes means, standard deviations and quantiles, of the stain planes band
energies at octave scales, gradients and correlations. Every statistic is over the whole patch and
every filter is isotropic or summed over both axes, so quarter turns and flips of the patch leave
the result unchanged.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["FEATURE_COUNT", "patch_statistics"]

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
