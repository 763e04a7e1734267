import json
import re
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from stem_core.errors import OutputError
from stem_core.evaluation.charts import Axis, Chart, axis_over
from stem_core.evaluation.evaluate import evaluate_section
from stem_core.evaluation.records import Difference, MethodReport, SectionReport
from stem_core.evaluation.report import write_report
from tests.evaluation.made_section import made_input

HOSTILE = "<script>alert('x')</script>&\"'"


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.addresses += [v or "" for k, v in attrs if k in ("href", "src", "xlink:href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def reports() -> list[SectionReport]:
    hostile = made_input(1, section=HOSTILE, patient=HOSTILE, trained_on={"A1": HOSTILE})
    symbols = (HOSTILE, *hostile.symbols[1:])
    baselines = {HOSTILE: hostile.predicted}
    other = made_input(
        1, section=HOSTILE, patient=HOSTILE, trained_on={"A1": HOSTILE}, symbols=symbols,
        baselines=baselines,
    )  # fmt: skip
    return [evaluate_section(made_input()), evaluate_section(other)]


def test_report_stands_alone_and_escapes_text(reports: list[SectionReport], tmp_path: Path) -> None:
    page, _ = write_report(reports, tmp_path / "out", HOSTILE, {HOSTILE: HOSTILE})
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["report.html", "report.json"]
    text = page.read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(text)
    assert tags.open == []  # well formed
    assert not {"script", "img", "link", "iframe"} & set(tags.seen)
    assert set(tags.addresses) == {"#s0", "#s1"}
    assert "http" not in re.sub(r"http-equiv", "", text)
    assert "<script" not in text and "&lt;script&gt;" in text
    assert page.stat().st_size < 750_000
    for word in ("patient left out", "training mean", "PCC-50", "For research use only", "CRPS"):
        assert word in text
    assert tags.seen.count("svg") >= 16


def test_figures_and_gene_columns_have_their_units(
    reports: list[SectionReport], tmp_path: Path
) -> None:
    page, _ = write_report(reports, tmp_path, "Units", {})
    text = page.read_text(encoding="utf-8")
    log = "<small>log2(1 + count)</small>"
    squared = "<small>(log2(1 + count))²</small>"
    for name in ("MAE", "CRPS"):
        assert re.search(rf">{name} <span class='quiet'>↓</span>{re.escape(log)}</th>", text)
    assert re.search(rf">MSE <span class='quiet'>↓</span>{re.escape(squared)}</th>", text)
    for head in (f"MSE{squared}", f"mean measured{log}", f"mean predicted{log}"):
        assert f"<th>{head}</th>" in text


def test_settings_of_baselines_are_shown(tmp_path: Path) -> None:
    given = made_input(
        baseline_settings={"ridge": {"penalty": 3000.0}, "mean": {"training spots": 12000}},
        baselines_chosen="Chosen by <others>.",
    )
    page, data = write_report([evaluate_section(given)], tmp_path, "Settings", {})
    assert (
        "ridge: penalty 3,000; training mean: training spots 12,000. Chosen by &lt;others&gt;."
    ) in page.read_text(encoding="utf-8")
    (section,) = json.loads(data.read_text(encoding="utf-8"))["sections"]
    assert section["baseline_settings"]["ridge"] == {"penalty": 3000.0}
    assert section["baselines_chosen"] == "Chosen by <others>."


@pytest.mark.parametrize(
    ("patients", "says"),
    [
        (("A", "A"), "They are of 1 patient; sections of one patient are drawn as if they were"),
        (("A", ""), "which is not known of all"),
        (("A", "B"), None),
    ],
)
def test_sections_of_one_patient_are_told(
    patients: tuple[str, str], says: str | None, tmp_path: Path
) -> None:
    found = [evaluate_section(made_input(patient=p, section=f"S{p}")) for p in patients]
    page, _ = write_report(found, tmp_path, "Patients", {})
    text = page.read_text(encoding="utf-8")
    if says is None:
        assert "drawn as if" not in text
    else:
        assert says in text


def test_json_holds_every_figure(reports: list[SectionReport], tmp_path: Path) -> None:
    page, data = write_report(reports, tmp_path, "Two sections", {"seed": "0"})
    found = json.loads(data.read_text(encoding="utf-8"))
    assert found["provenance"] == {"seed": "0"}
    first = found["sections"][0]
    for method, kept in zip(reports[0].methods, first["methods"], strict=True):
        assert kept["figures"] == pytest.approx(dict(method.figures), rel=1e-5)
    assert first["left_out"] == "patient"
    assert found["words"]["A1"]["verdicts"]
    assert {s["name"] for s in found["over_sections"]} >= {"model", "mean", "ridge", "one draw"}
    assert set(first["methods"][0]["figures"]) <= set(found["figures"])
    # what was kept as JSON makes the same page
    again = [
        SectionReport(
            **{
                **kept,
                "methods": tuple(MethodReport(**m) for m in kept["methods"]),
                "differences": tuple(Difference(**d) for d in kept["differences"]),
            }
        )
        for kept in found["sections"]
    ]
    second, _ = write_report(again, tmp_path / "again", "Two sections", {"seed": "0"})
    one, two = (
        re.sub(r"[mp][0-9a-f]{10}|-?\d+(\.\d+)?", "0", p.read_text("utf-8")) for p in (page, second)
    )
    assert one == two
    assert asdict(again[0])["n_spots"] == 144


def test_many_genes_are_left_to_the_json(tmp_path: Path) -> None:
    given = made_input()
    tall = {"symbols": tuple(f"G{g}" for g in range(1608)), "ranked_genes": (), "samples": None}
    for name in ("measured", "predicted"):
        tall[name] = np.tile(getattr(given, name), 67)
    report = evaluate_section(made_input(**tall, band=None, baselines={}))
    page, data = write_report([report], tmp_path, "Many genes", {})
    text = page.read_text(encoding="utf-8")
    assert "Figures of every gene: report.json" in text and "G1607" not in text
    assert page.stat().st_size < 200_000
    assert len(json.loads(data.read_text(encoding="utf-8"))["sections"][0]["genes"]["pcc"]) == 1608


def test_unwritable_folder_gives_a_sentence(reports: list[SectionReport], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write_report(reports, tmp_path / "file" / "out", "x", {})


def test_axes_have_room_even_without_values() -> None:
    for values in ([], [np.nan], [2.0, 2.0]):
        axis = axis_over("x", np.array(values))
        assert axis.low < axis.high
    assert axis_over("x", np.array([0.08, 5.0]), logarithmic=True).low > 0


def test_points_lie_where_their_values_are_and_tell_their_names() -> None:
    chart = Chart("t", Axis("x", 0, 10), Axis("y", 0, 1), "what it shows")
    chart.points(
        np.array([0.0, 10.0, np.nan, 99.0]), np.array([0.0, 1.0, 0.5, 0.5]), "model", "name",
        ["a", "b", "c", "<d>"],
    )  # fmt: skip
    figure = ElementTree.fromstring(chart.svg())
    dots = list(figure.iter("circle"))
    assert [dot[0].text for dot in dots] == ["a", "b", "<d>"]
    x, y = ([float(dot.get(which, "nan")) for dot in dots] for which in ("cx", "cy"))
    assert x[0] < x[1] == pytest.approx(x[2])  # beyond the axis counts as its end
    assert y[1] < y[2] < y[0]
    assert y[2] == pytest.approx((y[0] + y[1]) / 2, abs=0.1)
    assert figure.find("svg").get("aria-label") == "what it shows"  # type: ignore[union-attr]
    chart.line(np.array([0.0, 1.0]), np.array([0.0, 1.0]), "draw")
    assert "var(--draw)" in chart.svg() and "#c2570c" not in chart.svg()
    assert chart.svg() == chart.svg()
