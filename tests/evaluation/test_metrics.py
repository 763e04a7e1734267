import json
from pathlib import Path

import anndata
import numpy as np
import pytest
from scipy import stats

from stem_core.errors import EvaluationError
from stem_core.evaluation.metrics import crps, evaluate_arrays, evaluate_files, pearson_by_gene

RANDOM = np.random.default_rng(0)


def test_pearson_agrees_with_scipy() -> None:
    p, m = RANDOM.normal(size=(50, 7)), RANDOM.normal(size=(50, 7))
    expected = [stats.pearsonr(p[:, g], m[:, g]).statistic for g in range(7)]
    np.testing.assert_allclose(pearson_by_gene(p, m), expected, atol=1e-12)


def test_constant_genes_count_as_the_protocol_says() -> None:
    p, m = RANDOM.normal(size=(50, 4)), RANDOM.normal(size=(50, 4))
    p[:, 0], m[:, 1] = 3.0, 2.0
    figures = evaluate_arrays(p, m)
    assert figures["n_constant_genes"] == 1
    r = [0.0, *(stats.pearsonr(p[:, g], m[:, g]).statistic for g in (2, 3))]
    assert figures["pcc_all"] == pytest.approx(np.mean(r))


def test_variance_difference_and_coverage_by_hand() -> None:
    m = np.array([[0.0], [2.0]])
    figures = evaluate_arrays(np.array([[0.0], [1.0]]), m, lower=m, upper=m)
    assert figures["rvd"] == pytest.approx((0.25 - 1) ** 2)
    assert figures["coverage_90"] == 1.0  # bounds are inclusive
    assert figures["mse"] == pytest.approx(0.5) and figures["mae"] == pytest.approx(0.5)


def test_crps_of_a_normal_forecast() -> None:
    samples = RANDOM.normal(size=(4000, 16, 1))
    measured = np.full((4000, 1), 0.5)
    z = 0.5
    exact = z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi)
    assert crps(samples, measured) == pytest.approx(exact, abs=0.01)


def write(
    path: Path, values: np.ndarray, spots: list[str], genes: list[str], **layers: np.ndarray
) -> Path:
    table = anndata.AnnData(values.astype(np.float32))
    table.obs_names, table.var_names = spots, genes
    for name, layer in layers.items():
        table.layers[name] = layer.astype(np.float32)
    table.write_h5ad(path)
    return path


def test_files_are_matched_by_name(tmp_path: Path) -> None:
    counts = RANDOM.poisson(5, size=(4, 3))
    truth = write(tmp_path / "t.h5ad", counts, list("abcd"), ["G1", "G2", "G3"])
    order, genes = [3, 1, 0], [2, 0]
    logged = np.log2(1 + counts)[order][:, genes]
    prediction = write(
        tmp_path / "p.h5ad",
        logged,
        ["d", "b", "a"],
        ["G3", "G1"],
        q05=logged - 1e-3,
        q95=logged + 1e-3,
    )
    figures = evaluate_files(prediction, truth)
    assert figures["mse"] == pytest.approx(0, abs=1e-10)
    assert (figures["n_spots"], figures["n_genes"], figures["coverage_90"]) == (3, 2, 1.0)
    json.dumps(figures)


def test_unfit_files_give_a_sentence(tmp_path: Path) -> None:
    a = write(tmp_path / "a.h5ad", np.ones((2, 2)), ["x", "y"], ["G1", "G2"])
    b = write(tmp_path / "b.h5ad", np.ones((2, 2)), ["u", "v"], ["G1", "G2"])
    c = write(tmp_path / "c.h5ad", np.ones((2, 2)), ["x", "y"], ["H1", "H2"])
    (tmp_path / "d.h5ad").write_bytes(b"no")
    for other, says in (
        (b, "0 spots in common"),
        (c, "no gene symbol"),
        (tmp_path / "d.h5ad", "cannot be read"),
    ):
        with pytest.raises(EvaluationError, match=says):
            evaluate_files(a, other)
