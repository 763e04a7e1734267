"""The report as one HTML page that needs nothing else: no network, no script."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

import numpy as np

from stem_core.evaluation.figures import FIGURES, Figure, better, method_name, shown
from stem_core.evaluation.records import MethodReport, SectionReport
from stem_core.evaluation.report_charts import section_charts
from stem_core.evaluation.summary import (
    LEFT_OUT,
    LEFT_OUT_MEANS,
    PROTOCOLS,
    MethodSummary,
    losses,
    standings,
    summarise,
    verdicts,
)

__all__ = ["NOTICE", "report_page"]

NOTICE = "For research use only. Not for use in diagnostic procedures."

_GROUPS = {
    "correlation": "Correlation over spots",
    "error": "Error and variance",
    "pattern": "Pattern in space and between genes",
    "zeros": "Spots without a count",
    "draws": "Draws and band",
}
_GENE_COLUMNS = {
    "pcc": "PCC",
    "spearman": "Spearman",
    "rvd": "RVD",
    "mse": "MSE",
    "mean_measured": "mean measured",
    "mean_predicted": "mean predicted",
    "moran_measured": "Moran's I measured",
    "moran_predicted": "Moran's I predicted",
    "zeros_measured": "zeros measured",
    "zeros_predicted": "zeros predicted",
    "coverage_90": "in the 90 % band",
}

_STYLE = """
:root{color-scheme:light dark;--back:#fff;--soft:#f2f5f6;--text:#1c262b;--quiet:#56666d;
--line:#d5dde0;--model:#0b6577;--draw:#c2570c;--other:#7a878d;--measured:#1c262b;--best:#dcf0f3}
@media(prefers-color-scheme:dark){:root{--back:#12181b;--soft:#1c2529;--text:#e6ecee;
--quiet:#a3b1b7;--line:#36434a;--model:#4fb9cd;--draw:#f0975a;--other:#93a1a7;--measured:#e6ecee;
--best:#173d46}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1280px;padding:2rem 1.5rem 4rem;background:var(--back);
color:var(--text);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
h1{font-size:1.75rem;margin:0 0 .3rem}h2{font-size:1.3rem;margin:2.6rem 0 .6rem;
border-top:1px solid var(--line);padding-top:1.6rem}h3{font-size:1.05rem;margin:1.6rem 0 .5rem}
a,summary{color:var(--model)}p,ul{margin:.4rem 0;max-width:78ch}li{margin:.2rem 0}
.quiet{color:var(--quiet)}.scroll{overflow-x:auto;margin:.6rem 0}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.28rem .7rem;text-align:right;border-bottom:1px solid var(--line);
vertical-align:top;white-space:nowrap}
th:first-child,td:first-child{text-align:left}
thead th{border-bottom:2px solid var(--line);font-weight:600;white-space:normal;
vertical-align:bottom}
@media(max-width:1100px){body{padding:1.5rem 1rem 3rem}table{font-size:.84rem}
th,td{padding:.28rem .4rem}td small{font-size:.7rem}}
th.group{text-align:left;color:var(--quiet);font-weight:600;padding-top:.9rem}
th.row{font-weight:400}th.left,td.left{text-align:left}
td small{display:block;color:var(--quiet);font-size:.78rem}
td.best{background:var(--best);font-weight:650}td.best small{font-weight:400;color:var(--text)}
th.draws,td.draws{color:var(--quiet)}th.own{color:var(--model)}
table.words td,table.words th{text-align:left;white-space:normal;min-width:9rem}
table.words i{color:var(--quiet);font-style:normal}
td.worse{color:var(--draw)}
table.facts td,table.facts th{text-align:left;white-space:normal;font-weight:400}
table.facts th{color:var(--quiet);padding-left:0}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(330px,1fr));gap:1rem}
figure{margin:0;background:var(--soft);border-radius:.4rem;padding:.6rem .5rem .5rem}
svg{display:block;width:100%;max-width:460px;height:auto;margin:0 auto}
figcaption{display:flex;flex-wrap:wrap;gap:.2rem 1rem;font-size:.82rem;justify-content:center}
.key{display:inline-block;width:.7em;height:.7em;border-radius:50%;margin-right:.4em}
.model{--c:var(--model)}.draw{--c:var(--draw)}.other{--c:var(--other)}.measured{--c:var(--measured)}
.key{background:var(--c)}svg text{fill:var(--text)}
.title{font-size:13px;font-weight:600}.tick{font-size:11px;fill:var(--quiet)!important}
.name{font-size:12px}.mid{text-anchor:middle}.end{text-anchor:end}
.grid{stroke:var(--line);stroke-width:.7;fill:none}
.guide{stroke:var(--quiet);stroke-width:1;stroke-dasharray:4 3;fill:none}
.line{stroke:var(--c);stroke-width:2;fill:none;stroke-linejoin:round}
.dots{stroke:var(--c);stroke-width:4.5;stroke-linecap:round;stroke-opacity:.65;fill:none}
.dots.big{stroke-width:8;stroke-opacity:1}.dot{fill:var(--c);fill-opacity:.6}
.area{fill:var(--c);fill-opacity:.14}.cell{fill:var(--c)}
details{margin:.8rem 0}summary{cursor:pointer}
@media print{body{max-width:none}figure{break-inside:avoid}}
"""


def report_page(reports: Sequence[SectionReport], title: str, provenance: Mapping[str, str]) -> str:
    """Write the page.

    Parameters
    ----------
    reports, title, provenance
        As in `stem_core.evaluation.report.write_report`.
    """
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="quiet">{NOTICE} Expression is compared as log2(1 + raw count).</p>',
        _sections(reports),
        "<h3>Where baselines are better</h3>",
        _losses(reports),
        '<p class="quiet">Bold: beyond chance, that is, the 95 % interval of the difference, by a '
        "block bootstrap over the spots of that section, leaves out 0. In grey: figures without an "
        "interval. The values are with each section. Baselines see the same condition "
        "as the model: the average of the training spots (training mean), ridge and kernel ridge "
        "regression, and the 20 most similar training spots (kNN).</p>",
    ]
    if any(report.baselines for report in reports):
        parts += ["<h3>Sections on which the model is better</h3>", _standings(reports)]
    if len(reports) > 1:
        parts += [f"<h2>All {len(reports)} sections</h2>", *_over_sections(reports)]
    for place, report in enumerate(reports):
        parts += _section(report, f"s{place}")
    parts += ["<h2>What the figures mean</h2>", _glossary(reports)]
    facts = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>"
        for name, value in provenance.items()
    )
    parts.append(f'<h2>How this was made</h2><table class="facts">{facts}</table>')
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
        f"{''.join(parts)}</body></html>\n"
    )


def _sections(reports: Sequence[SectionReport]) -> str:
    """Say what was evaluated, and what the model had seen of it."""
    rows = "".join(
        f"<tr><th class='row'><a href='#s{place}'>{escape(r.section)}</a></th>"
        f"<td>{escape(r.patient) or '–'}</td><td>{r.n_spots:,}</td><td>{r.n_genes:,}</td>"
        f"<td class='left'>{LEFT_OUT[r.left_out]}</td></tr>"
        for place, r in enumerate(reports)
    )
    kinds = dict.fromkeys(r.left_out for r in reports)
    means = [f"{LEFT_OUT[kind]}: {LEFT_OUT_MEANS[kind]}" for kind in kinds]
    words = [PROTOCOLS[protocol] for protocol in dict.fromkeys(r.protocol for r in reports)]
    return (
        '<div class="scroll"><table><thead><tr><th>section</th><th>patient</th><th>spots</th>'
        "<th>genes</th><th class='left'>the model</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
        + _list(f"{text[0].upper()}{text[1:]}." for text in (*words, *means))
    )


def _losses(reports: Sequence[SectionReport]) -> str:
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


def _list(sentences: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f"<ul>{items}</ul>"


def _standings(reports: Sequence[SectionReport]) -> str:
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


def _over_sections(reports: Sequence[SectionReport]) -> list[str]:
    few = (
        f" {len(reports)} sections are few: the interval then spans about their range."
        if len(reports) < 5
        else ""
    )
    parts = [
        "<p>Mean over sections, with the 95 % bootstrap interval over sections in small print."
        f"{few} The best of model and baselines is shaded.</p>",
        _table(summarise(reports)),
    ]
    kinds = list(dict.fromkeys(r.left_out for r in reports))
    if len(kinds) > 1:
        for kind in kinds:
            some = [r for r in reports if r.left_out == kind]
            names = ", ".join(r.section for r in some)
            parts.append(
                f"<details><summary>Only: {LEFT_OUT[kind]} ({escape(names)})</summary>"
                f"{_table(summarise(some))}</details>"
            )
    return parts


def _section(report: SectionReport, anchor: str) -> list[str]:
    trained = ", ".join(
        f"{name} (patient {patient})" if patient else name
        for name, patient in report.trained_on.items()
    )
    told = [
        f"{report.n_spots:,} spots, {report.n_genes:,} genes",
        f"{report.n_constant_genes} genes constant in the measurement, left out of correlations"
        if report.n_constant_genes
        else "",
        f"{report.n_samples} independent draws a spot" if report.n_samples else "no draws kept",
        LEFT_OUT[report.left_out],
        f"trained on {trained}" if trained else "",
    ]
    patient = f" (patient {report.patient})" if report.patient else ""
    return [
        f"<h2 id='{anchor}'>{escape(report.section + patient)}</h2>",
        f"<p>{escape('; '.join(text for text in told if text))}.</p>",
        f"<p class='quiet'>Small print: 95 % interval by a bootstrap of blocks of "
        f"{report.block_um:,.0f} µm, since neighbouring spots resemble each other. The best of "
        "model and baselines is shaded; the grey columns are other ways to use the draws.</p>",
        _table(report.methods),
        _list(verdicts(report)),
        f"<h3>Charts</h3><div class='charts'>{''.join(section_charts(report))}</div>",
        _genes(report),
    ]


def _table(methods: Sequence[MethodReport | MethodSummary]) -> str:
    """Figures down, methods across, the best of model and baselines marked."""
    head = "".join(
        f"<th class='{'own' if m.kind == 'model' else m.kind}'>{escape(method_name(m.name))}</th>"
        for m in methods
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
            f"{_wish(figure)}</th>{''.join(_cell(m, key, m.name == winner) for m in methods)}</tr>"
        )
    return (
        f'<div class="scroll"><table><thead><tr><th>figure</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _wish(figure: Figure) -> str:
    if isinstance(figure.wanted, str):
        sign = {"high": "↑", "low": "↓"}[figure.wanted]
    else:
        sign = f"→ {figure.wanted:g}"
    return f" <span class='quiet'>{sign}</span>"


def _cell(method: MethodReport | MethodSummary, key: str, best: bool) -> str:
    style = "best" if best else "draws" if method.kind == "draws" else ""
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
    able = [m for m in methods if m.kind != "draws" and figure.key in m.figures]
    if len(able) < 2:
        return None
    best = able[0]
    for method in able[1:]:
        if better(figure, method.figures[figure.key], best.figures[figure.key]):
            best = method
    return best.name


def _genes(report: SectionReport) -> str:
    columns = [name for name in _GENE_COLUMNS if name in report.genes]
    head = "".join(f"<th>{_GENE_COLUMNS[name]}</th>" for name in columns)
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


def _glossary(reports: Sequence[SectionReport]) -> str:
    used = {key for report in reports for method in report.methods for key in method.figures}
    rows = "".join(
        f"<tr><th>{escape(f.name)}</th><td>{escape(f.what)}"
        f"{escape(f' In {f.unit}.') if f.unit else ''}</td></tr>"
        for key, f in FIGURES.items()
        if key in used
    )
    return f'<table class="facts">{rows}</table>'
