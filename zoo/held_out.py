"""Held-out figures of a training: kept as JSON for resuming, and as a model folder takes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stem_core.errors import OutputError
from stem_core.evaluation.records import Difference, MethodReport, SectionReport
from stem_core.files import written_whole

__all__ = ["HeldOutResult", "keep_report", "kept_report"]


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


def keep_report(report: SectionReport, path: Path, recipe: str) -> None:
    """Write a report for resuming; `recipe` is the hash of the recipe it belongs to.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as aside:
            aside.write_text(json.dumps({"recipe": recipe, "report": report.to_dict()}), "utf-8")
    except OSError as error:
        msg = (
            f"The figures {path} cannot be written ({error.strerror or error}); free space there "
            "and go on with --resume."
        )
        raise OutputError(msg) from error


def kept_report(path: Path, recipe: str) -> SectionReport | None:
    """Read a report again; None where there is none of this recipe."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["recipe"] != recipe:
            return None
        said = dict(kept["report"])
        said["methods"] = tuple(MethodReport(**method) for method in said["methods"])
        said["differences"] = tuple(Difference(**found) for found in said["differences"])
        return SectionReport(**said)
    except (OSError, ValueError, KeyError, TypeError):
        return None
