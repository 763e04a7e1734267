import numpy as np
import pytest
from scipy import stats

from stem_core.analysis.region_tables import (
    density,
    differing_most,
    mean_z_scores,
    region_values,
    unique_names,
)
from stem_core.errors import SettingsError

RANDOM = np.random.default_rng(11)
N = 200
VALUES = RANDOM.normal(2, 1, (N, 6))
LEFT = np.arange(N) < 40
RIGHT = np.arange(N) >= 150
NONE = np.zeros(N, dtype=bool)
SYMBOLS = [f"G{n}" for n in range(6)]


def test_mean_z_scores_are_scipy_s() -> None:
    values = np.column_stack([VALUES, np.full(N, 3.0)])
    table = mean_z_scores(values, [LEFT, NONE, RIGHT], ["a", "empty", "b"], [*SYMBOLS, "flat"])
    z = stats.zscore(VALUES, axis=0)
    assert list(table.columns) == ["a", "b"]
    np.testing.assert_allclose(table["a"][:6], z[LEFT].mean(0), atol=1e-12)
    np.testing.assert_allclose(table["b"][:6], z[RIGHT].mean(0), atol=1e-12)
    assert (table.loc["flat"] == 0).all()


def test_the_genes_that_differ_most_come_in_blocks() -> None:
    values = VALUES.copy()
    values[LEFT, 4] += 9
    values[RIGHT, 2] += 5
    values[RIGHT, 1] += 9
    table = mean_z_scores(values, [LEFT, RIGHT], ["a", "b"], SYMBOLS)
    assert differing_most(table, 3) == ["G4", "G1", "G2"]
    assert len(differing_most(table, 50_000)) == 6
    assert differing_most(table[["a"]], 1) == ["G4"]


def test_a_density_is_that_of_scipy_and_holds_everything() -> None:
    for values in (VALUES[:, 0], np.concatenate([VALUES[:, 0], VALUES[:, 1] + 6])):
        places, found = density(values)
        expected = stats.gaussian_kde(values, "scott")(places)
        np.testing.assert_allclose(found, expected, atol=0.01 * expected.max())
        assert np.trapezoid(found, places) == pytest.approx(1, abs=0.01)
    for equal in (np.full(9, 4.0), np.array([0.0])):
        places, found = density(equal)
        assert places[found.argmax()] == pytest.approx(equal[0], abs=0.01)
        assert np.trapezoid(found, places) == pytest.approx(1, abs=0.01)
    with pytest.raises(SettingsError, match="No value"):
        density(np.empty(0))


def test_values_are_listed_region_by_region() -> None:
    values = VALUES[:, 0].copy()
    values[3] = np.nan
    ids = [f"s{n}" for n in range(N)]
    table = region_values(values, [RIGHT, NONE, LEFT], ["b", "none", "a"], ids, LEFT * 1.0, values)
    assert list(table["region"]) == ["b"] * 50 + ["a"] * 39
    assert "s3" not in set(table["spot"])
    np.testing.assert_array_equal(table["value"][:50], values[RIGHT])
    assert region_values(values, [NONE], ["none"], ids, values, values).empty


def test_names_that_repeat_are_told_apart() -> None:
    assert unique_names(["A", "B", "A"]) == ("A (1)", "B", "A (2)")
    assert len(set(unique_names(["A", "A", "A (1)"]))) == 3
