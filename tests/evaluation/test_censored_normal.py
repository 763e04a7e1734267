import numpy as np
import pytest
from scipy import integrate, stats

from stem_core.evaluation.censored_normal import CensoredNormal
from stem_core.evaluation.zeros import ZERO_BELOW


@pytest.mark.parametrize(
    ("centre", "sd", "value"), [(1.0, 0.5, 1.4), (0.2, 0.8, 0.0), (0.0, 1.5, 2.0), (3.0, 0.01, 2.0)]
)
def test_its_score_is_the_integral_over_the_cut_distribution(
    centre: float, sd: float, value: float
) -> None:
    above = stats.norm(centre, sd).cdf
    # (F(t) - [t >= value])², F = 0 below 0
    under = integrate.quad(lambda t: above(t) ** 2, 0, value)[0]
    over = integrate.quad(lambda t: (1 - above(t)) ** 2, value, value + 40)[0]
    found = CensoredNormal(np.array([[centre]]), np.array([sd])).crps(np.array([[value]]))
    assert found.item() == pytest.approx(under + over, abs=1e-6)


def test_without_width_it_is_a_point() -> None:
    centre, measured = np.array([[0.0, 2.0]]), np.array([[0.7, 2.0]])
    point = CensoredNormal(centre, np.zeros(2))
    np.testing.assert_allclose(point.crps(measured), [[0.7, 0.0]], atol=1e-6)
    assert point.inside_90(measured).tolist() == [[False, True]]
    assert point.no_count().tolist() == [[1.0, 0.0]]


def test_its_quantiles_and_zeros_are_those_of_draws() -> None:
    random = np.random.default_rng(0)
    centre, sd = np.array([[0.1, 1.0, 4.0]]), np.array([0.5, 1.0, 0.3])
    draws = (centre + sd * random.normal(size=(200_000, 3))).clip(0)
    spread = CensoredNormal(centre, sd)
    np.testing.assert_allclose(spread.no_count()[0], (draws < ZERO_BELOW).mean(0), atol=5e-3)
    low, high = np.quantile(draws, [0.05, 0.95], axis=0)
    for value, inside in ((low + 0.02, True), (high - 0.02, True), (high + 0.02, False)):
        assert spread.inside_90(value[None]).all() == inside
    assert spread.inside_90(np.zeros((1, 3))).tolist() == [[True, True, False]]
