"""`stem evaluate`: the report of a result, with the draws and the ridge baseline a run kept."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from app.cli import main
from app.jobs.draws_file import save_draws
from stem_core.prediction.draws import Draws
from stem_core.prediction.export import write_prediction
from stem_core.prediction.result import Prediction
from stem_core.slides.spots import Spots
from tests.evaluation.made_section import DRAWS, GENES, made_input

MPP = 0.5


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
        mean=given.predicted,
        std=given.samples.std(1),
        q05=given.band[0],
        q95=given.band[1],
        domain_distance=None,
        gene_table=genes,
        run={
            "model": {"name": "made", "training_slides": json.dumps(["B1", "truth"])},
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
    result: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prediction, truth = result
    arguments = ["evaluate", str(prediction), "--truth", str(truth)]
    assert main([*arguments, "--report", str(tmp_path / "report")]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"Compared {GENES - 1} genes at 143 spots: ")
    assert "is better than the model" in said or "No baseline" in said
    (section,) = json.loads((tmp_path / "report" / "report.json").read_text())["sections"]
    assert section["n_samples"] == DRAWS  # the first of each pair
    assert [m["name"] for m in section["methods"]][:3] == ["model", "mean", "ridge"]
    assert section["left_out"] == "training"  # a section of that name is among the training ones
    assert "pcc_10_fixed" in section["methods"][0]["figures"]
    # the plain figures are the same
    assert main([*arguments, "--json", str(tmp_path / "f.json")]) == 0
    plain = json.loads((tmp_path / "f.json").read_text())
    for key in ("pcc_all", "mse", "rvd", "coverage_90"):
        assert section["methods"][0]["figures"][key] == pytest.approx(plain[key], rel=1e-4), key


def test_report_without_draws(
    result: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prediction, truth = result
    (prediction.parent / "draws.safetensors").unlink()
    report = tmp_path / "report"
    assert main(["evaluate", str(prediction), "--truth", str(truth), "--report", str(report)]) == 0
    (section,) = json.loads((report / "report.json").read_text())["sections"]
    assert section["n_samples"] == 0
    assert [m["name"] for m in section["methods"]] == ["model", "mean"]
    assert "crps" not in section["methods"][0]["figures"]
    assert "zero_brier" in section["methods"][0]["figures"]  # from the band


def test_unfit_files_give_one_sentence(
    result: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    prediction, truth = result
    report = ["--report", str(tmp_path / "report")]
    for arguments in (
        [str(truth), "--truth", str(truth)],  # no prediction of ours
        [str(prediction), "--truth", str(tmp_path / "none.h5ad")],
    ):
        assert main(["evaluate", *arguments, *report]) == 2
        assert len(capfd.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "report").exists()
