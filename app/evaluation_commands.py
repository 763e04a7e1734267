"""What `stem evaluate` does: figures of a prediction by its measured section, and the report."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from app.commands import require_folder, write_text
from app.exit_codes import DONE
from app.terminal import Notes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stem_core.analysis.matching import Measured
    from stem_core.evaluation.records import SectionReport
    from stem_core.prediction.result import Prediction

__all__ = ["evaluate"]

LOG = logging.getLogger("app.evaluation_commands")

DRAWS_FILE = "draws.safetensors"


def evaluate(args: argparse.Namespace, stream: TextIO) -> int:
    """Compare a prediction with a measured section."""
    from stem_core.analysis.measured_files import read_measured
    from stem_core.evaluation.evaluate import evaluate_section
    from stem_core.evaluation.results import result_input
    from stem_core.prediction.result import read_prediction

    if args.json is not None:
        require_folder(args.json)
    notes = Notes(stream)
    with notes.listening():
        prediction = read_prediction(args.prediction)
        measured = read_measured(args.truth, prediction)
        for doubt in measured.doubts:
            LOG.warning("%s", doubt)
        samples, ridge = _kept_draws(args.prediction.parent / DRAWS_FILE, prediction)
        given = result_input(prediction, measured, samples=samples, ridge=ridge)
        report = evaluate_section(given)
        if args.report is not None:
            _write_report(args, prediction, measured, report)
        if args.json is not None:
            write_text(args.json, _figures_json(measured, report))
        elif args.report is None:
            sys.stdout.write(_figures_json(measured, report))
    notes.tell()
    return DONE


def _figures_json(measured: Measured, report: SectionReport) -> str:
    """Figures of the model at the top, None where they cannot be computed; then the baselines."""
    from stem_core.evaluation.figures import FIGURES
    from stem_core.evaluation.records import plain

    figures = {key: report.figures.get(key) for key in FIGURES}
    counts = {key: getattr(report, key) for key in ("n_spots", "n_genes", "n_constant_genes")}
    said = {
        "section": report.section,
        "matched_by": measured.matched_by,
        "left_out": report.left_out,
        "warnings": report.notes,
        "baselines": report.baselines,
    }
    return json.dumps(plain(figures | counts | said), indent=2, allow_nan=False) + "\n"


def _write_report(
    args: argparse.Namespace, prediction: Prediction, measured: Measured, report: SectionReport
) -> None:
    """Write the report, and say where it is and in what baselines are better."""
    from importlib.metadata import version

    from stem_core.evaluation.report import write_report
    from stem_core.evaluation.summary import verdicts

    model = prediction.run.get("model")
    name = str(model.get("name", "")) if isinstance(model, dict) else str(model or "")
    page, _ = write_report(
        [report],
        args.report,
        f"{name or 'Prediction'} on {report.section}",
        {
            "prediction": args.prediction.name,
            "measured section": args.truth.name,
            "slide": prediction.slide_name,
            "spots matched by": measured.matched_by,
            "model": name,
            "sampling": _sampling(prediction.run),
            "evaluated": datetime.now(UTC).date().isoformat(),
            "program": f"stem-in-a-browser {version('stem-in-a-browser')}",
        },
    )
    print(f"Compared {report.n_genes} genes at {report.n_spots} spots: {page}")
    for sentence in verdicts(report):
        print(f"- {sentence}")


def _kept_draws(
    path: Path, prediction: Prediction
) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]:
    """Return the independent draws (N,K,G) and the ridge baseline (N,G) that a run kept."""
    import numpy as np
    from safetensors.numpy import load_file

    from app.jobs.draws_file import find_draws
    from stem_core.diffusion.samplers import SAMPLERS

    kept = find_draws(path)
    if kept is None or kept.shape != prediction.mean.shape:
        return None, None
    arrays = load_file(path)
    count = kept.count
    sampler = SAMPLERS.get(str(prediction.run.get("sampler")))
    if sampler is not None and sampler.paired:  # the first of each pair come first
        count = min(count, kept.made // 2)
    samples = arrays["draws"][:count].transpose(2, 0, 1).astype(np.float32)
    ridge = kept.baseline() if kept.has_baseline else None
    return samples, ridge


def _sampling(run: dict[str, Any]) -> str:
    parts = [
        f"{name} {run[name]}" for name in ("sampler", "steps", "samples", "seed") if name in run
    ]
    return ", ".join(parts) or "not told"
