import numpy as np
import pytest
from scipy import stats

from stem_core.evaluation.metrics import crps, evaluate_arrays, pearson_by_gene

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


def test_figures_that_cannot_be_computed_are_none() -> None:
    p, m = RANDOM.normal(size=(2, 4)), RANDOM.normal(size=(2, 4))
    figures = evaluate_arrays(p, m)
    assert figures["pcc_10"] is figures["pcc_50"] is figures["pcc_all"] is None
    assert figures["rvd"] is not None and figures["n_constant_genes"] == 0
    flat = evaluate_arrays(np.tile(p, (9, 1)), np.ones((18, 4)))
    assert flat["pcc_all"] is flat["rvd"] is flat["coverage_90"] is None
    assert flat["n_constant_genes"] == 4 and flat["mse"] is not None


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
