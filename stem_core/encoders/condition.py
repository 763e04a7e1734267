"""From a slide to the condition of each spot: its patch, the tissue around it, and where it lies.

The tissue is surveyed once per slide on a square lattice; a spot's context is a Gaussian average of
the lattice embeddings around it, so it has a fixed physical size and needs no neighbouring spots.
Everything is given twice, as it is and relative to the slide's own tissue, which takes most of the
stain out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from scipy.ndimage import distance_transform_edt

from stem_core.encoders.embedding import Embed, Encoder, embed_places
from stem_core.errors import NoTissueError
from stem_core.model.config import ConditionConfig
from stem_core.notebook import record_repr
from stem_core.slides.patches import PatchSpec, paper_side_px
from stem_core.slides.reading import Slide
from stem_core.slides.spots import Spots
from stem_core.slides.tissue import TissueMask

__all__ = [
    "SlideSurvey",
    "condition_groups",
    "condition_width",
    "patch_of_spots",
    "spot_condition",
    "spot_embeddings",
    "survey_condition",
    "survey_slide",
]

_RINGS_UM = (300.0, 600.0, 1200.0, 2400.0)
_MAX_TILES = 20_000
_MAX_LEVEL_POINTS = 1000


def condition_width(spec: ConditionConfig, encoder_width: int) -> int:
    """C: own patch and contexts, raw and relative, then geometry; or the own patch alone."""
    if spec.survey_pitch_um is None:
        return encoder_width
    return 2 * (1 + len(spec.context_um)) * encoder_width + 1 + len(_RINGS_UM)


def condition_groups(spec: ConditionConfig, encoder_width: int) -> dict[str, slice]:
    """Columns of the condition by meaning: `raw`, `relative`, `geometry`."""
    n = (1 + len(spec.context_um)) * encoder_width
    return {"raw": slice(0, n), "relative": slice(n, 2 * n), "geometry": slice(2 * n, None)}


@dataclass(frozen=True)
class SlideSurvey:
    """Embeddings of a slide's tissue on a lattice, and its mask.

    Attributes
    ----------
    x_um, y_um
        Lattice points, shape (M,), microns from the slide's corner.
    embeddings
        float32, (M, encoder width).
    tissue
        bool, the tissue mask.
    mask_um
        Microns per mask pixel.
    """

    x_um: NDArray[np.float32]
    y_um: NDArray[np.float32]
    embeddings: NDArray[np.float32]
    tissue: NDArray[np.bool_]
    mask_um: float

    __repr__ = record_repr

    @cached_property
    def edge_um(self) -> NDArray[np.float32]:
        """Distance to the edge of the tissue (or slide) per mask pixel, microns."""
        inside = distance_transform_edt(np.pad(self.tissue, 1))[1:-1, 1:-1]
        out: NDArray[np.float32] = inside.astype(np.float32) * np.float32(self.mask_um)
        return out

    def save(self, path: Path) -> None:
        """Write as safetensors."""
        save_file(
            {
                "x_um": self.x_um,
                "y_um": self.y_um,
                "embeddings": self.embeddings,
                "tissue": self.tissue.astype(np.uint8),
                "mask_um": np.array([self.mask_um], np.float64),
            },
            path,
        )

    @classmethod
    def load(cls, path: Path) -> SlideSurvey:
        """Read what `save` wrote."""
        t = load_file(path)
        return cls(
            t["x_um"], t["y_um"], t["embeddings"], t["tissue"].astype(bool), float(t["mask_um"][0])
        )


def survey_slide(
    slide: Slide,
    tissue: TissueMask,
    encoder: Encoder,
    spec: ConditionConfig,
    progress: Callable[[int, int], None] | None = None,
    embed: Embed = embed_places,
) -> SlideSurvey:
    """Embed the slide's tissue on a lattice; on none for a model that sees patches alone.

    On very large slides the lattice is thinned to at most 20,000 points.

    Raises
    ------
    NoTissueError
        No lattice point lies on tissue.
    MppError
        Microns per pixel are unknown.
    """
    mpp = slide.require_mpp()
    if spec.survey_pitch_um is None:  # nothing to look over
        none = np.zeros(0, np.float32)
        empty = np.zeros((0, encoder.width), np.float32)
        return SlideSurvey(none, none, empty, tissue.mask, tissue.scale_px * mpp)
    pitch_px = spec.survey_pitch_um / mpp
    expected = tissue.fraction() * slide.width_px * slide.height_px / pitch_px**2
    pitch_px *= max(1.0, np.sqrt(expected / _MAX_TILES))
    across, down = np.meshgrid(
        np.arange(pitch_px / 2, slide.width_px, pitch_px),
        np.arange(pitch_px / 2, slide.height_px, pitch_px),
    )
    x, y = across.ravel(), down.ravel()
    on = tissue.fraction_at(x, y, pitch_px) > 0.3
    if not on.any():  # a piece smaller than the lattice
        on = tissue.fraction_at(x, y, 2 * pitch_px) > 0
    x, y = x[on], y[on]
    if len(x) == 0:
        msg = f"No tissue was found on {slide.path.name}; choose an image with stained tissue."
        raise NoTissueError(msg)
    patch = PatchSpec(spec.size_px, side_um=spec.side_um)
    embeddings = embed(slide, x, y, encoder, patch, progress=progress)
    return SlideSurvey(
        (x * mpp).astype(np.float32),
        (y * mpp).astype(np.float32),
        embeddings,
        tissue.mask,
        tissue.scale_px * mpp,
    )


def _context(
    x_um: NDArray[np.float64], y_um: NDArray[np.float64], survey: SlideSurvey, sigma_um: float
) -> NDArray[np.float32]:
    squared = (x_um[:, None] - survey.x_um) ** 2 + (y_um[:, None] - survey.y_um) ** 2
    # Relative to the nearest point: far from all tissue the nearest counts alone, never a division
    # by zero.
    weights = np.exp(-(squared - squared.min(1, keepdims=True)) / (2 * sigma_um**2)).astype(
        np.float32
    )
    out: NDArray[np.float32] = weights @ survey.embeddings / weights.sum(1, keepdims=True)
    return out


def _geometry(
    x_um: NDArray[np.float64],
    y_um: NDArray[np.float64],
    survey: SlideSurvey,
) -> NDArray[np.float32]:
    h, w = survey.tissue.shape
    column = np.clip((x_um / survey.mask_um).astype(int), 0, w - 1)
    row = np.clip((y_um / survey.mask_um).astype(int), 0, h - 1)
    mask = TissueMask(survey.tissue, 1.0)
    rings = [
        mask.fraction_at(x_um / survey.mask_um, y_um / survey.mask_um, d / survey.mask_um)
        for d in _RINGS_UM
    ]
    return np.stack([np.log1p(survey.edge_um[row, column] / 50), *rings], 1).astype(np.float32)


def _assemble(
    own: NDArray[np.float32],
    x_um: NDArray[np.float64],
    y_um: NDArray[np.float64],
    survey: SlideSurvey,
    spec: ConditionConfig,
) -> NDArray[np.float32]:
    raw = [own, *(_context(x_um, y_um, survey, sigma) for sigma in spec.context_um)]
    mean = survey.embeddings.mean(0)
    std = survey.embeddings.std(0) + 0.05 * np.abs(mean) + 1e-3
    relative = [(part - mean) / std for part in raw]
    return np.concatenate([*raw, *relative, _geometry(x_um, y_um, survey)], 1).astype(np.float32)


def spot_condition(
    slide: Slide,
    spots: Spots,
    survey: SlideSurvey,
    encoder: Encoder,
    spec: ConditionConfig,
    embed: Embed = embed_places,
) -> NDArray[np.float32]:
    """Make the condition of spots.

    Each row depends on its own spot, the slide and the survey alone, so any chunking gives the
    same.

    Returns
    -------
    float32 array, shape (N, C)
    """
    own = spot_embeddings(slide, spots, encoder, spec, embed)
    if spec.survey_pitch_um is None:
        return own
    mpp = slide.require_mpp()
    return _assemble(own, spots.x_px * mpp, spots.y_px * mpp, survey, spec)


def spot_embeddings(
    slide: Slide,
    spots: Spots,
    encoder: Encoder,
    spec: ConditionConfig,
    embed: Embed = embed_places,
) -> NDArray[np.float32]:
    """Embed the patches of spots: float32, shape (N, encoder width)."""
    return embed(slide, spots.x_px, spots.y_px, encoder, patch_of_spots(slide, spots, spec))


def patch_of_spots(slide: Slide, spots: Spots, spec: ConditionConfig) -> PatchSpec:
    """Return what is read around spots.

    Raises
    ------
    MppError
        The slide's microns per pixel are not known.
    """
    if spec.patch_mode == "paper":
        # Pixel by pixel: each encoder resizes by its own rule, as published.
        side_px = paper_side_px(slide, spots.diameter_um)
        return PatchSpec(side_px, side_px=side_px)
    return PatchSpec(spec.size_px, side_um=spec.side_um)


def survey_condition(survey: SlideSurvey, spec: ConditionConfig) -> NDArray[np.float32]:
    """Make the condition of the survey's own lattice points: a sample of the whole tissue.

    Of at most 1,000 points, evenly taken.

    Returns
    -------
    float32 array, shape (M, C)
    """
    if spec.survey_pitch_um is None:
        return survey.embeddings
    points = len(survey.x_um)
    chosen = np.linspace(0, points - 1, min(points, _MAX_LEVEL_POINTS)).round().astype(int)
    x_um, y_um = (at[chosen].astype(np.float64) for at in (survey.x_um, survey.y_um))
    return _assemble(survey.embeddings[chosen], x_um, y_um, survey, spec)
