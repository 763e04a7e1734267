import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import pearsonr

from stem_core.analysis.gene_sets import gene_figure, ranked_genes

RANDOM = np.random.default_rng(8)
N = 70
X, Y = RANDOM.uniform(0, 900, (2, N))
VALUES = RANDOM.normal(size=(N, 40)).astype(np.float32)  # more than are taken together
VALUES[:, 1] += np.sin(X / 200).astype(np.float32)
VALUES[:, 39] = 1.5


def figure(kind: str, column: int = 0) -> np.ndarray:
    return gene_figure(kind, VALUES, X, Y, column)


def test_the_variance_is_that_of_numpy() -> None:
    np.testing.assert_allclose(figure("variance"), np.var(VALUES.astype(float), 0, ddof=1))
    assert np.isnan(gene_figure("variance", VALUES[:1], X[:1], Y[:1])).all()


def test_the_structure_is_morans_i_of_all_pairs_in_reach() -> None:
    away = cdist(np.column_stack([X, Y]), np.column_stack([X, Y]))
    nearest = np.where(away > 0, away, np.inf).min(1)
    near = ((away <= 1.6 * np.median(nearest)) & (away > 0)).astype(float)
    weights = near / np.maximum(near.sum(1, keepdims=True), 1)
    z = VALUES.astype(float) - VALUES.mean(0, dtype=float)
    expected = np.einsum("ig,ij,jg->g", z, weights, z)[:39] / (z**2).sum(0)[:39]
    found = figure("structure")
    np.testing.assert_allclose(found[:39], expected * N / weights.sum(), atol=1e-10)
    assert np.isnan(found[39])


def test_the_correlation_is_that_of_scipy() -> None:
    found = figure("correlation", 1)
    expected = [pearsonr(VALUES[:, gene], VALUES[:, 1])[0] for gene in range(39)]
    np.testing.assert_allclose(found[:39], expected, atol=1e-6)
    assert np.isnan(found[39])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n", [1, 2])
def test_one_and_two_spots_have_no_correlation_and_no_structure(n: int) -> None:
    for kind in ("correlation", "structure"):
        assert np.isnan(gene_figure(kind, VALUES[:n], X[:n], Y[:n])).all()


def test_other_figures_are_refused() -> None:
    with pytest.raises(ValueError, match="'size'"):
        figure("size")


def test_genes_are_ranked_and_those_without_a_figure_left_out() -> None:
    figures = np.array([0.5, np.nan, 2.0, 0.5, -1.0])
    assert list(ranked_genes("ABCDE", figures).index) == ["C", "A", "D", "E"]
    lowest = ranked_genes("ABCDE", figures, lowest_first=True)
    assert list(lowest.index) == ["E", "A", "D", "C"] and lowest["C"] == 2.0
