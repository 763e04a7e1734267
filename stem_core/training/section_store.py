"""What a model sees of measured sections, assembled from embeddings that are kept on disk."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stem_core.encoders.catalogue import encoder_facts
from stem_core.encoders.condition import (
    patch_of_spots,
    spot_condition,
    spot_embeddings,
    survey_condition,
    survey_slide,
)
from stem_core.encoders.embedding import Encoder
from stem_core.encoders.embedding_cache import EmbeddingCache
from stem_core.encoders.imported_embeddings import (
    EmbeddingSource,
    ImportedEncoder,
    ImportedEncoders,
)
from stem_core.encoders.pair import JoinedEncoder
from stem_core.errors import SettingsError
from stem_core.slides.tissue import find_tissue
from stem_core.training.hest import MeasuredSection, open_section, read_section, section_spots
from stem_core.training.recipe import Recipe
from stem_core.training.section_checks import check_section
from stem_core.training.views import ViewedEncoder

__all__ = [
    "SectionCondition",
    "SectionStore",
    "encoder_width",
    "imported_condition",
    "imported_encoders",
    "section_condition",
]

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


def imported_encoders(recipe: Recipe, data: Path) -> ImportedEncoders | None:
    """Return the encoders whose embeddings a recipe imports; None where it imports none.

    Parameters
    ----------
    recipe
        Checked recipe.
    data
        Data folder.

    Raises
    ------
    SettingsError
        An encoder is not known.
    """
    if not recipe.data.embeddings:
        return None
    patch_um, parts = recipe.data.embeddings_patch_um, []
    for name in recipe.encoders:
        folder = data / recipe.data.embeddings[name]
        parts.append(ImportedEncoder(name, encoder_width(name), folder, patch_um))
    return ImportedEncoders(tuple(parts))


def encoder_width(name: str) -> int:
    """Return how many values an encoder gives a patch.

    Raises
    ------
    SettingsError
        There is none of that name.
    """
    facts = encoder_facts(name)
    if facts is None:
        msg = f"There is no encoder '{name}'; see stem doctor --gated for those there are."
        raise SettingsError(msg)
    return facts.width


def section_condition(
    section: MeasuredSection,
    encoder: EmbeddingSource,
    recipe: Recipe,
    cache: Path,
    say: Callable[[str], None] = log.info,
    *,
    augmented: bool = False,
) -> SectionCondition:
    """Assemble the condition of a section; what is neither imported nor kept yet is embedded.

    Parameters
    ----------
    section, encoder, recipe
        Of what, by what, how.
    cache
        Folder of the embeddings, see `EmbeddingCache`.
    say
        Is told of what has to be embedded.
    augmented
        Whether views are wanted, as the recipe augments.

    Raises
    ------
    OutputError
        The embeddings cannot be kept.
    SectionError
        Embeddings that are to be imported cannot be.
    """
    if isinstance(encoder, ImportedEncoders):
        return imported_condition(section, encoder, recipe)
    spec, diameter_um = recipe.condition, recipe.layout.spot_diameter_um
    views = recipe.augment.views if augmented and recipe.augment.views > 1 else 0
    kept = EmbeddingCache(cache)

    def seen_by(viewed: Encoder) -> Array:
        """Make the condition of the spots, each patch in one view."""
        embed = partial(kept.embed, progress=_teller(section.name, viewed.name, say))
        return spot_condition(slide, spots, survey, viewed, spec, embed)

    with open_section(section) as slide:
        mpp = slide.require_mpp()
        spots = section_spots(section, slide, diameter_um)
        tell = _teller(section.name, encoder.name, say)
        survey = survey_slide(slide, find_tissue(slide), encoder, spec, tell, kept.embed)
        dihedral, seed = recipe.augment.dihedral, recipe.training.denoiser.seed
        viewed = [ViewedEncoder(encoder, view, dihedral, seed) for view in range(1, views)]
        if viewed:  # all at once, so that each patch is read once
            tell = _teller(section.name, f"{encoder.name} in {views} views", say)
            joined = JoinedEncoder((encoder, *viewed))
            spot_embeddings(slide, spots, joined, spec, partial(kept.embed, progress=tell))
        own, others = seen_by(encoder), [seen_by(other) for other in viewed]
        side_um = patch_of_spots(slide, spots, spec).level0_px(slide) * mpp
    return SectionCondition(
        own,
        survey_condition(survey, spec),
        np.stack([own, *others]) if views else np.zeros((0, *own.shape), np.float32),
        np.asarray(spots.x_px * mpp, np.float64),
        np.asarray(spots.y_px * mpp, np.float64),
        np.array([side_um], np.float64),
    )


def imported_condition(
    section: MeasuredSection, encoder: ImportedEncoders, recipe: Recipe
) -> SectionCondition:
    """Take the condition of a section from embeddings that other tools made.

    Raises
    ------
    SectionError
        They are missing, or not of these patches and spots.
    """
    with open_section(section) as slide:
        mpp = slide.require_mpp()
        spots = section_spots(section, slide, recipe.layout.spot_diameter_um)
        side_um = patch_of_spots(slide, spots, recipe.condition).level0_px(slide) * mpp
    own = encoder.of_spots(section.name, spots, side_um=side_um, mpp=mpp)
    return SectionCondition(
        own,
        np.zeros((0, own.shape[1]), np.float32),
        np.zeros((0, *own.shape), np.float32),
        np.asarray(spots.x_px * mpp, np.float64),
        np.asarray(spots.y_px * mpp, np.float64),
        np.array([side_um], np.float64),
    )


def _teller(section: str, by: str, say: Callable[[str], None]) -> Callable[[int, int], None]:
    """Say once what is about to be embedded."""

    def tell(done: int, total: int) -> None:
        if not done:
            say(f"{section}: embedding {total:,} patches with {by}")

    return tell


class SectionStore:
    """Sections and their conditions, kept once read.

    Parameters
    ----------
    recipe
        What the model looks at.
    folder
        With the sections.
    cache
        Folder for embeddings.
    encoder
        That makes them.
    say
        Is told what takes time.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        cache: Path,
        encoder: EmbeddingSource,
        say: Callable[[str], None],
    ) -> None:
        self.recipe, self.encoder = recipe, encoder
        self._folder, self._cache, self._say = folder, cache, say
        self._sections: dict[str, MeasuredSection] = {}
        self._conditions: dict[tuple[str, bool], SectionCondition] = {}

    def section(self, name: str) -> MeasuredSection:
        """Read and check a section.

        Raises
        ------
        SectionError
            It is missing, or not what training needs.
        """
        if name not in self._sections:
            section = read_section(self._folder, name)
            check_section(section, self.recipe.layout.pitch_um)
            self._sections[name] = section
        return self._sections[name]

    def condition(self, name: str, *, augmented: bool = False) -> SectionCondition:
        """Assemble what the model sees of a section; with its views where those are wanted."""
        augmented = augmented and self.recipe.augment.views > 1
        if (name, True) in self._conditions:  # it has the patch as it is, too
            return self._conditions[name, True]
        if (name, augmented) not in self._conditions:
            self._conditions[name, augmented] = section_condition(
                self.section(name), self.encoder, self.recipe, self._cache, self._say,
                augmented=augmented,
            )  # fmt: skip
        return self._conditions[name, augmented]
