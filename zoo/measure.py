"""Test what was trained on the sections it never saw, beside baselines on the same embeddings."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from stem_core.errors import EvaluationError
from stem_core.evaluation.evaluate import evaluate_section
from stem_core.evaluation.fold import fold_input
from stem_core.evaluation.records import EvaluationInput, SectionReport
from stem_core.training.fit import Fitted
from stem_core.training.hest import log_counts, panel_columns
from stem_core.training.plan import Plan, Split
from zoo.held_out import keep_report, report_key
from zoo.material import Material
from zoo.training_order import TrainingOrder

__all__ = ["describe_report", "measure_split"]

log = logging.getLogger(__name__)


def measure_split(
    order: TrainingOrder,
    plan: Plan,
    split: Split,
    material: Material,
    panel: list[str],
    fitted: Fitted,
    device: torch.device,
) -> list[SectionReport]:
    """Evaluate the sections that a split holds out; only now are they looked at.

    Parameters
    ----------
    order, plan, split
        Of the training.
    material
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
    conditions = [material.condition(name) for name in split.train]
    targets = [log_counts(material.section(name), panel) for name in split.train]
    key = report_key(order, split, material.encoder)
    generator = fitted.generator.to(device)
    for name in split.test:
        section, seen = material.section(name), material.condition(name)
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
