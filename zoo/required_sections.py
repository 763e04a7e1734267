"""See to it, before any work, that all sections of a recipe are there."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from stem_core.encoders.imported_encoder import imported_parts
from stem_core.errors import SectionError
from stem_core.training.recipe import Recipe
from stem_core.training.section_files import find_files
from zoo.conditions import recipe_encoder
from zoo.entries import UNPINNED
from zoo.hest_download import HEST_DATASET, is_hest_id

__all__ = ["require_sections"]


def require_sections(recipe: Recipe, names: Sequence[str], data: Path) -> None:
    """Look for counts, image and embeddings of sections by name, without opening any.

    Parameters
    ----------
    recipe, data
        The recipe, and the folder that its `data.folder` lies in.
    names
        All sections, held-out ones too.

    Raises
    ------
    SectionError
        Something is missing; all sections that lack counts or image are named at once.
    """
    folder = data / recipe.data.folder
    found = {name: find_files(folder, name) for name in names}
    missing = [name for name in names if not (found[name].table and found[name].images)]
    if missing:
        halves = [
            f"{name}: no {'image' if found[name].table else 'counts'}"
            for name in missing
            if found[name].table or found[name].images
        ]
        shown = f" ({', '.join(halves[:4])}{', …' if len(halves) > 4 else ''})" if halves else ""
        msg = (
            f"{len(missing)} of the {len(names)} sections are not in {folder} with counts and "
            f"image{shown}; {_advice(recipe, missing, folder)}."
        )
        raise SectionError(msg)
    for name, files in found.items():
        files.the_image(name)
    if recipe.data.embeddings:
        for part in imported_parts(recipe_encoder(recipe, data)):
            for name in names:
                part.require_file(name)


def _advice(recipe: Recipe, missing: Sequence[str], folder: Path) -> str:
    """Say how they are to be had: by our command where they are HEST-1k's, else by the recipe."""
    source = recipe.data.download
    if source is None or not all(map(is_hest_id, missing)):
        return (
            "put st/<section>.h5ad and wsis/<section>.tif, or Space Ranger's <section>/outs and "
            "its image, there; comments in the recipe may say where they are from"
        )
    options = ["--to", str(folder)]
    if source.dataset != HEST_DATASET:
        options += ["--dataset", source.dataset]
    if source.revision != UNPINNED:
        options += ["--revision", source.revision]
    return f"fetch them with stem sections download {shlex.join(options)} {' '.join(missing)}"
