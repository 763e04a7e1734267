"""Write the report of evaluated sections: one HTML page and one JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from stem_core.constants import NOTICE
from stem_core.evaluation.figures import FIGURES
from stem_core.evaluation.records import SectionReport, plain
from stem_core.evaluation.report_page import report_page
from stem_core.evaluation.summary import (
    LEFT_OUT,
    LEFT_OUT_MEANS,
    PROTOCOLS,
    standings,
    summarise,
    verdicts,
)
from stem_core.files import write_atomically

__all__ = ["write_report"]


def write_report(
    reports: Sequence[SectionReport], out_dir: Path, title: str, provenance: Mapping[str, str]
) -> tuple[Path, Path]:
    """Write `report.html`, which needs no network, and `report.json` with all figures.

    Parameters
    ----------
    reports
        One of each section.
    out_dir
        The folder; made where it does not exist.
    title
        Such as the model's name.
    provenance
        What was evaluated, and how: shown as it is, in the order given (recipe, seed, data, date,
        program version).

    Returns
    -------
    tuple of Path
        The two files.

    Raises
    ------
    OutputError
        The files cannot be written.
    """
    page, data = out_dir / "report.html", out_dir / "report.json"
    record = {
        "notice": NOTICE,
        "title": title,
        "provenance": dict(provenance),
        "figures": {
            key: {"name": f.name, "unit": f.unit, "wanted": f.wanted, "what": f.what}
            for key, f in FIGURES.items()
        },
        "words": {
            report.section: {
                "protocol": PROTOCOLS[report.protocol],
                "left_out": f"{LEFT_OUT[report.left_out]}: {LEFT_OUT_MEANS[report.left_out]}",
                "verdicts": verdicts(report),
            }
            for report in reports
        },
        "over_sections": plain([asdict(summary) for summary in summarise(reports)]),
        "standings": [asdict(standing) for standing in standings(reports)],
        "sections": [report.to_dict() for report in reports],
    }
    write_atomically(page, report_page(reports, title, provenance), parents=True)
    text = json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(data, text, parents=True)
    return page, data
