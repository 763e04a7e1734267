import numpy as np
import pytest

from stem_core.evaluation.intervals import (
    BlockBootstrap,
    draw_blocks,
    over_sections,
    percentile_interval,
    resampled_figures,
)
from stem_core.evaluation.metrics import evaluate_arrays, pearson_by_gene
from tests.evaluation.made_section import made_input


def test_a_replicate_is_the_figure_of_its_spots() -> None:
    given = made_input()
    bootstrap = draw_blocks(given.x_um, given.y_um, replicates=20, seed=3)
    ridge = given.baselines["ridge"]
    genes = {"pcc_all": range(24), "pcc_2": (3, 5)}
    found = resampled_figures(ridge, given.measured, bootstrap, genes)
    for place in (0, 7, 19):
        rows = np.repeat(np.arange(144), bootstrap.weights[place].astype(int))
        expected = evaluate_arrays(ridge[rows], given.measured[rows])
        for key in ("pcc_all", "mse", "mae", "rvd"):
            assert found[key][place] == pytest.approx(expected[key], rel=1e-5), key
        r = pearson_by_gene(ridge[rows], given.measured[rows])
        assert found["pcc_2"][place] == pytest.approx(r[[3, 5]].mean(), rel=1e-5)


def test_whole_blocks_are_drawn() -> None:
    given = made_input()
    found = draw_blocks(given.x_um, given.y_um, replicates=200)
    assert found.side_um == pytest.approx(500.0)  # 144 spots: 1.5 times the fourth root
    assert 5 <= found.blocks <= 12
    grid = found.weights.reshape(-1, 12, 12)
    assert np.mean(grid[:, :, 1:] == grid[:, :, :-1]) > 0.6  # neighbours come together
    assert found.weights.mean() == pytest.approx(1.0, abs=0.05)
    assert len(np.unique(found.weights, axis=0)) > 180


def test_intervals_of_means_hold_what_they_promise_on_smooth_maps() -> None:
    """Coverage over 300 simulated maps: near 95 %, where single spots give far too narrow ones."""
    random = np.random.default_rng(0)
    y, x = (100.0 * a.ravel() for a in np.mgrid[:16, :16])
    distance = np.hypot(x[:, None] - x, y[:, None] - y)
    root = np.linalg.cholesky(np.exp(-distance / 100) + 1e-9 * np.eye(256))
    maps = root @ random.normal(size=(256, 300))
    covered = {}
    blocks = draw_blocks(x, y, replicates=300)
    draws = random.multinomial(256, np.full(256, 1 / 256), size=300).astype(float)
    for name, bootstrap in (("blocks", blocks), ("spots", BlockBootstrap(draws, 256, 100.0))):
        weights = bootstrap.weights / bootstrap.weights.sum(1, keepdims=True)
        means = weights @ maps
        ends = np.array([percentile_interval(m, bootstrap.blocks) for m in means.T])
        covered[name] = float(np.mean((ends[:, 0] <= 0) & (ends[:, 1] >= 0)))
    assert 0.88 < covered["blocks"] < 0.99
    assert covered["spots"] < 0.7


def test_few_blocks_make_wider_intervals() -> None:
    values = np.random.default_rng(0).normal(size=5000)
    many, few = percentile_interval(values, 1000), percentile_interval(values, 6)
    np.testing.assert_allclose(many, (-1.96, 1.96), atol=0.12)
    assert few[0] < many[0] - 0.4 and few[1] > many[1] + 0.4


def test_over_sections() -> None:
    mean, interval = over_sections([0.5, 0.6, 0.7])
    assert mean == pytest.approx(0.6)
    assert interval is not None
    assert 0.5 <= interval[0] < 0.55 and 0.65 < interval[1] <= 0.7  # few: about their range
    assert over_sections([0.4]) == (0.4, None)


def test_spots_in_one_place_or_line_do_not_fail() -> None:
    for x, y in ((np.zeros(5), np.zeros(5)), (np.arange(5.0), np.zeros(5))):
        found = draw_blocks(x, y, replicates=10)
        assert found.weights.shape == (10, 5)
        assert (found.weights.sum(1) > 0).all()
