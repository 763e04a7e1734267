import numpy as np
import pytest

from stem_core.analysis.regions import Region, describe_region, spots_inside
from stem_core.errors import SettingsError

RANDOM = np.random.default_rng(5)


def by_angle(polygon: np.ndarray, x: float, y: float) -> bool:
    """Winding by angles, for outlines that do not cross themselves."""
    angle = np.arctan2(polygon[:, 1] - y, polygon[:, 0] - x)
    turn = np.diff(np.append(angle, angle[0]))
    return abs(((turn + np.pi) % (2 * np.pi) - np.pi).sum()) > np.pi


def test_spots_inside_a_star_are_those_of_another_rule() -> None:
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    radius = RANDOM.uniform(20, 100, 40)
    star = np.column_stack([radius * np.cos(angles), radius * np.sin(angles)])
    x, y = RANDOM.uniform(-110, 110, (2, 3000))
    expected = [by_angle(star, *point) for point in zip(x, y, strict=True)]
    np.testing.assert_array_equal(spots_inside(star, x, y), expected)
    # the other way round, and closed by hand, is the same outline
    np.testing.assert_array_equal(spots_inside([*star[::-1], star[-1]], x, y), expected)


def test_left_and_upper_edges_are_inside_and_no_spot_is_in_two_boxes() -> None:
    box = np.array([(0, 0), (10, 0), (10, 10), (0, 10)], dtype=float)
    x = np.array([0.0, 10, 5, 5, 0, 10])
    y = np.array([5.0, 5, 0, 10, 0, 10])
    np.testing.assert_array_equal(spots_inside(box, x, y), [1, 0, 1, 0, 1, 0])
    spots = np.meshgrid(np.arange(0.0, 20, 2.5), np.arange(0.0, 10, 2.5))
    x, y = spots[0].ravel(), spots[1].ravel()
    beside = spots_inside(box, x, y).astype(int) + spots_inside(box + np.array([10, 0]), x, y)
    assert (beside == 1).all()


def test_even_odd_makes_holes() -> None:
    bow = [(0, 0), (10, 10), (10, 0), (0, 10)]  # crosses itself
    np.testing.assert_array_equal(spots_inside(bow, [1.0, 5, 9], [5.0, 1, 5]), [1, 0, 1])
    outer = np.array([(0, 0), (10, 0), (10, 10), (0, 10)], dtype=float)
    ring = Region("ring", (outer, outer * 0.5 + 2.5))
    np.testing.assert_array_equal(ring.inside(np.array([1.0, 5]), np.array([1.0, 5])), [1, 0])


def test_a_line_encloses_nothing() -> None:
    assert not spots_inside([(0, 0), (5, 5)], np.arange(5.0), np.arange(5.0)).any()
    assert not spots_inside(np.zeros((0, 2)), np.arange(5.0), np.arange(5.0)).any()


def test_regions_of_chosen_spots() -> None:
    x = np.arange(4.0)
    np.testing.assert_array_equal(Region("a", spots=(1, 3)).inside(x, x), [0, 1, 0, 1])
    with pytest.raises(SettingsError, match=r"spot 9.*4 spots"):
        Region("a", spots=(1, 9)).inside(x, x)


def test_a_description_is_that_of_numpy() -> None:
    values = RANDOM.normal(size=(50, 3)).astype(np.float32)
    values[4, 2] = np.nan
    inside = np.arange(50) < 21
    table = describe_region(values, inside, ["A", "B", "C"])
    b = values[:21, 1].astype(np.float64)
    row = table.loc["B"]
    assert row["n"] == 21 and table.loc["C", "n"] == 20
    assert row["mean"] == pytest.approx(np.mean(b)) and row["median"] == pytest.approx(np.median(b))
    assert row["sd"] == pytest.approx(np.std(b, ddof=1))
    quantiles = row[["q05", "q25", "q75", "q95"]].to_numpy(float)
    np.testing.assert_allclose(quantiles, np.quantile(b, [0.05, 0.25, 0.75, 0.95]))
    with pytest.raises(SettingsError, match="No spot lies inside"):
        describe_region(values, np.zeros(50, dtype=bool), ["A", "B", "C"])
