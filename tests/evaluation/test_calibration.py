import numpy as np
import pytest

from stem_core.analysis.comparison import calibration
from stem_core.evaluation.calibration import half_sample_mode, sample_calibration
from stem_core.evaluation.metrics import crps, crps_by_spot

RANDOM = np.random.default_rng(2)


def test_crps_by_brute_force() -> None:
    samples, measured = RANDOM.normal(size=(6, 5, 3)), RANDOM.normal(size=(6, 3))
    by_spot = []
    for n in range(6):
        total = 0.0
        for g in range(3):
            x, y = samples[n, :, g], measured[n, g]
            spread = sum(abs(a - b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j)
            total += np.abs(x - y).mean() - spread / (5 * 4) / 2
        by_spot.append(total / 3)
    np.testing.assert_allclose(crps_by_spot(samples, measured), by_spot)
    assert crps(samples, measured) == pytest.approx(np.mean(by_spot))


def test_draws_like_the_measurement_lie_on_the_diagonal() -> None:
    samples, measured = RANDOM.normal(size=(4000, 9, 2)), RANDOM.normal(size=(4000, 2))
    table = sample_calibration(samples, measured)
    np.testing.assert_allclose(table["nominal"], [0.2, 0.4, 0.6, 0.8])
    np.testing.assert_allclose(table["observed"], table["nominal"], atol=0.02)
    narrow = sample_calibration(0.5 * samples, measured)
    assert (narrow["observed"] < table["nominal"] - 0.05).all()


def test_bounds_are_inside_and_genes_are_told_apart() -> None:
    samples = np.zeros((5, 3, 2))
    measured = np.array([[0.0, 1.0]] * 5)
    (row,) = sample_calibration(samples, measured).itertuples()
    assert (row.nominal, row.observed, row.low, row.high) == (0.5, 0.5, 0.05, 0.95)


def test_mode_by_halving() -> None:
    values = np.array([0.0, 5.0, 5.1, 5.2, 9.0, 20.0])
    assert half_sample_mode(values[None, :, None])[0, 0] == pytest.approx(5.05)
    assert half_sample_mode(np.array([[[1.0], [2.0]]]))[0, 0] == 1.5
    skewed = RANDOM.gamma(2.0, 1.0, (200, 200, 1))  # mode 1, median 1.68, mean 2
    assert half_sample_mode(skewed).mean() == pytest.approx(1.0, abs=0.25)


def test_a_band_cut_off_at_zero_still_scales() -> None:
    truth = RANDOM.normal(0.5, 1.0, (4000, 2)).clip(0)
    mean = np.full_like(truth, 0.5)
    table = calibration(mean, (mean - 1.645).clip(0), mean + 1.645, truth)
    # bands whose lower bound is 0 or less hold all zeros, 31 % of the values
    wanted = [0.5 + level / 2 if level > 0.38 else level for level in table["nominal"]]
    np.testing.assert_allclose(table["observed"], wanted, atol=0.02)


def test_a_band_that_was_not_cut_off_keeps_its_lower_side() -> None:
    """Each side of an asymmetric band is scaled by itself, below 0 too."""
    z = RANDOM.normal(size=(20000, 2))
    truth = 0.5 + np.where(z < 0, 0.6 * z, 3.0 * z)
    mean = np.full_like(truth, 0.5)
    low, high = mean - 0.6 * 1.645, mean + 3.0 * 1.645
    table = calibration(mean, low, high, truth)
    np.testing.assert_allclose(table["observed"], table["nominal"], atol=0.01)
