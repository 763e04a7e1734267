"""The charts of an evaluated section."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stem_core.evaluation.charts import Axis, Chart, axis_over, interval_chart
from stem_core.evaluation.figures import FIGURES, method_name
from stem_core.evaluation.records import SectionReport

__all__ = ["section_charts"]

Floats = NDArray[np.float64]

MODEL, DRAW, MEASURED, OTHER = "model", "draw", "measured", "other"
_COLOURS = {"model": MODEL, "draws": DRAW, "baseline": OTHER, "depth": OTHER}


def section_charts(report: SectionReport, *, named: bool = True) -> list[str]:
    """Draw the charts of a section, each an HTML figure; `named`: dots tell their gene."""
    charts = [_intervals(report, key) for key in ("pcc_all", "mse") if key in report.figures]
    if report.calibration:
        charts.append(_calibration(report))
    charts += [_variation(report), _moran(report, named)]
    charts += [_pairs(report, name) for name in report.pairs["counts"]]
    charts.append(_zeros(report, named))
    if any("pcc_all" in figures for figures in report.baselines.values()):
        charts.append(_against_baseline(report, named))
    return charts


def _column(report: SectionReport, name: str) -> Floats:
    return np.array(report.genes[name], dtype=np.float64)


def _intervals(report: SectionReport, key: str) -> str:
    figure = FIGURES[key]
    rows = [
        (method_name(m.name), m.kind, m.figures[key], m.intervals.get(key))
        for m in report.methods
        if key in m.figures
    ]
    way = "higher is better" if figure.wanted == "high" else "lower is better"
    return interval_chart(
        f"{figure.name} with 95 % interval; {way}",
        f"{figure.name}, {figure.unit or 'Pearson r'}",
        rows,
        f"{figure.name} of each method on {report.section}; the values are in the table.",
        _COLOURS.__getitem__,
    )


def _calibration(report: SectionReport) -> str:
    chart = Chart(
        "Calibration",
        Axis("nominal share inside the band", 0.0, 1.0),
        Axis("measured values inside, share", 0.0, 1.0),
        f"Share of measured values inside bands of several nominal levels on {report.section}; on "
        "the diagonal a band holds what it promises.",
    )
    chart.diagonal()
    names = {"band": (MODEL, "calibrated band"), "draws": (DRAW, "draws alone")}
    for source, table in report.calibration.items():
        colour, name = names[source]
        nominal, observed, low, high = (
            np.array(table[column], dtype=np.float64)
            for column in ("nominal", "observed", "low", "high")
        )
        if source == "band":
            chart.area(nominal, low, high, colour)
        chart.line(nominal, observed, colour, name, marked=True)
    return chart.svg()


def _variation(report: SectionReport) -> str:
    measured, predicted = (
        _column(report, f"variance_{which}") for which in ("measured", "predicted")
    )
    order = np.argsort(measured, kind="stable")
    rank = np.arange(1.0, len(order) + 1)
    curves = [measured, predicted]
    if "variance_draw" in report.genes:
        curves.append(_column(report, "variance_draw"))
    chart = Chart(
        "Gene variation curves",
        Axis("genes, from the least to the most varying", 1.0, max(2.0, float(len(order)))),
        axis_over("variance over spots, (log2(1 + count))²", *curves, logarithmic=True),
        f"Variance over spots of every gene on {report.section}: measured, predicted"
        + (" and of a single draw." if len(curves) > 2 else "."),
    )
    floor = chart.y.low
    if len(curves) > 2:
        chart.points(rank, np.maximum(curves[2][order], floor), DRAW, "one draw")
    chart.points(rank, np.maximum(predicted[order], floor), MODEL, "predicted mean")
    chart.line(rank, np.maximum(measured[order], floor), MEASURED, "measured")
    return chart.svg()


def _scatter(
    report: SectionReport,
    title: str,
    axes: tuple[Axis, Axis],
    x: str,
    series: Sequence[tuple[str, str, str]],
    alt: str,
    named: bool,
) -> str:
    """Dots of genes, with their names under the mouse if `named`."""
    chart = Chart(title, *axes, alt)
    chart.diagonal()
    symbols, across = report.genes["symbol"], _column(report, x)
    for column, colour, name in series:
        if column not in report.genes:
            continue
        up = _column(report, column)
        hints = [
            f"{symbol}: {a:.2f}, {name or 'model'} {u:.2f}"
            for symbol, a, u in zip(symbols, across, up, strict=True)
        ]
        chart.points(across, up, colour, name, hints if named else None)
    return chart.svg()


def _moran(report: SectionReport, named: bool) -> str:
    columns = ("moran_measured", "moran_predicted", "moran_draw")
    found = [_column(report, name) for name in columns if name in report.genes]
    both = axis_over("", *found)
    return _scatter(
        report,
        "Pattern in space, by gene",
        (
            Axis("Moran's I measured", both.low, both.high),
            Axis("Moran's I predicted", both.low, both.high),
        ),
        "moran_measured",
        [("moran_draw", DRAW, "one draw"), ("moran_predicted", MODEL, "predicted mean")],
        f"Moran's I of every gene on {report.section}, predicted over measured; above the diagonal "
        "the prediction is smoother than the tissue.",
        named,
    )


def _pairs(report: SectionReport, name: str) -> str:
    shown = {"model": "predicted mean", "one draw": "one draw"}[name]
    chart = Chart(
        f"Gene pairs, {shown}",
        Axis("correlation of a pair measured, r", -1.0, 1.0),
        Axis("correlation predicted, r", -1.0, 1.0),
        f"Correlation of every pair of genes on {report.section}, {shown} over measured; darker "
        "cells hold more pairs.",
    )
    edges = np.array(report.pairs["edges"], dtype=np.float64)
    counts = np.array(report.pairs["counts"][name], dtype=np.int64)
    chart.cells(edges, counts, {"model": MODEL, "one draw": DRAW}[name])
    chart.diagonal()
    return chart.svg()


def _zeros(report: SectionReport, named: bool) -> str:
    return _scatter(
        report,
        "Spots without a count, by gene",
        (Axis("share of spots measured", 0.0, 1.0), Axis("share of spots predicted", 0.0, 1.0)),
        "zeros_measured",
        [("zeros_predicted", MODEL, "")],
        f"Share of spots with no count of every gene on {report.section}, predicted over measured.",
        named,
    )


def _against_baseline(report: SectionReport, named: bool) -> str:
    """Genes' correlation against the baseline with the highest mean."""
    best = max(report.baselines, key=lambda name: report.baselines[name].get("pcc_all", -1.0))
    column = f"pcc of {best}"
    both = axis_over("", _column(report, column), _column(report, "pcc"))
    return _scatter(
        report,
        f"Correlation by gene, against {best}",
        (
            Axis(f"Pearson r of {best}", both.low, both.high),
            Axis("Pearson r of the model", both.low, both.high),
        ),
        column,
        [("pcc", MODEL, "")],
        f"Pearson correlation of every gene on {report.section}, the model's over that of {best}, "
        "the baseline with the highest mean; above the diagonal the model is better.",
        named,
    )
