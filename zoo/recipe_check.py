"""Check a recipe as far as that goes without training, and say what it would do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from stem_core.diffusion.denoiser import Denoiser
from stem_core.encoders.condition import condition_width
from stem_core.errors import SectionError, SettingsError
from stem_core.training.fit_settings import denoiser_size
from stem_core.training.hest import read_section, section_names
from stem_core.training.plan import FINAL, make_plan
from stem_core.training.recipe import Recipe
from stem_core.training.section_checks import check_section
from zoo.conditions import encoder_width, imported_condition, recipe_encoder

__all__ = ["check_recipe"]


def check_recipe(recipe: Recipe, file: Path, data: Path | None = None) -> list[str]:
    """Check a recipe that was read, and its data where they are given.

    Parameters
    ----------
    recipe, file
        The recipe, and the file it was read from.
    data
        The data folder; None checks what can be checked without it.

    Returns
    -------
    list of str
        What it would do, a line each.

    Raises
    ------
    SettingsError
        An encoder is not known, the panel's list is missing, or the plan does not work out.
    SectionError
        A section, or its embeddings, are missing or cannot be trained on.
    """
    widths = {name: encoder_width(name) for name in recipe.encoders}
    listed = recipe.panel_file(file)
    if listed is not None and not listed.is_file():
        msg = f"The panel's list {listed} is not there; correct panel.file of the recipe."
        raise SettingsError(msg)
    total = condition_width(recipe.spec, sum(widths.values()))
    size = denoiser_size(recipe.fit, recipe.panel.genes, total)
    with torch.device("meta"):
        parameters = sum(p.numel() for p in Denoiser(size).parameters())
    whole = "whole patients" if recipe.whole_patients else "single sections"
    genes = f"from the list {listed.name}" if listed is not None else (
        f"{recipe.panel.genes} by the rule {recipe.panel.rule}, from "
        + ("all sections" if recipe.protocol == "paper" else "training sections alone")
    )  # fmt: skip
    training = recipe.training.denoiser
    lines = [
        f"{recipe.name}: protocol {recipe.protocol}, {whole} held out",
        f"panel: {genes}",
        "encoders: " + " + ".join(f"{n} ({w})" for n, w in widths.items())
        + f", condition {total} wide"
        + (f", {recipe.augment.views} views of each patch" if recipe.augment.views > 1 else "")
        + (", imported embeddings" if recipe.data.embeddings else ""),
        f"denoiser: {size.depth} blocks of width {size.width}, {parameters / 1e6:.1f} million "
        f"parameters, target {recipe.training.target}, {training.steps:,} steps of "
        f"{training.batch} spots in {training.precision}",
    ]  # fmt: skip
    selected = recipe.data.select
    if selected is not None and data is None:
        said = [f"dataset title starts with '{selected.dataset_title_starts}'"]
        said += [f"{key} is {value}" for key, value in selected.where.items()]
        lines.append(
            f"sections: chosen by their metadata when the data are there ({'; '.join(said)})"
        )
        return lines
    folder = None if data is None else data / recipe.data.folder
    # Without data the patients are not known, and who goes with whom is not either.
    guess = recipe if folder is not None else recipe.model_copy(update={"leave_out": "section"})
    plan = make_plan(guess, folder)
    lines.append(f"sections: {', '.join(plan.sections)}")
    for split in plan.splits:
        title = "final weights" if split.name == FINAL else f"fold {split.name}"
        tested = f", tested on {', '.join(split.test)}" if split.test else ""
        lines.append(f"{title}: trained on {len(split.train)} sections{tested}")
    if data is not None and folder is not None:
        _require_sections(plan.sections, folder)
        for name in plan.sections:
            section = read_section(folder, name)
            lines.append(check_section(section, recipe.layout.pitch_um).sentence())
            if recipe.data.embeddings:
                imported_condition(section, recipe_encoder(recipe, data), recipe)
    return lines


def _require_sections(wanted: Sequence[str], folder: Path) -> None:
    """Name all sections that are missing, so that they can be fetched at once."""
    here = set(section_names(folder))
    if missing := [name for name in wanted if name not in here]:
        msg = (
            f"{len(missing)} of the {len(wanted)} sections are not in {folder}: fetch those of "
            f"HEST-1k with stem sections download --to {folder} {' '.join(missing)}"
        )
        raise SectionError(msg)
