"""Test what was trained on the sections it never saw, beside baselines on the same embeddings."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stem_core.encoders.imported_encoder import EmbeddingSource, ImportedEncoders
from stem_core.errors import EvaluationError
from stem_core.evaluation.evaluate import evaluate_section
from stem_core.evaluation.fold import fold_input
from stem_core.evaluation.records import Difference, EvaluationInput, MethodReport, SectionReport
from stem_core.files import write_atomically
from stem_core.training.fit import TrainedModel
from stem_core.training.hest import log_counts, panel_columns
from stem_core.training.plan import Plan, Split
from stem_core.training.section_files import find_files
from stem_core.training.section_store import SectionStore
from stem_core.training.training_order import TrainingOrder

__all__ = [
    "HeldOutResult",
    "describe_report",
    "keep_report",
    "kept_report",
    "measure_split",
    "report_key",
]

log = logging.getLogger(__name__)


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
    conditions = [store.condition(name) for name in split.train]
    targets = [log_counts(store.section(name), panel) for name in split.train]
    key = report_key(order, split, store.encoder)
    generator = fitted.generator.to(device)
    for name in split.test:
        section, seen = store.section(name), store.condition(name)
        columns = panel_columns(name, section.counts.var_names, panel)
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
            [c.spots for c in conditions],
            targets,
            [np.column_stack([c.x_um, c.y_um]) for c in conditions],
            trained_on={n: plan.patients[n] for n in split.train},
            patient=plan.patients[name],
            protocol=recipe.protocol,
        )
        report = evaluate_section(_of_genes(given, columns))
        if "pcc_all" not in report.figures:
            msg = f"{name}: {report.notes[-1]}"
            raise EvaluationError(msg)
        keep_report(report, order.report_path(split, name), key)
        found.append(report)
    fitted.generator.cpu()
    return found


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
