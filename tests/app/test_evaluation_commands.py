"""`stem evaluate`: the report of a result, with the draws and the ridge baseline a run kept."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from app.cli import main
from app.jobs.draws_file import save_draws
from stem_core.evaluation.figures import FIGURES
from stem_core.prediction.draws import Draws
from stem_core.prediction.export import write_prediction
from stem_core.prediction.result import Prediction, read_prediction
from stem_core.prediction.values import PredictedArrays
from stem_core.slides.spots import Spots
from tests.evaluation.made_section import DRAWS, GENES, made_input
from tests.prediction.test_few_spots import strict_json

MPP = 0.5
OTHER_NAME = "The measured file is called truth, the slide A1: make sure that they are one section."


@pytest.fixture
def result(tmp_path: Path) -> tuple[Path, Path]:
    """A result of a made section, and its measured file."""
    given = made_input()
    n = len(given.measured)
    ids = tuple(f"spot{i}" for i in range(n))
    spots = Spots(
        ids=ids,
        x_px=given.x_um / MPP,
        y_px=given.y_um / MPP,
        diameter_um=50.0,
        pitch_um=100.0,
        source="measured",
        array_row=np.zeros(n, np.int32),
        array_col=np.zeros(n, np.int32),
        in_tissue=np.ones(n, bool),
        tissue_fraction=np.ones(n, np.float32),
    )
    genes = pd.DataFrame(
        {
            "held_out_pcc": np.linspace(0.1, 0.9, GENES),
            "training_mean": given.measured.mean(0),
        },
        index=pd.Index(given.symbols, name="symbol"),
    )
    assert given.band is not None and given.samples is not None
    prediction = Prediction(
        slide_name="A1.tif",
        spots=spots,
        mpp=MPP,
        symbols=given.symbols,
        ensembl=("",) * GENES,
        values=PredictedArrays(
            mean=given.predicted, std=given.samples.std(1), q05=given.band[0], q95=given.band[1]
        ),
        domain_distance=None,
        gene_table=genes,
        run={
            "model": {"name": "made", "training_slides": json.dumps(["B1", "a1"])},
            "sampler": "angle",
            "samples": 2 * DRAWS,
        },
        thumbnail=np.zeros((4, 4, 3), np.uint8),
        thumbnail_scale=0.01,
    )
    write_prediction(prediction, tmp_path / "out")
    draws = Draws(
        given.predicted, given.predicted, *given.band,
        singles=given.samples.astype(np.float16),
        baseline=given.baselines["ridge"].astype(np.float16),
    )  # fmt: skip
    save_draws(draws, 2 * DRAWS, tmp_path / "out" / "draws.safetensors")
    table = anndata.AnnData(np.round(np.exp2(given.measured) - 1).astype(np.float32))
    table.obs_names, table.var_names = list(ids), list(given.symbols)
    # one gene of the panel and one spot were not measured
    table[1:, 1:].copy().write_h5ad(tmp_path / "truth.h5ad")
    return tmp_path / "out" / "prediction.h5ad", tmp_path / "truth.h5ad"


def test_report_of_a_result(
    result: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    prediction, truth = result
    arguments = ["evaluate", str(prediction), "--truth", str(truth)]
    assert main([*arguments, "--report", str(tmp_path / "report")]) == 0
    said, warned = capfd.readouterr()
    assert said.startswith(f"Compared {GENES - 1} genes at 143 spots: ")
    assert "is better than the model" in said or "No baseline" in said
    (section,) = json.loads((tmp_path / "report" / "report.json").read_text())["sections"]
    assert section["n_samples"] == DRAWS  # the first of each pair
    assert [m["name"] for m in section["methods"]][:3] == ["model", "mean", "ridge"]
    assert "pcc_10_fixed" in section["methods"][0]["figures"]
    assert warned == f"Warning: {OTHER_NAME}\n"
    page = (tmp_path / "report" / "report.html").read_text()
    assert section["notes"] == [OTHER_NAME] and f"<li>{OTHER_NAME}</li>" in page
    # the plain figures are the same
    assert main([*arguments, "-o", str(tmp_path / "f.json")]) == 0
    table = capfd.readouterr().out
    assert table.startswith(f"Compared {GENES - 1} genes at 143 spots of truth.")
    assert re.search(r"^ +model +training mean +ridge", table, re.MULTILINE), table
    assert main([*arguments, "--json"]) == 0
    assert capfd.readouterr().out == (tmp_path / "f.json").read_text()
    plain = json.loads((tmp_path / "f.json").read_text())
    assert set(FIGURES) < set(plain)
    assert {k: plain[k] for k in section["methods"][0]["figures"]} == (
        section["methods"][0]["figures"]
    )
    assert list(plain["baselines"]) == ["mean", "ridge"]
    assert plain["baselines"]["ridge"] == section["methods"][2]["figures"]
    assert (plain["n_spots"], plain["n_genes"], plain["n_constant_genes"]) == (143, GENES - 1, 0)
    assert (plain["section"], plain["matched_by"]) == ("truth", "name")
    assert plain["warnings"] == [OTHER_NAME]


@pytest.mark.parametrize("n", [1, 2])
def test_one_and_two_spots_have_errors_but_no_correlation(
    result: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], n: int
) -> None:
    prediction, truth = result
    few = read_prediction(prediction)
    few = replace(
        few,
        spots=replace(few.spots.take(slice(1, 1 + n)), pitch_um=None),
        values=PredictedArrays(
            **{name: getattr(few, name)[1 : 1 + n] for name in ("mean", "std", "q05", "q95")}
        ),
    )
    few_file = write_prediction(few, tmp_path / "few")["prediction.h5ad"]
    arguments = ["evaluate", str(few_file), "--truth", str(truth)]
    assert main([*arguments, "--json"]) == 0
    figures = strict_json(capsys.readouterr().out)
    assert figures["n_spots"] == n and figures["mse"] > 0
    assert figures["pcc_all"] is figures["spearman_all"] is figures["moran_error"] is None
    assert figures["warnings"][-1].startswith("Only ")
    assert main([*arguments, "--report", str(tmp_path / "report")]) == 0
    assert f"at {n} spots" in capsys.readouterr().out
    strict_json((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    assert figures["warnings"][-1] in (tmp_path / "report" / "report.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("slide", "truth_name", "trained", "left_out"),
    [
        ("A1.tif", "copy.h5ad", ["B1", "A1"], "training"),  # the truth may be called anything
        ("a1.OME.tif", "copy.h5ad", ["B1", "A1"], "training"),
        ("scan.tif", "A1.h5ad", ["B1", "A1"], "training"),
        ("scan.tif", "copy.h5ad", ["B1", "A1"], ""),
        ("A1.tif", "A1.h5ad", ["B1"], ""),
        ("A1.tif", "A1.h5ad", [], ""),
    ],
)
def test_a_name_that_is_not_found_proves_nothing(
    result: tuple[Path, Path],
    tmp_path: Path,
    slide: str,
    truth_name: str,
    trained: list[str],
    left_out: str,
) -> None:
    made = read_prediction(result[0])
    run = {**made.run, "model": {"name": "made", "training_slides": json.dumps(trained)}}
    write_prediction(replace(made, slide_name=slide, run=run), tmp_path / "named")
    truth = result[1].rename(tmp_path / truth_name)
    prediction = str(tmp_path / "named" / "prediction.h5ad")
    target = tmp_path / "f.json"
    assert main(["evaluate", prediction, "--truth", str(truth), "-o", str(target)]) == 0
    assert json.loads(target.read_text())["left_out"] == left_out
    if not left_out:
        report = tmp_path / "report"
        assert main(["evaluate", prediction, "--truth", str(truth), "--report", str(report)]) == 0
        page = (report / "report.html").read_text()
        assert "section left out" not in page and "not known whether trained on" in page


def test_report_without_draws(
    result: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prediction, truth = result
    (prediction.parent / "draws.safetensors").unlink()
    report = tmp_path / "report"
    assert main(["evaluate", str(prediction), "--truth", str(truth), "--report", str(report)]) == 0
    (section,) = json.loads((report / "report.json").read_text())["sections"]
    assert section["n_samples"] == 0
    names = [method["name"] for method in section["methods"]]
    assert names == ["model", "mean", "measured total", "model's total"]
    assert "crps" not in section["methods"][0]["figures"]
    assert "zero_brier" in section["methods"][0]["figures"]  # from the band


def test_a_result_brings_its_ridge_baseline(result: tuple[Path, Path], tmp_path: Path) -> None:
    """As `stem predict` writes it, without draws beside it."""
    path, truth = result
    made = read_prediction(path)
    values = replace(made.values, ridge=made.mean * np.float32(0.5))
    write_prediction(replace(made, values=values), tmp_path / "alone")
    prediction = str(tmp_path / "alone" / "prediction.h5ad")
    target = tmp_path / "f.json"
    assert main(["evaluate", prediction, "--truth", str(truth), "-o", str(target)]) == 0
    figures = json.loads(target.read_text())
    assert list(figures["baselines"]) == ["mean", "ridge"]
    assert figures["baselines"]["ridge"]["pcc_all"] == pytest.approx(figures["pcc_all"], abs=1e-5)
    assert figures["baselines"]["ridge"]["mse"] > figures["mse"]
    assert figures["crps"] is None


@pytest.mark.parametrize("form", ["--report", "--out", "--json"])
def test_unfit_files_give_one_sentence(
    result: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str], form: str
) -> None:
    prediction, truth = result
    table = anndata.read_h5ad(truth)
    table.X = np.log1p(table.X)
    table.write_h5ad(tmp_path / "normalised.h5ad")
    table.obs_names = [f"other{i}" for i in range(table.n_obs)]
    table.write_h5ad(tmp_path / "strange.h5ad")
    (tmp_path / "damaged.h5ad").write_bytes(b"no")
    none = tmp_path / "none.h5ad"
    target = tmp_path / "target"
    for one, other, says in (
        (truth, truth, "was not written by `stem predict`"),
        (none, truth, "There is no file"),
        (prediction, none, "There is no file none.h5ad"),
        (prediction, tmp_path / "damaged.h5ad", "cannot be read"),
        (prediction, tmp_path / "normalised.h5ad", "not whole numbers, so they were normalised"),
        (prediction, tmp_path / "strange.h5ad", "share 0 of 143 spots"),
    ):
        arguments = ["evaluate", str(one), "--truth", str(other)]
        assert main([*arguments, *([form] if form == "--json" else [form, str(target)])]) == 2
        out, err = capfd.readouterr()
        assert says in err and len(err.splitlines()) == 1 and not out
    assert not target.exists()
