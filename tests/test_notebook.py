"""What a notebook shows of the objects that a user meets in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from stem_core.encoders.catalogue import CATALOGUE
from stem_core.encoders.foundation import FoundationEncoder
from stem_core.encoders.pair import JoinedEncoder
from stem_core.evaluation.evaluate import evaluate_section
from stem_core.notebook import html_table, record_repr
from stem_core.prediction.export import write_prediction
from stem_core.prediction.predictor import Predictor
from stem_core.prediction.result import open_prediction
from stem_core.slides.reading import open_slide
from stem_core.slides.spots import lay_out_spots
from stem_core.slides.tissue import find_tissue
from tests.evaluation.made_section import made_input
from tests.prediction.test_result import make_prediction
from zoo.loader import load_model
from zoo.registry import find_model

MAX_CHARACTERS = 240  # two lines of a notebook


@pytest.fixture(scope="module")
def model() -> Any:
    return load_model(find_model("her2st-breast").folder)


def html_rows(shown: str) -> dict[str, str]:
    import xml.etree.ElementTree as ElementTree

    rows = ElementTree.fromstring(shown).iter("tr")
    return {row[0].text or "": row[1].text or "" for row in rows}


def test_reprs_of_a_model_and_its_parts_are_short(model: Any) -> None:
    assert repr(model) == (
        "StemModel(her2st-breast 1.0.0: 200 genes, Homo sapiens breast cancer, encoder "
        "compact-he, residual target)"
    )
    assert repr(model.encoder).startswith("CompactEncoder(compact-he, 141 values a patch, sha256 ")
    assert str(model.manifest).startswith("Manifest(her2st-breast 1.0.0: 200 genes")
    parts = (
        model.encoder, model.manifest, model.bands, model.domain, model.ridge,
        find_model("her2st-breast"), Predictor(model, "cpu", "fp32"),
        JoinedEncoder((model.encoder, model.encoder)),
        FoundationEncoder(CATALOGUE["uni"], nn.Linear(3, 3), "0" * 64),
    )  # fmt: skip
    for part in parts:
        assert len(repr(part)) < 2 * MAX_CHARACTERS and "\n" not in repr(part), repr(part)
    assert "ndarray(200,)" in repr(model.bands)


def test_reprs_of_a_slide_and_its_spots_are_short(sample_file: Path) -> None:
    with open_slide(sample_file) as slide:
        tissue = find_tissue(slide)
        spots = lay_out_spots(slide, tissue, "visium")
        for part in (slide, tissue, spots):
            assert len(repr(part)) < MAX_CHARACTERS and "\n" not in repr(part)
    assert f"{len(spots):,} visium, 100 µm apart, 55 µm wide" in repr(spots)
    assert "no pitch" in repr(replace(spots, pitch_um=None))


def test_reprs_of_a_prediction_are_short_and_read_no_values(tmp_path: Path) -> None:
    prediction = make_prediction()
    assert repr(prediction).startswith("Prediction(C5.tif: 12 spots × 5 genes, model ")
    assert len(repr(prediction)) < MAX_CHARACTERS and "\n" not in repr(prediction)
    stored = open_prediction(write_prediction(prediction, tmp_path / "out")["prediction.h5ad"])
    assert repr(stored).startswith("Prediction(C5.tif: 12 spots × 5 genes, model ")
    assert html_rows(stored._repr_html_())["genes"].startswith("5 (GAPDH, HLA-DRA, RP11-1.2, …)")
    assert "mean" not in vars(stored)


def test_a_prediction_is_a_table_of_escaped_text() -> None:
    prediction = replace(
        make_prediction(slide_name="<script>alert(1)</script>&.tif"),
        run={"model": {"name": "<b>m</b>", "version": "1"}, "sampler": "ddim", "steps": 4},
    )
    shown = prediction._repr_html_()
    assert "<script" not in shown and "<b>m" not in shown and len(shown) < 2000
    rows = html_rows(shown)
    assert rows["model"] == "<b>m</b> 1" and rows["sampler"] == "ddim"
    assert rows["spots"] == "12 (measured, 200 µm apart, 100 µm wide)"
    single = replace(prediction, spots=replace(prediction.spots, pitch_um=None), run={})
    rows = html_rows(single._repr_html_())
    assert rows["spots"] == "12 (measured, 100 µm wide)" and rows["model"] == "not known"


def test_a_model_is_a_table_of_escaped_text(model: Any) -> None:
    manifest = model.manifest.model_copy(update={"title": "<i>a</i> & b"})
    shown = replace(model, manifest=manifest)._repr_html_()
    assert "<i>" not in shown and len(shown) < 2000
    rows = html_rows(shown)
    assert rows["title"] == "<i>a</i> & b"
    assert rows["genes"].startswith("200 (") and rows["90 % interval"] == "calibrated"


def test_a_report_and_its_input_are_short() -> None:
    given = made_input()
    assert "measured=ndarray" in repr(given) and len(repr(given)) < 4 * MAX_CHARACTERS
    report = evaluate_section(given)
    assert repr(report).startswith(f"SectionReport({given.section}: ")
    assert len(repr(report)) < MAX_CHARACTERS


def test_record_repr_cuts_what_is_long() -> None:
    from dataclasses import dataclass

    @dataclass
    class Record:
        array: object
        names: tuple[str, ...]
        text: str
        number: object

        __repr__ = record_repr

    record = Record(torch.zeros(2, 3), tuple("abcd"), "x" * 500, np.float64(2.5))
    shown = repr(record)
    assert shown.startswith("Record(array=Tensor(2, 3), names=<4 items>, text='xxx")
    assert "2.5" in shown and len(shown) < 150


def test_html_table_leaves_out_what_is_not_known() -> None:
    rows = html_rows(html_table("A", {"none": None, "empty": "", "zero": 0, "a<b": ">"}))
    assert rows == {"zero": "0", "a<b": ">"}
