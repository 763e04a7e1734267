"""Composition, depth alone and the noise ceiling, against their definitions and known truth."""

from __future__ import annotations

import numpy as np
import pytest

from stem_core.evaluation.composition import (
    composition,
    composition_of_counts,
    noise_ceiling,
    total_everywhere,
)
from stem_core.evaluation.metrics import pearson_by_gene


def counted(spots: int, depth: float) -> tuple[np.ndarray, np.ndarray]:
    """Simulate a section of `depth` molecules a spot: true rates and counts, (N,8) each."""
    random = np.random.default_rng(3)
    share = np.exp(random.normal(0, 0.5, (spots, 8)))
    share /= share.sum(1, keepdims=True)
    total = depth * np.exp(random.normal(0, 0.6, (spots, 1)))
    return total * share, random.poisson(total * share)


def test_composition_is_the_share_of_the_total() -> None:
    counts = np.array([[1, 3, 0], [0, 0, 0]])
    expected = np.log2(1 + np.array([[2500.0, 7500.0, 0.0], [0.0, 0.0, 0.0]]))
    assert composition_of_counts(counts) == pytest.approx(expected)
    assert composition(np.log2(1.0 + counts)) == pytest.approx(expected, abs=1e-5)
    of_all = composition_of_counts(counts, totals=np.array([40.0, 0.0]))
    assert of_all[0, 0] == pytest.approx(np.log2(251))


def test_composition_does_not_know_the_depth() -> None:
    rates, _ = counted(50, 100)
    assert composition_of_counts(rates) == pytest.approx(composition_of_counts(7 * rates), rel=1e-5)


def test_the_total_is_the_same_map_for_every_gene() -> None:
    counts = np.array([[1, 3], [0, 0], [10, 5]])
    found = total_everywhere(np.log2(1.0 + counts))
    assert found == pytest.approx(np.log2([[5, 5], [1, 1], [16, 16]]), abs=1e-6)


@pytest.mark.parametrize(("depth", "within"), [(200, 0.1), (1000, 0.04)])
def test_the_ceiling_is_what_the_true_rates_reach(depth: float, within: float) -> None:
    rates, counts = counted(4000, depth)
    measured = np.log2(1.0 + counts)
    log_counts, shares = noise_ceiling(measured)
    reached = pearson_by_gene(np.log2(1 + rates), measured)
    assert log_counts.mean() == pytest.approx(reached.mean(), abs=0.04)
    reached = pearson_by_gene(composition_of_counts(rates), composition(measured))
    assert shares.mean() == pytest.approx(reached.mean(), abs=within)


def test_noise_alone_has_a_ceiling_near_zero() -> None:
    counts = np.random.default_rng(0).poisson(4, (3000, 6))
    log_counts, _ = noise_ceiling(np.log2(1.0 + counts))
    assert log_counts.max() < 0.2
    constant = noise_ceiling(np.zeros((10, 2)))
    assert np.isnan(constant).all()
