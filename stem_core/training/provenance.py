"""What the report of a training says of how its figures came about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

from stem_core.evaluation.fold import DRAWS
from stem_core.training.recipe import Recipe
from stem_core.training.recipe_file import packaged_recipes
from stem_core.training.training_order import TrainingOrder

__all__ = ["training_provenance"]


def training_provenance(
    order: TrainingOrder, device: torch.device, held_out: Sequence[str]
) -> Mapping[str, str]:
    """Say for the report what was trained how, and what may leak all the same.

    Parameters
    ----------
    order
        The training.
    device
        That it ran on.
    held_out
        Sections of the report.
    """
    recipe = order.recipe
    standard = recipe.standard
    facts = {
        "Model": f"{recipe.name} {recipe.version}: {_whose_figures(recipe)}",
        "Recipe": f"{order.recipe_name}, protocol {recipe.protocol}",
        "Data": f"{recipe.licences.data}; {_sections(recipe)}",
        "Seed": f"{recipe.training.denoiser.seed} (training), {standard.seed} (draws), "
        "0 (bootstrap)",
        "Encoders": "; ".join(_encoder(name, order, held_out) for name in recipe.encoders),
        "Sampling": f"standard preset for the model's column ({standard.sampler}, "
        f"{standard.steps} steps, {standard.samples} draws); {DRAWS} independent draws for all "
        "else",
        "Computed on": f"{device.type}, torch {torch.__version__}"
        + ("; resumed, so parts of it maybe on another device" if order.resume else ""),
        "Date": datetime.now(UTC).date().isoformat(),
        "Program": f"stem-in-a-browser {version('stem-in-a-browser')}",
    }
    if recipe.training.target == "residual" and order.recipe_name.startswith("zoo/"):
        facts["Decisions"] = (
            "which regressors to average was decided with these folds in view, so a new section "
            "may give a little less"
        )
    return facts


def _whose_figures(recipe: Recipe) -> str:
    """Tell whether the figures are of folds or of the final weights."""
    folds = "the folds of its recipe; the final weights are trained on the folds' sections too"
    final = "the final weights, which never saw the held-out sections"
    if recipe.folds and recipe.held_out:
        return f"{folds}, but not on {', '.join(recipe.held_out)}"
    return folds if recipe.folds else final


def _sections(recipe: Recipe) -> str:
    """Name the sections, or how they were chosen."""
    data = recipe.data
    if data.select is None:
        return f"sections {', '.join(data.sections)}"
    said = [f"{field} {value}" for field, value in data.select.where.items()]
    if data.select.dataset_title_starts:
        said.insert(0, f"dataset title “{data.select.dataset_title_starts} …”")
    return f"sections by their metadata: {', '.join(said)}"


def _encoder(name: str, order: TrainingOrder, held_out: Sequence[str]) -> str:
    """Say what an encoder may have seen; none has seen expression."""
    if name in order.recipe.data.embeddings:
        return (
            f"{name}, embeddings made elsewhere: what their encoder was trained on is not known "
            "here, it may have seen the images of held-out sections"
        )
    if name != "compact-he":
        return f"{name}, published: it may have seen the images of held-out sections"
    seen = _compact_images()
    folder = order.sections.resolve().name
    known = [section for section in held_out if (folder, section) in seen]
    text = f"{name}, trained without expression on the images of " + ", ".join(
        section for _, section in seen
    )
    return f"{text}; {', '.join(known)}, held out here, among them" if known else text


def _compact_images() -> list[tuple[str, str]]:
    """Folder and name of each section whose image the compact encoder was trained on."""
    import yaml

    text = packaged_recipes()["compact-he"].read_text(encoding="utf-8")
    slides = [Path(slide) for slide in yaml.safe_load(text)["slides"]]
    return [(slide.parts[0], slide.stem) for slide in slides]
