"""What the reports of several sections say together, in figures and in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stem_core.evaluation.figures import FIGURES, better, method_name, shown
from stem_core.evaluation.intervals import over_sections
from stem_core.evaluation.records import Difference, Kind, SectionReport

__all__ = [
    "LEFT_OUT",
    "LEFT_OUT_MEANS",
    "PROTOCOLS",
    "MethodSummary",
    "Standing",
    "losses",
    "standings",
    "summarise",
    "verdicts",
]

MAIN_FIGURES = ("pcc_all", "pcc_50_fixed", "mse", "mae", "crps", "rvd")
_CHANCE = {True: "beyond chance in", False: "within chance in", None: "in"}
LEFT_OUT = {
    "patient": "patient left out",
    "section": "section left out",
    "training": "trained on this section",
    "": "not known whether trained on this section",
}
LEFT_OUT_MEANS = {
    "patient": "no section of this patient was trained on",
    "section": "trained on other sections of the same patient, or of patients not told apart, so "
    "figures may be too good for a new patient",
    "training": "the model learned from this very section, so its figures say nothing about others",
    "": "the training sections are not recorded, or none is named as the slide or the measured "
    "file are, and files can be called anything",
}
PROTOCOLS = {
    "strict": "strict protocol: no count of a held-out section was used before it was predicted, "
    "not even to choose the panel",
    "paper": "the publication's protocol: held-out sections helped to choose the panel",
    "": "protocol not known",
}


@dataclass(frozen=True)
class MethodSummary:
    """A method over all sections.

    Attributes
    ----------
    name, kind
        As in `MethodReport`.
    figures
        Mean over the sections that have the figure.
    intervals
        95 % bootstrap interval over sections, where there are at least two.
    """

    name: str
    kind: Kind
    figures: dict[str, float]
    intervals: dict[str, tuple[float, float]]


def summarise(reports: Sequence[SectionReport]) -> list[MethodSummary]:
    """Average every method over sections, in the order of the first report."""
    names: dict[str, Kind] = {}
    for report in reports:
        for method in report.methods:
            names.setdefault(method.name, method.kind)
    summaries = []
    for name, kind in names.items():
        figures: dict[str, float] = {}
        intervals: dict[str, tuple[float, float]] = {}
        found = [m.figures for report in reports for m in report.methods if m.name == name]
        for key in FIGURES:
            values = [each[key] for each in found if key in each]
            if not values:
                continue
            figures[key], interval = over_sections(values)
            if interval is not None:
                intervals[key] = interval
        summaries.append(MethodSummary(name, kind, figures, intervals))
    return summaries


@dataclass(frozen=True)
class Standing:
    """How the model stands against a baseline in a figure: numbers of sections.

    Attributes
    ----------
    figure, baseline
        Key and name.
    sections
        That have the figure for both.
    better, worse
        Where the model, and where the baseline, is better.
    surely_better, surely_worse
        Of these, those whose interval of the difference leaves out 0.
    """

    figure: str
    baseline: str
    sections: int
    better: int
    surely_better: int
    worse: int
    surely_worse: int


def standings(
    reports: Sequence[SectionReport], figures: Sequence[str] = MAIN_FIGURES
) -> list[Standing]:
    """Count on how many sections the model is better, and worse, than each baseline."""
    counted = []
    for key in figures:
        for name in dict.fromkeys(name for report in reports for name in report.baselines):
            found = [
                difference
                for report in reports
                for difference in report.differences
                if (difference.baseline, difference.figure) == (name, key)
            ]
            if found:
                wins = [d for d in found if d.winner == "model"]
                losses = [d for d in found if d.winner == "baseline"]
                counted.append(
                    Standing(
                        key,
                        name,
                        len(found),
                        len(wins),
                        sum(bool(d.certain) for d in wins),
                        len(losses),
                        sum(bool(d.certain) for d in losses),
                    )
                )
    return counted


def verdicts(report: SectionReport) -> list[str]:
    """Say in words where a baseline is better than the model on a section.

    Returns
    -------
    list of str
        A sentence for each baseline that is better in anything, such as "kNN is better than the
        model on C5 within chance in MSE (0.923 against 0.933)."; a single one if none is.
    """
    said = []
    for name, theirs in report.baselines.items():
        lost = losses(report, name)
        parts = []
        for certain, words in _CHANCE.items():
            found = [
                f"{FIGURES[d.figure].name} ({shown(theirs[d.figure])} against "
                f"{shown(report.figures[d.figure])})"
                for d in lost
                if d.certain is certain
            ]
            if found:
                parts.append(f"{words} {_joined(found)}")
        if parts:
            who = f"{method_name(name)} is better than the model on {report.section}"
            said.append(f"{who} {'; '.join(parts)}.")
    if not said and report.baselines:
        said.append(f"No baseline is better than the model in any figure on {report.section}.")
    return said + _of_one_draw(report)


def losses(report: SectionReport, baseline: str) -> list[Difference]:
    """Differences in which a baseline is better than the model."""
    return [d for d in report.differences if d.baseline == baseline and d.winner == "baseline"]


def _of_one_draw(report: SectionReport) -> list[str]:
    """Say where a single draw is better than the model's mean and every baseline."""
    draw = next((m.figures for m in report.methods if m.name == "one draw"), None)
    if draw is None:
        return []
    others = [report.figures, *report.baselines.values()]
    found = [
        f"{figure.name} ({shown(draw[key])})"
        for key, figure in FIGURES.items()
        if key in draw
        and all(better(figure, draw[key], other[key]) for other in others if key in other)
    ]
    if not found:
        return []
    return [
        f"One draw of the model is nearer to the tissue on {report.section} than its mean and "
        f"every baseline in {_joined(found)}; its PCC-all is {shown(draw.get('pcc_all'))}."
    ]


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
