"""Train a model from its recipe: sections, conditions, folds, final weights, model folder, report.

    <work>/conditions/      what the model sees of each section, kept for the next time
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
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np

from stem_core.encoders.condition import Encoder, condition_groups
from stem_core.errors import OutputError
from stem_core.evaluation.baselines import fit_ridge
from stem_core.evaluation.evaluate import evaluate_section
from stem_core.evaluation.fold import fold_input
from stem_core.evaluation.records import EvaluationInput, SectionReport
from stem_core.evaluation.report import write_report
from stem_core.training.conditional_mean import TrainingSection
from stem_core.training.fit import Fitted, fit
from stem_core.training.hest import log_counts
from stem_core.training.journal import TrainingProgress
from stem_core.training.panel import choose_panel, read_panel
from stem_core.training.plan import FINAL, Plan, Split, make_plan
from stem_core.training.ranks import Ranks, joined_ranks
from stem_core.training.recipe import Recipe
from stem_core.training.trainer import TrainingRun
from stem_core.training.watching import evenly
from zoo.folder import write_model_folder
from zoo.held_out import HeldOutResult, keep_report, kept_report
from zoo.manifest import Manifest
from zoo.material import Material

__all__ = [
    "TrainingOrder",
    "choose_genes",
    "fit_split",
    "train_model",
]

log = logging.getLogger(__name__)

# Kernel ridge over all spots of a large dataset would need more memory than there is.
_BASELINE_SPOTS = 12_000
_RECORD = "recipe.json"
_HOW_TO_RUN = ("log_every", "checkpoint_every", "validate_every", "accumulate")


@dataclass(frozen=True)
class TrainingOrder:
    """A training as it was asked for.

    Attributes
    ----------
    recipe, recipe_file
        What to do, and the file it was read from.
    data
        Folder that the recipe's `data.folder` lies in.
    out
        The model folder, new or empty.
    work
        For everything else.
    device
        `auto`, `cpu`, `cuda` or `cuda:N`.
    resume
        Go on with what is in `work`.
    say
        Is told, in a line, what is going on.
    """

    recipe: Recipe
    recipe_file: Path
    data: Path
    out: Path
    work: Path
    device: str = "auto"
    resume: bool = False
    say: Callable[[str], None] = log.info


def train_model(order: TrainingOrder, encoder: Encoder) -> Manifest | None:
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
    folder = order.data / recipe.data.folder
    plan = make_plan(recipe, folder)
    _check_folders(order)
    with joined_ranks(order.device) as ranks:
        say = order.say if ranks.first else _silent
        ranks.wait()  # until all have seen the folders as they were
        if ranks.first:
            _begin(order)
        encoder.to(ranks.device)
        material = Material(recipe, folder, order.work / "conditions", encoder, say)
        reports: list[SectionReport] = []
        for number, split in enumerate(plan.splits, 1):
            title = f"{split.name} ({number} of {len(plan.splits)})"
            say(f"{title}: training on {', '.join(split.train)}")
            done = [_kept(order, split, name) for name in split.test]
            if split.name != FINAL and all(done):
                say(f"{title}: done before")
                reports += [report for report in done if report is not None]
                continue
            panel, fitted = fit_split(order, plan, split, material, ranks, _teller(title, say))
            if not ranks.first:
                continue
            say(f"{title}: measuring") if split.test else None
            tested = _measure(order, plan, split, material, panel, fitted, ranks)
            for report in tested:
                say(_describe(report))
            reports += tested
        if not ranks.first:
            return None
        manifest = _write(order, plan.splits[-1], material, encoder, panel, fitted, reports)
        if reports:
            page, _ = write_report(
                reports, order.work / "report", recipe.manifest.title, _provenance(order)
            )
            say(f"Report: {page}")
    return manifest


def choose_genes(order: TrainingOrder, plan: Plan, split: Split, material: Material) -> list[str]:
    """Choose the panel: from the training sections, or by the `paper` protocol from all."""
    recipe = order.recipe
    names = plan.sections if recipe.protocol == "paper" else split.train
    counts = [material.section(name).counts for name in names]
    rule, file = recipe.panel.rule, recipe.panel_file(order.recipe_file)
    if rule == "file" or file is not None:
        assert file is not None  # the recipe was checked
        return read_panel(file, counts)
    return choose_panel(counts, recipe.panel.genes, rule=rule)


def fit_split(
    order: TrainingOrder,
    plan: Plan,
    split: Split,
    material: Material,
    ranks: Ranks,
    progress: Callable[[TrainingProgress], None] | None = None,
) -> tuple[list[str], Fitted]:
    """Choose the panel of a split and fit on its training sections."""
    recipe = order.recipe
    panel = choose_genes(order, plan, split, material)
    if ranks.first:
        for name in split.train:
            material.condition(name, augmented=True)
        for name in recipe.validation:
            material.condition(name)
    ranks.wait()
    sections = [_training(material, name, panel, augmented=True) for name in split.train]
    watched = [_training(material, name, panel) for name in recipe.validation]
    run = TrainingRun(
        order.work / split.name, _identity(recipe, split, panel, sections), ranks, progress
    )
    width = material.encoder.width
    groups = condition_groups(recipe.spec, width)
    return panel, fit(sections, groups, width, recipe.fit, run, watched)


def _training(
    material: Material, name: str, panel: list[str], *, augmented: bool = False
) -> TrainingSection:
    condition = material.condition(name, augmented=augmented)
    views = condition.views if augmented and len(condition.views) else None
    target = log_counts(material.section(name), panel)
    return TrainingSection(condition.spots, condition.lattice, target, views)


def _identity(
    recipe: Recipe, split: Split, panel: Sequence[str], sections: Sequence[TrainingSection]
) -> str:
    """Make what a checkpoint must agree with to be gone on from."""
    said = recipe.model_dump(mode="json", exclude={"manifest", "presets", "folds", "data"})
    training = said["training"]["denoiser"]
    for name in _HOW_TO_RUN:
        del training[name]
    if training["schedule"] == "constant":  # such a training may be made longer
        del training["steps"]
    sums = [(s.target.shape, float(s.target.sum(dtype=np.float64))) for s in sections]
    text = json.dumps([said, split.train, list(panel), sums], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _measure(
    order: TrainingOrder,
    plan: Plan,
    split: Split,
    material: Material,
    panel: list[str],
    fitted: Fitted,
    ranks: Ranks,
) -> list[SectionReport]:
    """Evaluate the sections that a split holds out; only now are they looked at."""
    recipe, found = order.recipe, []
    conditions = [material.condition(name).spots for name in split.train]
    targets = [log_counts(material.section(name), panel) for name in split.train]
    share = min(1.0, _BASELINE_SPOTS / sum(len(c) for c in conditions))
    rows = [evenly(len(c), max(2, round(share * len(c)))) for c in conditions]
    generator = fitted.generator.to(ranks.device)
    for name in split.test:
        section, seen = material.section(name), material.condition(name)
        genes = set(section.counts.var_names)
        columns = [i for i, gene in enumerate(panel) if gene in genes]
        if len(columns) < len(panel):
            log.warning(
                "%d genes of the panel are not measured in %s and are left out of its figures.",
                len(panel) - len(columns),
                name,
            )
        measured = np.zeros((len(seen.spots), len(panel)), np.float32)
        measured[:, columns] = log_counts(section, [panel[i] for i in columns])
        given = fold_input(
            name,
            panel,
            list(section.counts.obs_names),
            seen.x_um,
            seen.y_um,
            seen.spots,
            seen.lattice,
            measured,
            generator,
            fitted.schedule,
            fitted.bands,
            recipe.standard,
            [c[r] for c, r in zip(conditions, rows, strict=True)],
            [t[r] for t, r in zip(targets, rows, strict=True)],
            trained_on={n: plan.patients[n] for n in split.train},
            patient=plan.patients[name],
            protocol=recipe.protocol,
        )
        report = evaluate_section(_of_genes(given, columns))
        keep_report(report, _report_path(order, split, name), _recipe_hash(recipe))
        found.append(report)
    fitted.generator.cpu()
    return found


def _of_genes(given: EvaluationInput, columns: Sequence[int]) -> EvaluationInput:
    """Take the genes that were measured."""
    if len(columns) == len(given.symbols):
        return given
    at = list(columns)
    return replace(
        given,
        symbols=tuple(given.symbols[i] for i in at),
        measured=given.measured[:, at],
        predicted=given.predicted[:, at],
        samples=None if given.samples is None else given.samples[:, :, at],
        band=None if given.band is None else (given.band[0][:, at], given.band[1][:, at]),
        baselines={name: values[:, at] for name, values in given.baselines.items()},
    )


def _write(
    order: TrainingOrder,
    split: Split,
    material: Material,
    encoder: Encoder,
    panel: list[str],
    fitted: Fitted,
    reports: Sequence[SectionReport],
) -> Manifest:
    conditions = [material.condition(name) for name in split.train]
    spots = np.concatenate([c.spots for c in conditions])
    sections = {name: material.section(name) for name in split.train}
    target = np.concatenate([log_counts(section, panel) for section in sections.values()])
    aside = order.out.with_name(f".{order.out.name}.partial")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        manifest = write_model_folder(
            aside,
            order.recipe,
            fitted,
            encoder,
            panel,
            sections,
            fit_ridge(spots, target),
            [HeldOutResult.from_report(report) for report in reports],
            created=datetime.now(UTC).date().isoformat(),
            recipe_name=_recipe_name(order.recipe_file),
            patch_um=float(np.median([c.side_um[0] for c in conditions])),
        )
        if order.out.is_dir():
            order.out.rmdir()  # empty, as was seen to at the start
        aside.replace(order.out)
    except OSError as error:
        msg = (
            f"The model folder {order.out} cannot be written ({error.strerror or error}); make "
            "room and go on with --resume."
        )
        raise OutputError(msg) from error
    return manifest


def _check_folders(order: TrainingOrder) -> None:
    """See to it that nothing is there that would be lost."""
    if order.out.exists() and not (order.out.is_dir() and not any(order.out.iterdir())):
        msg = f"The model folder {order.out} is there already; name another one with --out."
        raise OutputError(msg)
    if (order.work / _RECORD).exists() and not order.resume:
        msg = (
            f"{order.work} holds a training already; go on with it by --resume, or name another "
            "folder with --work."
        )
        raise OutputError(msg)


def _begin(order: TrainingOrder) -> None:
    """Make the folders, and write down the recipe."""
    try:
        order.work.mkdir(parents=True, exist_ok=True)
        order.out.parent.mkdir(parents=True, exist_ok=True)
        text = order.recipe.model_dump_json(indent=1) + "\n"
        (order.work / _RECORD).write_text(text, encoding="utf-8")
    except OSError as error:
        msg = f"{order.work} cannot be written ({error.strerror or error}); name another folder."
        raise OutputError(msg) from error


def _kept(order: TrainingOrder, split: Split, name: str) -> SectionReport | None:
    """Read the figures of a fold that was done before."""
    if not order.resume:
        return None
    return kept_report(_report_path(order, split, name), _recipe_hash(order.recipe))


def _report_path(order: TrainingOrder, split: Split, name: str) -> Path:
    return order.work / split.name / f"held-out-{name}.json"


def _recipe_hash(recipe: Recipe) -> str:
    return hashlib.sha256(recipe.model_dump_json().encode()).hexdigest()


def _recipe_name(file: Path) -> str:
    """Name a recipe of the zoo by its place, another one by its file."""
    ours = Path(__file__).parent / "recipes"
    return f"zoo/recipes/{file.name}" if file.resolve().parent == ours else file.name


def _provenance(order: TrainingOrder) -> Mapping[str, str]:
    recipe = order.recipe
    return {
        "Recipe": f"{_recipe_name(order.recipe_file)}, protocol {recipe.protocol}",
        "Seed": str(recipe.training.denoiser.seed),
        "Encoders": ", ".join(recipe.encoders),
        "Date": datetime.now(UTC).date().isoformat(),
        "Program": f"stem-in-a-browser {version('stem-in-a-browser')}",
    }


def _describe(report: SectionReport) -> str:
    """Say how the model and the baselines did, a line each."""
    lines = []
    for name, m in [("Stem", report.figures), *report.baselines.items()]:
        row = (
            f"  {report.section} {name:13s} PCC-10/50/all {m['pcc_10']:.3f} {m['pcc_50']:.3f} "
            f"{m['pcc_all']:.3f}  MSE {m['mse']:.3f}  MAE {m['mae']:.3f}  RVD {m['rvd']:.3f}"
        )
        if name == "Stem":
            row += f"  CRPS {m['crps']:.3f}  in 90 % band {m['coverage_90']:.3f}"
        lines.append(row)
    return "\n".join(lines)


def _teller(title: str, say: Callable[[str], None]) -> Callable[[TrainingProgress], None]:
    """Make a line of each look at the training."""

    def tell(progress: TrainingProgress) -> None:
        figures = "".join(f", {name} {value:.3f}" for name, value in progress.figures.items())
        say(
            f"{title}: step {progress.step:,} of {progress.steps:,}, loss {progress.loss:.4f}"
            f"{figures}, {_duration(progress.left_s)} left"
        )

    return tell


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _silent(text: str) -> None:
    """Say nothing: the first process speaks."""
