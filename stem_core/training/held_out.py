"""Test what was trained on the sections it never saw, beside baselines on the same embeddings."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from stem_core.encoders.imported_embeddings import EmbeddingSource, ImportedEncoders
from stem_core.errors import EvaluationError
from stem_core.evaluation.baseline_choice import choose_baselines
from stem_core.evaluation.baselines import BASELINES, predict_baseline, rank_genes
from stem_core.evaluation.evaluate import evaluate_section
from stem_core.evaluation.records import Difference, EvaluationInput, MethodReport, SectionReport
from stem_core.files import write_atomically
from stem_core.prediction.sampling import draw_expression, spread
from stem_core.prediction.settings import SamplingSettings
from stem_core.training.fit import TrainedModel
from stem_core.training.hest import log_counts, panel_columns
from stem_core.training.plan import Plan, Split
from stem_core.training.section_files import find_files
from stem_core.training.section_store import SectionStore
from stem_core.training.training_order import TrainingOrder

__all__ = [
    "DRAWS",
    "FoldSection",
    "HeldOutResult",
    "describe_report",
    "held_out_input",
    "keep_report",
    "kept_report",
    "measure_split",
    "report_key",
]

log = logging.getLogger(__name__)
Array = NDArray[np.float32]

DRAWS = 20  # independent draws of each spot: as many as the publication takes


def measure_split(
    order: TrainingOrder,
    plan: Plan,
    split: Split,
    store: SectionStore,
    panel: list[str],
    fitted: TrainedModel,
    device: torch.device,
) -> list[SectionReport]:
    """Evaluate the sections that a split holds out; only now are they looked at.

    Parameters
    ----------
    order, plan, split
        Of the training.
    store
        Its sections.
    panel, fitted
        What it learned.
    device
        Where to draw.

    Raises
    ------
    SectionError
        A held-out section cannot be used.
    EvaluationError
        No gene of a held-out section can be correlated.
    OutputError
        The figures cannot be kept.
    """
    recipe, found = order.recipe, []

    def of_fold(name: str, target: Array) -> FoldSection:
        seen = store.condition(name)
        return FoldSection(
            name, plan.patients[name], list(store.section(name).counts.obs_names),
            np.column_stack([seen.x_um, seen.y_um]), seen.spots, seen.lattice, target,
        )  # fmt: skip

    training = [of_fold(name, log_counts(store.section(name), panel)) for name in split.train]
    key = report_key(order, split, store.encoder)
    fitted.generator.to(device)
    for name in split.test:
        section = store.section(name)
        columns = panel_columns(name, section.counts.var_names, panel)
        if len(columns) < len(panel):
            log.warning(
                "%d genes of the panel are not measured in %s and are left out of its figures.",
                len(panel) - len(columns),
                name,
            )
        measured = np.zeros((section.counts.n_obs, len(panel)), np.float32)
        measured[:, columns] = log_counts(section, [panel[i] for i in columns])
        given = held_out_input(
            fitted, panel, of_fold(name, measured), training, recipe.standard,
            protocol=recipe.protocol,
        )  # fmt: skip
        report = evaluate_section(_of_genes(given, columns))
        if "pcc_all" not in report.figures:
            msg = f"{name}: {report.notes[-1]}"
            raise EvaluationError(msg)
        keep_report(report, order.report_path(split, name), key)
        found.append(report)
    fitted.generator.cpu()
    return found


@dataclass(frozen=True)
class FoldSection:
    """A measured section as the evaluation of a fold takes it.

    Attributes
    ----------
    name, patient
        Of the section, and whose it is.
    spot_ids
        Names of the N spots, which decide the noise.
    positions_um
        (N,2).
    condition, lattice
        Of its spots (N,C), and all over its tissue (M,C).
    target
        (N,G), log2(1 + count).
    """

    name: str
    patient: str
    spot_ids: Sequence[str]
    positions_um: NDArray[np.float64]
    condition: Array
    lattice: Array
    target: Array


@torch.inference_mode()
def held_out_input(
    fitted: TrainedModel,
    symbols: Sequence[str],
    held_out: FoldSection,
    training: Sequence[FoldSection],
    settings: SamplingSettings,
    *,
    protocol: Literal["strict", "paper", ""] = "strict",
    draws: int = DRAWS,
) -> EvaluationInput:
    """Predict a held-out section by the fold's model and by every baseline.

    Parameters
    ----------
    fitted
        What the fold learned; it predicts on the device that its generator is on.
    symbols
        The panel, G genes.
    held_out, training
        The section to predict, and those that were learned from; baselines learn from the same
        condition.
    settings
        Of the prediction itself: the model's standard preset.
    protocol
        As in `EvaluationInput`.
    draws
        Independent single draws of each spot, besides the preset's own: for what single draws are
        judged by (CRPS, calibration, variance, pattern).
    """
    generator = fitted.generator
    device = next(generator.parameters()).device
    given = torch.from_numpy(held_out.condition).to(device)
    level = generator.slide_level(torch.from_numpy(held_out.lattice).to(device))
    mean = generator.regression_mean(given, level)

    def draw(how: SamplingSettings) -> Array:
        drawn = draw_expression(generator, fitted.schedule, given, mean, held_out.spot_ids, how)
        out: Array = drawn.cpu().numpy()
        return out

    samples = draw(settings)
    predicted, std = samples.mean(1), spread(samples, settings)
    low, high = fitted.bands.around(predicted, std, level.doubt)
    # Opposite noises of one index would make pairs too different, so one of each pair is taken.
    step = 2 if settings.paired else 1
    single = draw(
        SamplingSettings(settings.sampler, settings.steps, step * draws, settings.seed + 1)
    )[:, ::step]
    conditions, targets = [s.condition for s in training], [s.target for s in training]
    seen, target = np.concatenate(conditions), np.concatenate(targets)
    chosen = choose_baselines(conditions, targets, [s.positions_um for s in training])
    x_um, y_um = held_out.positions_um.T
    return EvaluationInput(
        section=held_out.name,
        symbols=tuple(symbols),
        x_um=x_um,
        y_um=y_um,
        measured=held_out.target,
        predicted=predicted.clip(0),
        samples=single.clip(0),
        band=(low, high),  # not cut off at 0: the calibration curve scales it
        baselines={
            name: predict_baseline(name, seen, target, held_out.condition, chosen.settings).clip(0)
            for name in BASELINES
        },
        spreads=chosen.spreads,
        baseline_settings=chosen.by_name,
        baselines_chosen=chosen.how,
        patient=held_out.patient,
        trained_on={section.name: section.patient for section in training},
        protocol=protocol,
        ranked_genes=rank_genes(conditions, targets, symbols, chosen.settings.ridge_penalty),
    )


def describe_report(report: SectionReport) -> str:
    """Say how the model and the baselines did, a line each."""
    lines = []
    for name, m in [("Stem", report.figures), *report.baselines.items()]:
        row = (
            f"  {report.section} {name:13s} PCC-10/50/all {m['pcc_10']:.3f} {m['pcc_50']:.3f} "
            f"{m['pcc_all']:.3f}  MSE {m['mse']:.3f}  MAE {m['mae']:.3f}  RVD {m['rvd']:.3f}"
        )
        if "crps" in m:
            row += f"  CRPS {m['crps']:.3f}"
        if "coverage_90" in m:
            row += f"  in 90 % band {m['coverage_90']:.3f}"
        lines.append(row)
    return "\n".join(lines)


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
        spreads={name: values[at] for name, values in given.spreads.items()},
    )


_ALL_DIGITS = 17  # that a float has


@dataclass(frozen=True)
class HeldOutResult:
    """What a model folder says of one held-out section.

    Attributes
    ----------
    section, trained_on, n_spots
        Its name, the sections of that training, and how many spots were compared.
    figures, baselines
        By the keys of `stem_core.evaluation.figures.FIGURES`; baselines by name.
    genes
        Symbol -> held-out PCC and RVD, None where they cannot be computed.
    """

    section: str
    trained_on: tuple[str, ...]
    n_spots: int
    figures: Mapping[str, float | None]
    baselines: Mapping[str, Mapping[str, float | None]]
    genes: Mapping[str, tuple[float | None, float | None]]

    @classmethod
    def from_report(cls, report: SectionReport) -> HeldOutResult:
        """Take from the report of the section what the folder needs."""
        columns = (report.genes[name] for name in ("symbol", "pcc", "rvd"))
        genes = {str(s): (pcc, rvd) for s, pcc, rvd in zip(*columns, strict=True)}
        return cls(
            report.section,
            tuple(report.trained_on),
            report.n_spots,
            report.figures,
            report.baselines,
            genes,
        )


def report_key(order: TrainingOrder, split: Split, encoder: EmbeddingSource) -> str:
    """Return what the reports of a split hang on: recipe, encoder's weights, files of the sections.

    Files count by place, size and time of change, so that held-out ones are not opened.
    """
    recipe, folder = order.recipe, order.sections
    names = sorted({*split.train, *split.test, *recipe.validation})
    said: list[Any] = [recipe.model_dump(mode="json"), encoder.sha256]
    if (genes := recipe.panel_file(order.recipe_file)) is not None:
        said.append(genes.read_text(encoding="utf-8", errors="replace"))
    for name in names:
        places = find_files(folder, name).all_files()
        if isinstance(encoder, ImportedEncoders):
            places += [part.file(name) for part in encoder.parts]
        for place in places:
            if place.is_file():
                seen = place.stat()
                said.append((place.as_posix(), seen.st_size, seen.st_mtime_ns))
    return hashlib.sha256(json.dumps(said, allow_nan=False).encode()).hexdigest()


def keep_report(report: SectionReport, path: Path, key: str) -> None:
    """Write a report for resuming; `key` says what it hangs on.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    text = json.dumps({"key": key, "report": report.to_dict(_ALL_DIGITS)}, allow_nan=False)
    advice = "Free space there and continue with --resume."
    write_atomically(path, text, advice=advice, parents=True)


def kept_report(path: Path, key: str) -> SectionReport | None:
    """Read a report again; None where there is none of this key."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["key"] != key:
            return None
        said = dict(kept["report"])
        said["methods"] = tuple(MethodReport(**method) for method in said["methods"])
        said["differences"] = tuple(Difference(**found) for found in said["differences"])
        return SectionReport(**said)
    except (OSError, ValueError, KeyError, TypeError):
        return None
