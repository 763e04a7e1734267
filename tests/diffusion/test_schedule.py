import numpy as np
import pytest

from stem_core.diffusion.schedule import Schedule, spaced_timesteps, visited_timesteps
from stem_core.errors import SettingsError


def test_published_schedule_has_its_golden_numbers() -> None:
    schedule = Schedule()
    assert schedule.betas[[0, -1]] == pytest.approx([1e-4, 2e-2])
    # Π (1 - β) computed in logarithms, a different way round than the code's running product.
    expected = np.exp(np.log1p(-np.linspace(1e-4, 2e-2, 1000)).sum())
    assert schedule.alphas_bar[-1] == pytest.approx(expected, rel=1e-9)
    assert schedule.alphas_bar[-1] == pytest.approx(4.0358e-5, rel=1e-4)


def test_spacing_follows_the_published_rule() -> None:
    assert spaced_timesteps(1000, 1).tolist() == [0]
    assert spaced_timesteps(1000, 2).tolist() == [0, 999]
    assert spaced_timesteps(1000, 5).tolist() == [0, 250, 500, 749, 999]
    assert spaced_timesteps(1000, 1000).tolist() == list(range(1000))
    for count in (3, 7, 10, 50, 999):
        chosen = spaced_timesteps(1000, count)
        assert len(set(chosen.tolist())) == count
        assert chosen[-1] == 999


@pytest.mark.parametrize("count", [0, -1, 1001])
def test_impossible_spacing_is_refused(count: int) -> None:
    with pytest.raises(SettingsError, match="choose 1 to 1000"):
        spaced_timesteps(1000, count)


def test_respaced_schedule_keeps_alpha_bar() -> None:
    schedule, chosen = Schedule(), spaced_timesteps(1000, 50)
    np.testing.assert_allclose(
        schedule.respaced(chosen).alphas_bar, schedule.alphas_bar[chosen], rtol=1e-12
    )


@pytest.mark.parametrize("spacing", ["even", "trimmed", "angle"])
@pytest.mark.parametrize("count", [1, 2, 5, 40, 900, 1000])
def test_every_spacing_visits_as_many_as_asked(spacing: str, count: int) -> None:
    chosen = visited_timesteps(Schedule(), count, spacing)
    assert len(chosen) == count
    assert (np.diff(chosen) > 0).all()
    assert 0 <= chosen[0] and chosen[-1] <= 999


def test_angle_spacing_takes_the_middles_of_equal_cells() -> None:
    schedule = Schedule()
    angles = schedule.angles[visited_timesteps(schedule, 4, "angle")]
    np.testing.assert_allclose(angles, np.arange(1, 8, 2) / 8 * schedule.angles[-1], atol=2e-3)


def test_unknown_spacing_is_refused() -> None:
    with pytest.raises(SettingsError, match="choose one of even, trimmed, angle"):
        visited_timesteps(Schedule(), 5, "wild")
