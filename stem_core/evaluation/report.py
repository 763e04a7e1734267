"""Write the report of evaluated sections: one HTML page and one JSON file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from stem_core.evaluation.records import SectionReport

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
    raise NotImplementedError
