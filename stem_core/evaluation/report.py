"""Write the report of evaluated sections: one HTML page and one JSON file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path

from stem_core.constants import NOTICE
from stem_core.evaluation.figures import FIGURES, method_name, shown
from stem_core.evaluation.records import SectionReport, plain
from stem_core.evaluation.report_charts import section_charts
from stem_core.evaluation.report_tables import (
    figures_table,
    genes_table,
    losses_table,
    standings_table,
)
from stem_core.evaluation.summary import (
    LEFT_OUT,
    LEFT_OUT_MEANS,
    PROTOCOLS,
    standings,
    summarise,
    verdicts,
)
from stem_core.files import write_atomically

__all__ = ["STYLE", "report_page", "write_report"]


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


_MOST_GENES = 1600  # over all sections; with more the page would be slow, and the JSON has them


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
        losses_table(reports),
        '<p class="quiet">Bold: beyond chance, that is, the 95 % interval of the difference, by a '
        "block bootstrap over the spots of that section, leaves out 0. In grey: figures without an "
        "interval. The values are with each section. Baselines see the same condition "
        "as the model: the average of the training spots (training mean), ridge and kernel ridge "
        "regression, and the most similar training spots (kNN). As distributions (CRPS, 90 % band, "
        "zeros) they are compared only with a spread of their own.</p>",
    ]
    if any(report.baselines for report in reports):
        parts += ["<h3>Sections on which the model is better</h3>", standings_table(reports)]
    if len(reports) > 1:
        parts += [f"<h2>All {len(reports)} sections</h2>", *_over_sections(reports)]
    detailed = sum(report.n_genes for report in reports) <= _MOST_GENES
    for place, report in enumerate(reports):
        parts += _section(report, f"s{place}", detailed)
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
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>"
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


def _list(sentences: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f"<ul>{items}</ul>"


def _over_sections(reports: Sequence[SectionReport]) -> list[str]:
    few = (
        f" {len(reports)} sections are few: the interval then spans about their range."
        if len(reports) < 5
        else ""
    )
    parts = [
        "<p>Mean over sections, with the 95 % bootstrap interval over sections in small print."
        f"{few}{_of_patients(reports)} The best of model and baselines is shaded.</p>",
        figures_table(summarise(reports)),
    ]
    kinds = list(dict.fromkeys(r.left_out for r in reports))
    if len(kinds) > 1:
        for kind in kinds:
            some = [r for r in reports if r.left_out == kind]
            names = ", ".join(r.section for r in some)
            parts.append(
                f"<details><summary>Only: {LEFT_OUT[kind]} ({escape(names)})</summary>"
                f"{figures_table(summarise(some))}</details>"
            )
    return parts


def _of_patients(reports: Sequence[SectionReport]) -> str:
    """Say so where sections that are drawn as independent may not be."""
    patients = [report.patient for report in reports]
    if "" in patients:
        return (
            " Sections are drawn as if each were of another patient, which is not known of all "
            "of them; where some share a patient, the interval is too narrow for new patients."
        )
    if len(set(patients)) < len(patients):
        return (
            f" They are of {len(set(patients))} patient{'s' if len(set(patients)) > 1 else ''}; "
            "sections of one patient are drawn as if they were independent, so the interval is too "
            "narrow for new patients."
        )
    return ""


def _baseline_settings(report: SectionReport) -> str:
    """Say with which settings baselines were fitted, and how these were found."""
    told = "; ".join(
        f"{method_name(name)}: "
        + ", ".join(f"{what} {value:,g}" for what, value in settings.items())
        for name, settings in report.baseline_settings.items()
    )
    if not told:
        return ""
    text = f"Settings of the baselines: {told}. {report.baselines_chosen}"
    return f"<p class='quiet'>{escape(text.strip())}</p>"


def _section(report: SectionReport, anchor: str, detailed: bool) -> list[str]:
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
    charts = "".join(section_charts(report, named=detailed))
    return [
        f"<h2 id='{anchor}'>{escape(report.section + patient)}</h2>",
        f"<p>{escape('; '.join(text for text in told if text))}.</p>",
        *([_list(report.notes)] if report.notes else []),
        f"<p class='quiet'>{_intervals(report)}The best of model and baselines is shaded; the grey "
        "columns are the spot's total given to every gene, and other ways to use the draws.</p>",
        _ceiling(report),
        figures_table(report.methods),
        _baseline_settings(report),
        _list(verdicts(report)),
        f"<h3>Charts</h3><div class='charts'>{charts}</div>",
        genes_table(report) if detailed else "<p>Figures of every gene: report.json.</p>",
    ]


def _ceiling(report: SectionReport) -> str:
    """Say how high a correlation counting noise allows, and what the depth alone reaches."""
    if len(report.ceilings) < 2:
        return ""
    text = (
        "Counts are noisy: by estimate, even a prediction free of error would correlate with these "
        f"by no more than {shown(report.ceilings['log_counts'])} (log counts) and "
        f"{shown(report.ceilings['composition'])} (composition), mean over genes."
    )
    depth = next((m.figures for m in report.methods if m.name == "measured total"), {})
    if "pcc_all" in depth:
        text += (
            " The spot's measured total alone, given to every gene, has a PCC-all of "
            f"{shown(depth['pcc_all'])}: so far goes how much RNA there is. Composition tells "
            "which RNA."
        )
    return f"<p>{escape(text)}</p>"


def _intervals(report: SectionReport) -> str:
    """Say what the intervals are; nothing where there are none."""
    if not any(method.intervals for method in report.methods):
        return ""
    blocks = "spots" if report.block_um is None else f"blocks of {report.block_um:,.0f} µm"
    return (
        f"Small print: 95 % interval by a bootstrap of {blocks}, since neighbouring spots resemble "
        "each other. "
    )


def _glossary(reports: Sequence[SectionReport]) -> str:
    used = {key for report in reports for method in report.methods for key in method.figures}
    rows = "".join(
        f"<tr><th>{escape(f.name)}</th><td>{escape(f.what)}"
        f"{escape(f' In {f.unit}.') if f.unit else ''}</td></tr>"
        for key, f in FIGURES.items()
        if key in used
    )
    return f'<table class="facts">{rows}</table>'


STYLE = """
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
td small,th small{display:block;color:var(--quiet);font-size:.78rem;font-weight:400}
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
.key{background:var(--c)}.dot{fill:var(--c);fill-opacity:.6}
.dots{stroke:var(--c);stroke-width:4.5;stroke-linecap:round;stroke-opacity:.65;fill:none}
svg text{font-family:inherit!important}
details{margin:.8rem 0}summary{cursor:pointer}
@media print{body{max-width:none}figure{break-inside:avoid}}
"""
