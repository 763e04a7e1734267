"""Check a recipe as far as that goes without training, and say what it would do."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from stem_core.diffusion.denoiser import Denoiser
from stem_core.encoders.condition import condition_width
from stem_core.errors import SectionError, SettingsError
from stem_core.model.manifest import UNPINNED
from stem_core.training.fit_settings import denoiser_size, require_components
from stem_core.training.hest import HEST_DATASET, is_hest_id, panel_columns, read_section
from stem_core.training.panel import (
    panel_candidates,
    read_gene_list,
    require_measured,
    variable_genes,
)
from stem_core.training.plan import FINAL, Plan, make_plan
from stem_core.training.recipe import EACH_PATIENT, Recipe
from stem_core.training.section_checks import check_section
from stem_core.training.section_files import find_files, patient_name
from stem_core.training.section_store import encoder_width, imported_condition, imported_encoders

__all__ = ["check_recipe", "require_sections"]


def check_recipe(recipe: Recipe, file: Path, data: Path | None = None) -> list[str]:
    """Check a recipe that was read, and its data where they are given: held-out sections too.

    Nothing is learned, so nothing of a held-out section can get into a model.

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
        A section, or its embeddings, are missing or cannot be trained on, or no panel can be had.
    """
    widths = {name: encoder_width(name) for name in recipe.encoders}
    listed = recipe.panel_file(file)
    if listed is not None and not listed.is_file():
        msg = f"The panel's list {listed} is not there; correct panel.file of the recipe."
        raise SettingsError(msg)
    total = condition_width(recipe.condition, sum(widths.values()))
    require_components(recipe.fit, total)
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
    if data is None:
        return lines + _planned_without_data(recipe)
    plan = make_plan(recipe, data / recipe.data.folder)
    return lines + _trainings(plan) + _check_sections(recipe, listed, plan, data, total)


@dataclass(frozen=True)
class _Seen:
    """What the panel and the projection need of a section."""

    genes: tuple[str, ...]
    variable: frozenset[str]
    spots: int


def _trainings(plan: Plan) -> list[str]:
    lines = [f"sections: {', '.join(plan.sections)}"]
    for split in plan.splits:
        title = "final weights" if split.name == FINAL else f"fold {split.name}"
        tested = f", tested on {', '.join(split.test)}" if split.test else ""
        number = len(split.train)
        lines.append(f"{title}: trained on {number} section{'s' * (number > 1)}{tested}")
    return lines


def _planned_without_data(recipe: Recipe) -> list[str]:
    """Plan as far as the recipe says who is who."""
    selected, patients = recipe.data.select, recipe.data.patients
    if selected is not None:
        said = [f"dataset title starts with '{selected.dataset_title_starts}'"]
        said += [f"{key} is {value}" for key, value in selected.where.items()]
        return [f"sections: chosen by their metadata when the data are there ({'; '.join(said)})"]
    by_patient = recipe.whole_patients or EACH_PATIENT in recipe.folds
    if not by_patient or all(patient_name(patients.get(n)) for n in recipe.data.sections):
        return _trainings(make_plan(recipe, None))
    return [
        f"sections: {', '.join(recipe.data.sections)}",
        "trainings: not known without --data, because whole patients are held out and the metadata "
        "say whose sections these are",
    ]


def _check_sections(
    recipe: Recipe, listed: Path | None, plan: Plan, data: Path, condition_width: int
) -> list[str]:
    """Open every section, one at a time, and try what a training would ask of them."""
    require_sections(recipe, plan.sections, data)
    lines, seen, imported = [], {}, imported_encoders(recipe, data)
    for name in plan.sections:
        section = read_section(data / recipe.data.folder, name)
        facts = check_section(section, recipe.layout.pitch_um)
        lines.append(replace(facts, patient=plan.patients[name]).sentence())
        if imported is not None:
            imported_condition(section, imported, recipe)
        genes = tuple(map(str, section.counts.var_names))
        variable = variable_genes(section.counts) if listed is None else frozenset()
        seen[name] = _Seen(genes, variable, section.counts.n_obs)
    for split in plan.splits:
        of_panel = plan.sections if recipe.protocol == "paper" else split.train
        panel = _possible_genes(recipe, listed, {name: seen[name] for name in of_panel})
        for name in split.test:
            panel_columns(name, seen[name].genes, panel)
        require_components(recipe.fit, condition_width, sum(seen[n].spots for n in split.train))
    return lines


def _possible_genes(recipe: Recipe, listed: Path | None, seen: Mapping[str, _Seen]) -> list[str]:
    """Return the genes that a panel is chosen among, from a list or by a rule."""
    measured = {name: section.genes for name, section in seen.items()}
    if listed is None:
        variable = (section.variable for section in seen.values())
        return panel_candidates(measured, variable, recipe.panel.genes)
    genes = read_gene_list(listed)
    require_measured(genes, listed.name, measured)
    return genes


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
    if (imported := imported_encoders(recipe, data)) is not None:
        for part in imported.parts:
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
