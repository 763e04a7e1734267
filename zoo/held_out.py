"""Held-out figures of a training: kept as JSON for resuming, and as a model folder takes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stem_core.encoders.condition import Encoder
from stem_core.encoders.imported_encoder import imported_parts
from stem_core.evaluation.records import Difference, MethodReport, SectionReport
from stem_core.files import write_atomically
from stem_core.training.plan import Split
from stem_core.training.section_files import find_files
from zoo.training_order import TrainingOrder

__all__ = ["HeldOutResult", "keep_report", "kept_report", "report_key"]


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


def report_key(order: TrainingOrder, split: Split, encoder: Encoder) -> str:
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
        places += [part.file(name) for part in imported_parts(encoder)]
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
