import dataclasses
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import stats
from scipy.sparse import csr_matrix

from stem_core.analysis.comparison import (
    calibration,
    compare_genes,
    effective_number,
    gene_variation,
)
from stem_core.analysis.matching import MeasuredTable, match_measured
from stem_core.analysis.measured_files import read_measured
from stem_core.errors import EvaluationError
from stem_core.evaluation.metrics import evaluate_arrays
from stem_core.prediction.result import Prediction
from stem_core.prediction.values import PredictedArrays
from stem_core.slides.spots import Spots

SIDE = 14
N = SIDE**2
ROW, COL = np.divmod(np.arange(N), SIDE)
X, Y = COL * 100.0, ROW * 100.0
SYMBOLS = ("AAA", "BBB", "CCC")
ENSEMBL = ("ENSG00000000001", "ENSG00000000002", "ENSG00000000003")


@pytest.fixture
def prediction() -> Prediction:
    random = np.random.default_rng(0)
    mean = random.uniform(1, 5, (N, 3)).astype(np.float32)
    std = np.full((N, 3), 0.5, dtype=np.float32)
    spots = Spots(
        ids=tuple(f"s{n}" for n in range(N)),
        x_px=X * 2,
        y_px=Y * 2,
        diameter_um=55.0,
        pitch_um=100.0,
        source="measured",
        array_row=ROW.astype(np.int32),
        array_col=COL.astype(np.int32),
        in_tissue=np.ones(N, dtype=bool),
        tissue_fraction=np.ones(N, dtype=np.float32),
    )
    return Prediction(
        slide_name="a",
        spots=spots,
        mpp=0.5,
        symbols=SYMBOLS,
        ensembl=ENSEMBL,
        values=PredictedArrays(
            mean=mean,
            std=std,
            q05=mean - np.float32(1.645) * std,
            q95=mean + np.float32(1.645) * std,
        ),
        domain_distance=None,
        gene_table=pd.DataFrame(index=list(SYMBOLS)),
        run={},
        thumbnail=np.zeros((2, 2, 3), dtype=np.uint8),
        thumbnail_scale=0.01,
    )


def fields(count: int, reach: float, seed: int) -> np.ndarray:
    distance = np.hypot(X[:, None] - X, Y[:, None] - Y) / 100
    root = np.linalg.cholesky(np.exp(-distance / reach) + 0.1 * np.eye(N))
    return root @ np.random.default_rng(seed).normal(size=(N, count))


def test_spots_are_matched_by_name_and_genes_by_symbol_or_id(prediction: Prediction) -> None:
    random = np.random.default_rng(1)
    order = random.permutation(N)[: N - 20]
    counts = random.poisson(5, (N - 20, 4))
    ids = [f"s{n}" for n in order]
    genes, accessions = ["OTHER", "ccc", "Bbb-old", "ccc"], ["", "", "ENSG00000000002.7", ""]
    for table in (counts, csr_matrix(counts)):
        found = match_measured(prediction, MeasuredTable(ids, genes, table, accessions))
        assert found.matched_by == "name"
        assert list(found.genes) == [False, True, True] and found.spots.sum() == N - 20
        for row, spot in enumerate(order):
            expected = np.log2(1 + counts[row, [2, 1]])
            np.testing.assert_allclose(found.values[spot, 1:], expected, rtol=1e-6)
        assert np.isnan(found.values[~found.spots]).all() and np.isnan(found.values[:, 0]).all()


def test_spots_are_matched_by_place_where_names_differ(prediction: Prediction) -> None:
    random = np.random.default_rng(2)
    order = random.permutation(N)
    x = prediction.spots.x_px[order] + random.uniform(-60, 60, N)  # half a pitch is 100 px
    y = prediction.spots.y_px[order] + random.uniform(-60, 60, N)
    counts = np.arange(N)[:, None]
    names = [f"barcode{n}" for n in range(N)]
    found = match_measured(prediction, MeasuredTable(names, ["AAA"], counts, None, x, y))
    assert found.matched_by == "position" and found.spots.all()
    np.testing.assert_allclose(found.values[order, 0], np.log2(1 + np.arange(N)), rtol=1e-6)
    # two spots measured in one place: one predicted spot each, no measured spot twice
    half = dataclasses.replace(prediction.spots, x_px=prediction.spots.x_px / 4)
    squeezed = dataclasses.replace(prediction, spots=half)
    found = match_measured(
        squeezed,
        MeasuredTable(names, ["AAA"], counts, None, half.x_px[order], half.y_px[order]),
    )
    used = found.values[found.spots, 0]
    assert len(np.unique(used)) == len(used)


def test_another_section_is_refused(prediction: Prediction) -> None:
    counts = np.ones((N, 1))
    names = [f"x{n}" for n in range(N)]
    far = prediction.spots.x_px + 50_000
    for x, y in ((far, far), (None, None)):
        with pytest.raises(EvaluationError, match=r"share 0 of 196 spots.*another section"):
            match_measured(prediction, MeasuredTable(names, ["AAA"], counts, None, x, y))
    between = (prediction.spots.x_px + 110, prediction.spots.y_px + 110)
    with pytest.raises(EvaluationError, match=r"most lie between the predicted ones.*predict at"):
        match_measured(prediction, MeasuredTable(names, ["AAA"], counts, None, *between))
    with pytest.raises(EvaluationError, match="no gene in common"):
        match_measured(prediction, MeasuredTable(prediction.spots.ids, ["ZZZ"], counts))
    with pytest.raises(EvaluationError, match="not counts"):
        match_measured(prediction, MeasuredTable(prediction.spots.ids, ["AAA"], -counts))
    few = (prediction.spots.x_px[:1], prediction.spots.y_px[:1])
    found = match_measured(prediction, MeasuredTable(["x"], ["AAA"], counts[:1], None, *few))
    with pytest.raises(EvaluationError, match="1 spot was measured"):
        compare_genes(prediction.mean, found.values, X, Y, SYMBOLS)


def test_figures_of_genes_are_those_of_the_evaluation() -> None:
    predicted, measured = fields(3, 2.0, 1), fields(3, 2.0, 2)
    measured[:, 2] = np.nan
    measured[5] = np.nan
    table = compare_genes(predicted, measured, X, Y, SYMBOLS)
    rows = np.arange(N) != 5
    whole = evaluate_arrays(predicted[rows, :2], measured[rows, :2])
    assert table["pcc"].mean() == pytest.approx(whole["pcc_all"])
    assert table["rvd"].mean() == pytest.approx(whole["rvd"])
    assert table["mse"].mean() == pytest.approx(whole["mse"])
    assert list(table.index) == list(SYMBOLS) and table.loc["CCC"].isna().all()
    kept = table.iloc[:2]
    assert (kept["pcc_low"] < kept["pcc"]).all() and (kept["pcc"] < kept["pcc_high"]).all()


@pytest.mark.parametrize("reach", [1.0, 4.0])
def test_the_interval_holds_unrelated_maps_that_are_smooth(reach: float) -> None:
    symbols = [f"G{n}" for n in range(400)]
    one, other = fields(400, reach, 3), fields(400, reach, 4)
    table = compare_genes(one, other, X, Y, symbols)
    outside = ((table["pcc_low"] > 0) | (table["pcc_high"] < 0)).mean()
    assert outside < 0.10
    naive = np.abs(np.arctanh(table["pcc"])) > 1.96 / np.sqrt(N - 3)
    assert naive.mean() > (0.1 if reach == 1 else 0.35)
    assert table["n_effective"].median() < (0.7 if reach == 1 else 0.4) * N


def test_scattered_values_count_in_full() -> None:
    random = np.random.default_rng(5)
    number = effective_number(random.normal(size=(N, 50)), random.normal(size=(N, 50)), X, Y)
    assert np.median(number) == pytest.approx(N, rel=0.15) and number.max() <= N
    constant = np.ones((N, 1))
    assert np.isnan(effective_number(constant, random.normal(size=(N, 1)), X, Y)).all()


def test_calibration_of_a_normal_prediction() -> None:
    random = np.random.default_rng(6)
    mean = random.normal(size=(4000, 5))
    sd = random.uniform(0.5, 2, size=5)
    measured = mean + sd * random.normal(size=mean.shape)
    z = stats.norm.ppf(0.95)
    measured[:7] = np.nan
    table = calibration(mean, mean - z * sd, mean + z * sd, measured)
    np.testing.assert_allclose(table["observed"], table["nominal"], atol=0.01)
    narrow = calibration(mean, mean - z * sd / 2, mean + z * sd / 2, measured)
    expected = 2 * stats.norm.cdf(stats.norm.ppf(0.5 + table["nominal"] / 2) / 2) - 1
    np.testing.assert_allclose(narrow["observed"], expected, atol=0.015)
    assert (table["low"] <= table["observed"]).all()
    assert list(table["nominal"]) == [0.5, 0.6, 0.7, 0.8, 0.9, 0.95]


def test_the_variation_of_draws_is_that_of_mean_and_spread() -> None:
    random = np.random.default_rng(7)
    mean = random.normal(size=(3000, 2))
    std = np.full((3000, 2), 0.7)
    drawn = mean + std * random.normal(size=mean.shape)
    table = gene_variation(mean, std, drawn * np.array([2, 1]), ["A", "B"])
    assert list(table.index) == ["B", "A"]  # the least varying first
    assert table.loc["B", "drawn"] == pytest.approx(drawn[:, 1].var(), rel=0.06)
    assert table.loc["A", "predicted"] == pytest.approx(mean[:, 0].var())
    assert table.loc["A", "measured"] == pytest.approx(4 * drawn[:, 0].var())


def test_a_measured_file_is_read_in_the_prediction_s_order(
    prediction: Prediction, tmp_path: Path
) -> None:
    counts = np.random.default_rng(3).poisson(4, (N, 2)).astype(np.float32)
    table = AnnData(csr_matrix(counts[::-1]))
    table.obs_names = [f"s{n}" for n in reversed(range(N))]
    table.var_names = ["CCC", "other"]
    table.write_h5ad(tmp_path / "m.h5ad")
    found = read_measured(tmp_path / "m.h5ad", prediction)
    np.testing.assert_allclose(found.values[:, 2], np.log2(1 + counts[:, 0]), rtol=1e-6)
    assert np.isnan(found.values[:, :2]).all()


def test_a_measured_file_that_cannot_be_used(prediction: Prediction, tmp_path: Path) -> None:
    (tmp_path / "text.h5ad").write_text("no")
    with pytest.raises(EvaluationError, match="cannot be read as h5ad"):
        read_measured(tmp_path / "text.h5ad", prediction)
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["values"] = [1.0]
    with h5py.File(tmp_path / "link.h5ad", "w") as file:
        file.create_group("obs")["inside"] = h5py.ExternalLink("secret.h5", "values")
    with pytest.raises(EvaluationError, match="points to data in another file"):
        read_measured(tmp_path / "link.h5ad", prediction)


@pytest.mark.slow
def test_a_real_section_is_compared_as_the_evaluation_does(real_data: Path) -> None:
    from stem_core.prediction.predictor import Predictor
    from stem_core.prediction.settings import SamplingSettings
    from stem_core.slides.reading import open_slide
    from stem_core.slides.spots import read_spots
    from zoo.loader import load_model
    from zoo.registry import find_model

    table = real_data / "her2st" / "st" / "C5.h5ad"
    model = load_model(find_model("her2st-breast").folder)
    with open_slide(real_data / "her2st" / "wsis" / "C5.tif") as slide:
        spots = read_spots(table, slide, diameter_um=100.0)
        predictor = Predictor(model, "cpu", "fp32")
        made = predictor.predict(slide, spots, SamplingSettings("angle", 2, 2))
    found = read_measured(table, made)
    assert found.matched_by == "name" and found.spots.all() and found.genes.all()
    mpp = made.mpp
    genes = compare_genes(made.mean, found.values, spots.x_px * mpp, spots.y_px * mpp, made.symbols)
    figures = evaluate_arrays(made.mean, found.values)
    assert genes["pcc"].mean() == pytest.approx(figures["pcc_all"], abs=1e-6)
    assert genes["mse"].mean() == pytest.approx(figures["mse"], abs=1e-6)
    assert (genes["pcc_low"] < genes["pcc"]).all() and (genes["n_effective"] < len(spots)).all()
