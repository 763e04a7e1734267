import numpy as np
import pytest
from anndata import AnnData
from scipy.sparse import csr_matrix
from sklearn.metrics import brier_score_loss, roc_auc_score

from stem_core.analysis.spatial import morans_i, neighbour_weights
from stem_core.evaluation.structure import (
    gene_correlations,
    pair_counts,
    pair_figures,
    pattern_figures,
    roc_auc,
)
from stem_core.evaluation.zeros import no_count_probability, zero_figures
from tests.evaluation.made_section import made_input

RANDOM = np.random.default_rng(1)


def test_roc_auc_agrees_with_scikit_learn_with_ties() -> None:
    scores = RANDOM.integers(0, 6, (60, 5)).astype(float)
    positive = RANDOM.random((60, 5)) < 0.3
    expected = [roc_auc_score(positive[:, g], scores[:, g]) for g in range(5)]
    np.testing.assert_allclose(roc_auc(scores, positive), expected)
    positive[:, 0] = True
    assert np.isnan(roc_auc(scores, positive)[0])


def test_morans_i_of_a_section_agrees_with_scanpy() -> None:
    from scanpy.metrics import morans_i as oracle

    given = made_input()
    weights = neighbour_weights(given.x_um, given.y_um, 100.0)
    found = morans_i(given.measured, weights)
    np.testing.assert_allclose(found, oracle(csr_matrix(weights), given.measured.T), atol=1e-5)
    assert (found > 0.2).mean() > 0.5  # the made waves are patterns


def test_morans_i_of_a_section_agrees_with_squidpy() -> None:
    squidpy = pytest.importorskip("squidpy")
    given = made_input()
    weights = neighbour_weights(given.x_um, given.y_um, 100.0)
    table = AnnData(given.measured, obsp={"spatial_connectivities": csr_matrix(weights)})
    oracle = squidpy.gr.spatial_autocorr(
        table, mode="moran", n_perms=None, copy=True, show_progress_bar=False
    )
    np.testing.assert_allclose(
        morans_i(given.measured, weights), oracle.loc[table.var_names, "I"], atol=1e-9
    )


def test_pattern_figures_by_hand() -> None:
    measured = np.array([0.9, 0.8, 0.1, 0.0, 0.05, 0.02, 0.03, 0.01])
    found = pattern_figures(measured + 0.1, measured)
    assert found["moran_error"] == pytest.approx(0.1) == pytest.approx(found["moran_shift"])
    assert found["svg_overlap"] == found["svg_auc"] == 1.0
    # the 2 most patterned of 8: a prediction that finds one of them
    other = measured.copy()
    other[[0, 2]] = other[[2, 0]]
    assert pattern_figures(other, measured)["svg_overlap"] == 0.5
    assert pattern_figures(other, measured)["svg_auc"] == pytest.approx(
        roc_auc_score(np.arange(8) < 2, other)
    )


def test_a_constant_prediction_finds_patterned_genes_as_a_blind_choice_does() -> None:
    measured = np.linspace(0, 1, 40)
    found = pattern_figures(np.full(40, np.nan), measured)
    assert found["svg_overlap"] == pytest.approx(0.25)
    assert found["svg_auc"] == 0.5
    assert found["moran_error"] == pytest.approx(measured.mean())


def test_gene_pairs_agree_with_numpy() -> None:
    a, b = RANDOM.normal(size=(2, 40, 6))
    one, other = np.corrcoef(a.T), np.corrcoef(b.T)
    np.testing.assert_allclose(gene_correlations(a), one, atol=1e-12)
    p, m = one[np.triu_indices(6, 1)], other[np.triu_indices(6, 1)]
    found = pair_figures(one, other)
    assert found["pairs_r"] == pytest.approx(np.corrcoef(p, m)[0, 1])
    assert found["pairs_rmse"] == pytest.approx(np.sqrt(((p - m) ** 2).mean()))
    assert pair_counts(one, other).sum() == 15


def test_constant_genes_in_pairs() -> None:
    a, b = RANDOM.normal(size=(2, 40, 6))
    a[:, 0], b[:, 1] = 1.0, 2.0
    with np.errstate(invalid="ignore"):
        p, m = np.corrcoef(a[:, 2:].T), np.corrcoef(b.T)
    found = pair_counts(gene_correlations(a), gene_correlations(b))
    assert found.sum() == 10  # pairs with the gene that is constant in the measurement are left out
    expected = [(0 if 0 in (i, j) else p[i - 2, j - 2]) - m[i, j]
                for i in (0, 2, 3, 4, 5) for j in (0, 2, 3, 4, 5) if i < j]  # fmt: skip
    rmse = pair_figures(gene_correlations(a), gene_correlations(b))["pairs_rmse"]
    assert rmse == pytest.approx(np.sqrt(np.mean(np.square(expected))))


def test_zeros_agree_with_scikit_learn() -> None:
    measured = np.log2(1 + RANDOM.poisson(0.9, (80, 4)))
    samples = np.log2(1 + RANDOM.poisson(0.9, (80, 7, 4)))
    probability = no_count_probability(samples.mean(1), samples, None)
    np.testing.assert_allclose(probability, (samples == 0).mean(1))
    predicted = samples.mean(1)
    found = zero_figures(predicted, measured, probability)
    auc = [roc_auc_score(measured[:, g] == 0, -predicted[:, g]) for g in range(4)]
    assert found["zero_auc"] == pytest.approx(np.mean(auc))
    brier = [brier_score_loss(measured[:, g] == 0, probability[:, g]) for g in range(4)]
    assert found["zero_brier"] == pytest.approx(np.mean(brier))
    share = np.abs((samples == 0).mean((0, 1)) - (measured == 0).mean(0)).mean()
    assert found["zero_share_error"] == pytest.approx(share)


def test_zeros_from_a_band_and_from_values_alone() -> None:
    predicted = np.full((1, 3), np.log2(1.5))
    predicted[0, 1:] = (3.0, 0.0)
    band = (predicted - 1, predicted + 1)
    found = no_count_probability(predicted, None, band)
    assert found is not None
    assert found[0, 0] == pytest.approx(0.5)
    assert found[0, 1] < 1e-3 and 0.5 < found[0, 2] < 0.9
    assert no_count_probability(predicted, None, None) is None
    measured = np.zeros((4, 1))
    figures = zero_figures(np.array([[0.0], [0.0], [2.0], [2.0]]), measured, None)
    assert figures["zero_share_error"] == 0.5
    assert np.isnan(figures["zero_brier"]) and np.isnan(figures["zero_auc"])
