"""`stem evaluate`: metrics of a prediction against its measured section, and the report."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.commands.options import Json, OptionalOut
from app.commands.outputs import require_folder, write_text
from app.terminal import DONE, Terminal, TerminalOptions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stem_core.analysis.matching import Measured
    from stem_core.evaluation.records import SectionReport
    from stem_core.prediction.result import Prediction

__all__ = ["evaluate"]

LOG = logging.getLogger("app.commands.evaluation")

DRAWS_FILE = "draws.safetensors"
_TABLE = ("pcc_10", "pcc_50", "pcc_all", "spearman_all", "mse", "mae", "crps", "rvd", "coverage_90")


def evaluate(
    prediction: Path,
    /,
    *,
    truth: Path,
    report: Path | None = None,
    out: OptionalOut = None,
    as_json: Json = False,
    terminal: TerminalOptions = Terminal(),
) -> int:
    """Compare a prediction with a measured section.

    Parameters
    ----------
    prediction
        File prediction.h5ad of a result.
    truth
        Measured raw counts: an h5ad, or Space Ranger's outs as a folder or a zip.
    report
        Folder for report.html and report.json.
    out
        JSON file to write all metrics to.
    as_json
        Print JSON instead of the table.
    """
    from stem_core.analysis.measured_files import read_measured
    from stem_core.evaluation.evaluate import evaluate_section
    from stem_core.evaluation.results import result_input
    from stem_core.prediction.result import read_prediction

    if out is not None:
        require_folder(out)
    predicted = read_prediction(prediction)
    measured = read_measured(truth, predicted)
    for doubt in measured.doubts:
        LOG.warning("%s", doubt)
    samples, ridge = _kept_draws(prediction.parent / DRAWS_FILE, predicted)
    section = evaluate_section(result_input(predicted, measured, samples=samples, ridge=ridge))
    page = None
    if report is not None:
        page = _write_report(report, (prediction.name, truth.name), predicted, measured, section)
    text = _metrics_json(measured, section)
    if out is not None:
        write_text(out, text)
    if as_json:
        print(text, end="")
    else:
        terminal.say(_summary(section, page))
    return DONE


def _summary(report: SectionReport, page: Path | None) -> str:
    """Set out the main metrics as text, and say in what baselines are better."""
    from stem_core.evaluation.figures import FIGURES, method_name, shown
    from stem_core.evaluation.summary import verdicts

    where = f": {page}" if page is not None else f" of {report.section}."
    names = ["model", *map(method_name, report.baselines)]
    rows = [["", *names]]
    for key in _TABLE:
        figure = FIGURES[key]
        values = [report.figures.get(key), *(b.get(key) for b in report.baselines.values())]
        if values[0] is not None:
            name = f"{figure.name}, {figure.unit}" if figure.unit else figure.name
            rows.append([name, *map(shown, values)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [f"Compared {report.n_genes} genes at {report.n_spots} spots{where}", ""]
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join([*lines, "", *(f"- {sentence}" for sentence in verdicts(report))])


def _metrics_json(measured: Measured, report: SectionReport) -> str:
    """Metrics of the model at the top, null where they cannot be computed; then the baselines."""
    from stem_core.evaluation.figures import FIGURES
    from stem_core.evaluation.records import plain

    figures = {key: report.figures.get(key) for key in FIGURES}
    counts = {key: getattr(report, key) for key in ("n_spots", "n_genes", "n_constant_genes")}
    facts = {
        "section": report.section,
        "matched_by": measured.matched_by,
        "left_out": report.left_out,
        "warnings": report.notes,
        "baselines": report.baselines,
    }
    return json.dumps(plain(figures | counts | facts), indent=2, allow_nan=False) + "\n"


def _write_report(
    folder: Path,
    names: tuple[str, str],
    prediction: Prediction,
    measured: Measured,
    report: SectionReport,
) -> Path:
    """Write the report and return its page; `names` are those of prediction and truth."""
    from importlib.metadata import version

    from stem_core.evaluation.report import write_report

    model = prediction.run.get("model")
    name = str(model.get("name", "")) if isinstance(model, dict) else str(model or "")
    page, _ = write_report(
        [report],
        folder,
        f"{name or 'Prediction'} on {report.section}",
        {
            "prediction": names[0],
            "measured section": names[1],
            "slide": prediction.slide_name,
            "spots matched by": measured.matched_by,
            "model": name,
            "sampling": _sampling(prediction.run),
            "evaluated": datetime.now(UTC).date().isoformat(),
            "program": f"stem-in-a-browser {version('stem-in-a-browser')}",
        },
    )
    return page


def _kept_draws(
    path: Path, prediction: Prediction
) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]:
    """Return the independent draws (N,K,G) and the ridge baseline (N,G) that a run kept."""
    import numpy as np
    from safetensors.numpy import load_file

    from app.jobs.draws_file import find_draws
    from stem_core.prediction.settings import SAMPLERS

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
    return ", ".join(parts) or "not known"
