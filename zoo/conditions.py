"""What a model sees of measured sections, made once and kept on disk."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from stem_core.encoders.condition import (
    Encoder,
    spot_condition,
    survey_condition,
    survey_slide,
)
from stem_core.errors import OutputError
from stem_core.slides.patches import paper_side_px
from stem_core.slides.tissue import find_tissue
from stem_core.training.hest import MeasuredSection, open_section, section_spots
from stem_core.training.recipe import Recipe
from stem_core.training.views import ViewedEncoder

__all__ = ["SectionCondition", "section_condition"]

log = logging.getLogger(__name__)
Array = NDArray[np.float32]


@dataclass(frozen=True)
class SectionCondition:
    """What a model sees of a section.

    Attributes
    ----------
    spots, lattice
        Of its spots (N,C), and of points all over its tissue (M,C).
    views
        (V,N,C) of V views of each patch; V is 0 without augmentation.
    x_um, y_um
        float64 (N,), from the corner of the slide.
    side_um
        float64 (1,), side of a patch.
    """

    spots: Array
    lattice: Array
    views: Array
    x_um: NDArray[np.float64]
    y_um: NDArray[np.float64]
    side_um: NDArray[np.float64]


def section_condition(
    section: MeasuredSection,
    encoder: Encoder,
    recipe: Recipe,
    cache: Path,
    say: Callable[[str], None] = log.info,
    *,
    augmented: bool = False,
) -> SectionCondition:
    """Make, or read from the cache, the condition of a section.

    The key of the cache is all that it depends on: image and spots (by size and time of their
    files), encoder, and what the recipe looks at.

    Parameters
    ----------
    section, encoder, recipe
        Of what, by what, how.
    cache
        Folder of the cache.
    say
        Is told when it has to be made.
    augmented
        Whether views are wanted, as the recipe augments.

    Raises
    ------
    OutputError
        The cache cannot be written.
    """
    views = recipe.augment.views if augmented and recipe.augment.views > 1 else 0
    facts = [p.stat() for p in (section.image, section.table)]
    depends = (
        encoder.sha256, recipe.spec, recipe.layout.spot_diameter_um, len(section.counts.obs_names),
        [(f.st_size, f.st_mtime_ns) for f in facts],
        (views, recipe.augment, recipe.training.denoiser.seed) if views else 0,
    )  # fmt: skip
    key = hashlib.sha256(repr(depends).encode()).hexdigest()[:16]
    path = cache / f"{section.name}-{key}.safetensors"
    try:
        return SectionCondition(**load_file(path))
    except FileNotFoundError:
        pass
    except (OSError, SafetensorError, TypeError) as error:
        log.warning("The kept condition %s is damaged (%s) and is made again.", path.name, error)
    say(f"{section.name}: embedding {section.counts.n_obs:,} spots with {encoder.name}")
    made = _make(section, encoder, recipe, views)
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(save({f.name: getattr(made, f.name) for f in fields(made)}))
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        msg = (
            f"The embeddings of {section.name} cannot be kept in {cache} "
            f"({error.strerror or error}); free space there, or name another folder with --work."
        )
        raise OutputError(msg) from error
    return made


def _make(
    section: MeasuredSection, encoder: Encoder, recipe: Recipe, views: int
) -> SectionCondition:
    spec, diameter_um = recipe.spec, recipe.layout.spot_diameter_um
    with open_section(section) as slide:
        mpp = slide.require_mpp()
        spots = section_spots(section, slide, diameter_um)
        survey = survey_slide(slide, find_tissue(slide), encoder, spec)
        own = spot_condition(slide, spots, survey, encoder, spec)
        others = [
            spot_condition(
                slide,
                spots,
                survey,
                ViewedEncoder(
                    encoder, view, recipe.augment.dihedral, recipe.training.denoiser.seed
                ),
                spec,
            )
            for view in range(1, views)
        ]
        side_um = spec.side_um
        if spec.patch_mode == "paper":
            side_um = paper_side_px(slide, spots.diameter_um) * mpp
    return SectionCondition(
        own,
        survey_condition(survey, spec),
        np.stack([own, *others]) if views else np.zeros((0, *own.shape), np.float32),
        np.asarray(spots.x_px * mpp, np.float64),
        np.asarray(spots.y_px * mpp, np.float64),
        np.array([side_um], np.float64),
    )
