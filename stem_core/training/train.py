"""Train a model from its recipe: sections, conditions, folds, final weights, model folder, report.

    <work>/embeddings/      of each section, kept for the next time
           recipe.json      the recipe as it was taken
           <split>/         checkpoints and log of each fold and of the final training, and its
                            held-out figures (`held-out-<section>.json`)
           report/          the report on all held-out sections

Several processes (`torchrun`) go through the same steps; the first one embeds, evaluates and
writes.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from stem_core.encoders.condition import condition_groups
from stem_core.encoders.imported_embeddings import EmbeddingSource, ImportedEncoders
from stem_core.evaluation.baseline_choice import choose_baselines
from stem_core.evaluation.baselines import fit_ridge
from stem_core.evaluation.records import SectionReport
from stem_core.evaluation.report import write_report
from stem_core.files import atomic_directory
from stem_core.model.manifest import Manifest
from stem_core.training.conditional_mean import TrainingSection
from stem_core.training.distributed import DistributedContext, joined_ranks
from stem_core.training.fit import TrainedModel, fit
from stem_core.training.held_out import (
    DRAWS,
    HeldOutResult,
    describe_report,
    kept_report,
    measure_split,
    report_key,
)
from stem_core.training.hest import log_counts
from stem_core.training.model_folder import ModelData, ModelOrigin, write_model_folder
from stem_core.training.panel import choose_panel, read_panel
from stem_core.training.plan import FINAL, Plan, Split, make_plan
from stem_core.training.recipe import Recipe
from stem_core.training.recipe_check import require_sections
from stem_core.training.recipe_file import packaged_recipes
from stem_core.training.section_store import SectionStore
from stem_core.training.trainer import TrainingRun
from stem_core.training.training_log import TrainingProgress
from stem_core.training.training_order import TrainingOrder

__all__ = ["choose_genes", "fit_split", "train_model", "training_provenance"]

log = logging.getLogger(__name__)

_HOW_TO_RUN = ("log_every", "checkpoint_every", "validate_every", "accumulate")


def train_model(order: TrainingOrder, encoder: EmbeddingSource) -> Manifest | None:
    """Train all folds and the final weights, and write the model folder.

    Parameters
    ----------
    order
        What to train, and where.
    encoder
        The recipe's.

    Returns
    -------
    Manifest or None
        Of the folder; None in all processes but the first.

    Raises
    ------
    StemError
        The sections do not serve, something cannot be written, another process ended, …
    """
    recipe = order.recipe
    plan = make_plan(recipe, order.sections)
    order.check_folders()
    require_sections(recipe, plan.sections, order.data)
    with joined_ranks(order.device) as ranks:
        say = order.say if ranks.first else _silent
        ranks.wait()  # until all have seen the folders as they were
        if ranks.first:
            order.begin()
        if not isinstance(encoder, ImportedEncoders):
            encoder.to(ranks.device)
        store = SectionStore(recipe, order.sections, order.work / "embeddings", encoder, say)
        reports: list[SectionReport] = []
        for number, split in enumerate(plan.splits, 1):
            title = f"{split.name} ({number} of {len(plan.splits)})"
            say(f"{title}: training on {', '.join(split.train)}")
            key = report_key(order, split, encoder)
            done = [
                kept_report(order.report_path(split, name), key) if order.resume else None
                for name in split.test
            ]
            if split.name != FINAL and ranks.from_first(float(all(done))):
                say(f"{title}: done before")
                reports += [report for report in done if report is not None]
                continue
            panel, fitted = fit_split(order, plan, split, store, ranks, _teller(title, say))
            if not ranks.first:
                continue
            if split.test:
                say(f"{title}: measuring")
            tested = measure_split(order, plan, split, store, panel, fitted, ranks.device)
            for report in tested:
                say(describe_report(report))
            reports += tested
        if not ranks.first:
            return None
        manifest = _write(order, plan.splits[-1], store, encoder, panel, fitted, reports)
        if reports:
            said = training_provenance(order, ranks.device, [r.section for r in reports])
            page, _ = write_report(reports, order.work / "report", recipe.title, said)
            say(f"Report: {page}")
    return manifest


def choose_genes(order: TrainingOrder, plan: Plan, split: Split, store: SectionStore) -> list[str]:
    """Choose the panel: from the training sections, or by the `paper` protocol from all."""
    recipe = order.recipe
    names = plan.sections if recipe.protocol == "paper" else split.train
    counts = {name: store.section(name).counts for name in names}
    rule, file = recipe.panel.rule, recipe.panel_file(order.recipe_file)
    if rule == "file" or file is not None:
        assert file is not None  # the recipe was checked
        return read_panel(file, counts)
    return choose_panel(counts, recipe.panel.genes, rule=rule)


def fit_split(
    order: TrainingOrder,
    plan: Plan,
    split: Split,
    store: SectionStore,
    ranks: DistributedContext,
    progress: Callable[[TrainingProgress], None] | None = None,
) -> tuple[list[str], TrainedModel]:
    """Choose the panel of a split and fit on its training sections."""
    recipe = order.recipe
    panel = choose_genes(order, plan, split, store)
    if ranks.first:
        for name in split.train:
            store.condition(name, augmented=True)
        for name in recipe.validation:
            store.condition(name)
    ranks.wait()
    sections = [_training(store, name, panel, augmented=True) for name in split.train]
    watched = [_training(store, name, panel) for name in recipe.validation]
    identity = _identity(recipe, split, panel, sections, watched)
    run = TrainingRun(order.work / split.name, identity, ranks, progress)
    width = store.encoder.width
    groups = condition_groups(recipe.condition, width)
    return panel, fit(sections, groups, width, recipe.fit, run, watched)


def _training(
    store: SectionStore, name: str, panel: list[str], *, augmented: bool = False
) -> TrainingSection:
    condition = store.condition(name, augmented=augmented)
    views = condition.views if augmented and len(condition.views) else None
    target = log_counts(store.section(name), panel)
    return TrainingSection(condition.spots, condition.lattice, target, views)


def _identity(
    recipe: Recipe,
    split: Split,
    panel: Sequence[str],
    sections: Sequence[TrainingSection],
    watched: Sequence[TrainingSection],
) -> str:
    """Make what a checkpoint must agree with to be gone on from: settings, counts, embeddings."""
    said = recipe.model_dump(mode="json", exclude={"manifest", "presets", "folds", "data"})
    training = said["training"]["denoiser"]
    stops_early = training["patience"] > 0
    for name in _HOW_TO_RUN:
        if name != "validate_every" or not stops_early:
            del training[name]
    if training["schedule"] == "constant":  # such a training may be made longer
        del training["steps"]
    text = json.dumps([said, split.train, list(panel)], sort_keys=True, allow_nan=False)
    hashed = hashlib.sha256(text.encode())
    for section in [*sections, *(watched if stops_early else ())]:
        for values in (section.condition, section.lattice, section.target, section.views):
            if values is not None:
                hashed.update(str(values.shape).encode())
                hashed.update(np.ascontiguousarray(values).tobytes())
    return hashed.hexdigest()


def _write(
    order: TrainingOrder,
    split: Split,
    store: SectionStore,
    encoder: EmbeddingSource,
    panel: list[str],
    fitted: TrainedModel,
    reports: Sequence[SectionReport],
) -> Manifest:
    conditions = [store.condition(name) for name in split.train]
    spots = np.concatenate([c.spots for c in conditions])
    sections = {name: store.section(name) for name in split.train}
    targets = [log_counts(section, panel) for section in sections.values()]
    positions = [np.column_stack([c.x_um, c.y_um]) for c in conditions]
    chosen = choose_baselines([c.spots for c in conditions], targets, positions, ["ridge"])
    advice = "Free space there and continue with --resume."
    with atomic_directory(order.out, advice=advice) as temporary:
        return write_model_folder(
            temporary,
            order.recipe,
            fitted,
            encoder,
            panel,
            ModelData(
                sections,
                fit_ridge(spots, np.concatenate(targets), chosen.settings.ridge_penalty),
                [HeldOutResult.from_report(report) for report in reports],
                patch_um=float(np.median([c.side_um[0] for c in conditions])),
            ),
            ModelOrigin(datetime.now(UTC).date().isoformat(), order.recipe_name),
        )


def _teller(title: str, say: Callable[[str], None]) -> Callable[[TrainingProgress], None]:
    """Make a line of each look at the training."""

    def tell(progress: TrainingProgress) -> None:
        figures = "".join(f", {name} {value:.3f}" for name, value in progress.figures.items())
        say(
            f"{title}: step {progress.step:,} of {progress.steps:,}, loss {progress.loss:.4f}"
            f"{figures}, {_duration(progress.left_s)} left"
        )
        if progress.kept_step is not None:
            early = "stopped early" if progress.step < progress.steps else "done"
            say(f"{title}: {early}; the weights of step {progress.kept_step:,} had the best CRPS")

    return tell


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _silent(text: str) -> None:
    """Say nothing: the first process speaks."""


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
