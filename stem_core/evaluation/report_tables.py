"""The tables of the report page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from stem_core.evaluation.figures import FIGURES, Figure, better, method_name, shown
from stem_core.evaluation.records import MethodReport, SectionReport
from stem_core.evaluation.summary import MethodSummary, losses, standings

__all__ = ["figures_table", "genes_table", "losses_table", "standings_table"]

_GROUPS = {
    "correlation": "Correlation over spots",
    "composition": "Composition: which RNA",
    "error": "Error and variance",
    "pattern": "Pattern in space and between genes",
    "zeros": "Spots without a count",
    "draws": "Draws and band",
}
_STYLES = {"model": "own", "baseline": "baseline", "depth": "draws", "draws": "draws"}
_GENE_COLUMNS = {
    "pcc": ("PCC", ""),
    "spearman": ("Spearman", ""),
    "rvd": ("RVD", ""),
    "mse": ("MSE", FIGURES["mse"].unit),
    "mean_measured": ("mean measured", FIGURES["mae"].unit),
    "mean_predicted": ("mean predicted", FIGURES["mae"].unit),
    "moran_measured": ("Moran's I measured", ""),
    "moran_predicted": ("Moran's I predicted", ""),
    "zeros_measured": ("zeros measured", "share of spots"),
    "zeros_predicted": ("zeros predicted", "share of spots"),
    "coverage_90": ("in the 90 % band", "share of spots"),
}


def losses_table(reports: Sequence[SectionReport]) -> str:
    """Name the figures in which each baseline is better, section by section."""
    names = list(dict.fromkeys(name for report in reports for name in report.baselines))
    if not names:
        return "<p>No baselines were given.</p>"
    tags = {True: "b", False: "span", None: "i"}
    rows = []
    for report in reports:
        cells = []
        for name in names:
            found = sorted(losses(report, name), key=lambda d: list(tags).index(d.certain))
            told = ", ".join(
                f"<{tags[d.certain]}>{escape(FIGURES[d.figure].name)}</{tags[d.certain]}>"
                for d in found
            )
            cells.append(f"<td>{told or 'in nothing'}</td>")
        rows.append(f"<tr><th class='row'>{escape(report.section)}</th>{''.join(cells)}</tr>")
    head = "".join(f"<th>{escape(method_name(name))} is better in</th>" for name in names)
    return (
        f'<div class="scroll"><table class="words"><thead><tr><th>section</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def standings_table(reports: Sequence[SectionReport]) -> str:
    """Write on how many sections the model is better than each baseline."""
    found = standings(reports)
    names = list(dict.fromkeys(s.baseline for s in found))
    head = "".join(f"<th>than {escape(method_name(name))}</th>" for name in names)
    rows = []
    for key in dict.fromkeys(s.figure for s in found):
        cells = []
        for name in names:
            s = next((s for s in found if (s.figure, s.baseline) == (key, name)), None)
            if s is None:
                cells.append("<td>–</td>")
                continue
            style = " class='worse'" if s.worse > s.better else ""
            cells.append(
                f"<td{style}>{s.better} of {s.sections}<small>{s.surely_better} beyond chance"
                + (f"; worse: {s.surely_worse}" if s.surely_worse else "")
                + "</small></td>"
            )
        rows.append(f"<tr><th class='row'>{escape(FIGURES[key].name)}</th>{''.join(cells)}</tr>")
    return (
        f'<div class="scroll"><table><thead><tr><th>figure</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def figures_table(methods: Sequence[MethodReport | MethodSummary]) -> str:
    """Figures down, methods across, the best of model and baselines marked."""
    head = "".join(
        f"<th class='{_STYLES[m.kind]}'>{escape(method_name(m.name))}</th>" for m in methods
    )
    rows, group = [], ""
    for key, figure in FIGURES.items():
        if not any(key in m.figures for m in methods):
            continue
        if figure.group != group:
            group = figure.group
            rows.append(
                f"<tr><th class='group' colspan='{len(methods) + 1}'>{_GROUPS[group]}</th></tr>"
            )
        winner = _winner(figure, methods)
        rows.append(
            f"<tr><th class='row' title='{escape(figure.what)}'>{escape(figure.name)}"
            f"{_wish(figure)}{_unit(figure.unit)}</th>"
            f"{''.join(_cell(m, key, m.name == winner) for m in methods)}</tr>"
        )
    return (
        f'<div class="scroll"><table><thead><tr><th>figure</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _unit(unit: str) -> str:
    return f"<small>{escape(unit)}</small>" if unit else ""


def _wish(figure: Figure) -> str:
    if isinstance(figure.wanted, str):
        sign = {"high": "↑", "low": "↓"}[figure.wanted]
    else:
        sign = f"→ {figure.wanted:g}"
    return f" <span class='quiet'>{sign}</span>"


def _cell(method: MethodReport | MethodSummary, key: str, best: bool) -> str:
    style = "best" if best else _STYLES[method.kind]
    if key not in method.figures:
        return f"<td class='{style}'>–</td>"
    small = ""
    low, high = method.intervals.get(key, (0.0, 0.0))
    if low < high:
        small = f"<small>{shown(low)} – {shown(high)}</small>"
    told = " aria-label='best'" if best else ""
    return f"<td class='{style}'{told}>{shown(method.figures[key])}{small}</td>"


def _winner(figure: Figure, methods: Sequence[MethodReport | MethodSummary]) -> str | None:
    """Name the best of model and baselines, none where only one has the figure."""
    able = [m for m in methods if m.kind in ("model", "baseline") and figure.key in m.figures]
    if len(able) < 2:
        return None
    best = able[0]
    for method in able[1:]:
        if better(figure, method.figures[figure.key], best.figures[figure.key]):
            best = method
    return best.name


def genes_table(report: SectionReport) -> str:
    """Write the figures of every gene, folded up, the best correlated first."""
    columns = [name for name in _GENE_COLUMNS if name in report.genes]
    head = "".join(
        f"<th>{escape(title)}{_unit(unit)}</th>"
        for title, unit in (_GENE_COLUMNS[name] for name in columns)
    )
    pcc = np.array(report.genes["pcc"], dtype=np.float64)
    order = np.argsort(-np.where(np.isfinite(pcc), pcc, -2.0), kind="stable").tolist()
    rows = "".join(
        f"<tr><th class='row'>{escape(str(report.genes['symbol'][i]))}</th>"
        + "".join(f"<td>{_number(report.genes[name][i])}</td>" for name in columns)
        + "</tr>"
        for i in order
    )
    return (
        f"<details><summary>All {report.n_genes:,} genes</summary><div class='scroll'><table>"
        f"<thead><tr><th>gene</th>{head}</tr></thead><tbody>{rows}</tbody></table></div></details>"
    )


def _number(value: float | None) -> str:
    return shown(None if value is None or not np.isfinite(value) else value)
