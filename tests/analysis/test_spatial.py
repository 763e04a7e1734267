import numpy as np
import pytest

from stem_core.analysis.spatial import correlated_genes, morans_i, neighbour_weights

RANDOM = np.random.default_rng(3)


def square(side: int, pitch: float = 100.0) -> tuple[np.ndarray, np.ndarray]:
    row, col = np.divmod(np.arange(side**2), side)
    return col * pitch, row * pitch


def hexagons(side: int, pitch: float = 100.0) -> tuple[np.ndarray, np.ndarray]:
    row, col = np.divmod(np.arange(side**2), side)
    return (col + row % 2 / 2) * pitch, row * pitch * np.sqrt(3) / 2


@pytest.mark.parametrize(("pattern", "number"), [(square, 8), (hexagons, 6)])
def test_inner_spots_have_the_neighbours_of_their_pattern(pattern: object, number: int) -> None:
    weights = neighbour_weights(*pattern(7), 100.0)  # type: ignore[operator]
    row = weights.toarray()[24]  # the middle one
    assert (row > 0).sum() == number and row[24] == 0
    np.testing.assert_allclose(weights.sum(axis=1), 1)


def test_lonely_spots_have_no_neighbours() -> None:
    weights = neighbour_weights(np.array([0.0, 100.0, 900.0]), np.zeros(3), 100.0)
    np.testing.assert_array_equal(weights.toarray(), [[0, 1, 0], [1, 0, 0], [0, 0, 0]])
    one = neighbour_weights(np.zeros(1), np.zeros(1), np.nan)
    assert np.isnan(morans_i(np.ones((1, 2)), one)).all()


def test_morans_i_is_that_of_the_formula() -> None:
    x, y = RANDOM.uniform(0, 1000, (2, 60))
    values = RANDOM.normal(size=(60, 4))
    values[:, 3] = 2.5
    weights = neighbour_weights(x, y, 100.0)
    found = morans_i(values, weights)
    w = weights.toarray()
    for gene in range(3):
        above = below = 0.0
        mean = values[:, gene].mean()
        for i in range(60):
            below += (values[i, gene] - mean) ** 2
            for j in range(60):
                above += w[i, j] * (values[i, gene] - mean) * (values[j, gene] - mean)
        assert found[gene] == pytest.approx(60 / w.sum() * above / below, abs=1e-12)
    assert np.isnan(found[3])


def test_a_checkerboard_and_a_slope() -> None:
    x, y = square(12)
    weights = neighbour_weights(x, y, 75.0)  # reach of 120: the four beside
    board = (np.arange(144) // 12 + np.arange(144) % 12) % 2
    found = morans_i(np.column_stack([board, x]).astype(float), weights)
    assert found[0] == pytest.approx(-1) and found[1] > 0.85


def test_morans_i_agrees_with_esda() -> None:
    esda = pytest.importorskip("esda", reason="esda, an independent Moran's I, is not installed")
    libpysal = pytest.importorskip("libpysal", reason="libpysal is not installed")
    x, y = hexagons(15)
    values = RANDOM.normal(size=(225, 3)) + np.sin(x / 300)[:, None]
    weights = neighbour_weights(x, y, 100.0)
    w = libpysal.weights.WSP(weights.tocsr()).to_W()
    expected = [esda.Moran(values[:, gene], w, permutations=0).I for gene in range(3)]
    np.testing.assert_allclose(morans_i(values, weights), expected, atol=1e-9)


def test_a_hundred_thousand_spots() -> None:
    x, y = square(317)
    weights = neighbour_weights(x, y, 100.0)
    assert weights.nnz < 8 * 317**2
    assert abs(morans_i(RANDOM.normal(size=(317**2, 2)), weights)).max() < 0.02


def test_correlated_genes_are_those_of_numpy() -> None:
    values = RANDOM.normal(size=(40, 5))
    values[:, 1] += 2 * values[:, 0]
    values[:, 4] = 1.0
    found = correlated_genes(values, 0)
    np.testing.assert_allclose(found[:4], np.corrcoef(values[:, :4].T)[0], atol=1e-12)
    assert np.isnan(found[4]) and np.isnan(correlated_genes(values, 4)).all()
