from pathlib import Path

import anndata
import numpy as np
import pytest
from scipy import stats

from stem_core.analysis.region_differences import adjusted_p, compare_regions
from stem_core.analysis.variogram import fit_variogram
from stem_core.errors import SettingsError

SIDE = 20
PITCH = 100.0
ROW, COL = np.divmod(np.arange(SIDE**2), SIDE)
X, Y = (COL + ROW % 2 / 2) * PITCH, ROW * PITCH * np.sqrt(3) / 2
NAMES = [f"G{n}" for n in range(40)]


def random_fields(genes: int, reach: float, nugget: float, seed: int) -> np.ndarray:
    """Gaussian maps with exponential covariance, (N,G), variance 1 + nugget."""
    distance = np.hypot(X[:, None] - X, Y[:, None] - Y) / PITCH
    root = np.linalg.cholesky(np.exp(-distance / reach) + nugget * np.eye(len(X)))
    return root @ np.random.default_rng(seed).normal(size=(len(X), genes))


def disc(x: float, y: float, n: int, free: np.ndarray | None = None) -> np.ndarray:
    distance = np.hypot(X - x, Y - y)
    if free is not None:
        distance[~free] = np.inf
    inside = np.zeros(len(X), dtype=bool)
    inside[np.argsort(distance)[:n]] = True
    return inside


def null_pairs(number: int, n: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    random = np.random.default_rng(seed)
    out = []
    for _ in range(number):
        a = disc(*random.uniform(0, 1900, 2), n)
        out.append((a, disc(*random.uniform(0, 1900, 2), n, free=~a)))
    return out


@pytest.mark.parametrize(("reach", "nugget"), [(3.0, 0.3), (6.0, 0.05), (0.05, 0.5)])
def test_regions_drawn_blindly_differ_as_often_as_p_says(reach: float, nugget: float) -> None:
    p, naive = [], []
    for seed, (a, b) in enumerate(null_pairs(10, 20, seed=1)):
        values = random_fields(40, reach, nugget, seed)
        p.append(compare_regions(values, a, b, X, Y, NAMES, placements=199)["p"])
        naive.append(stats.ttest_ind(values[a], values[b]).pvalue)
    together = np.concatenate(p)
    assert 0.02 < (together < 0.05).mean() < 0.09
    assert stats.kstest(together, "uniform").statistic < 0.09
    if reach > 1:  # what would have been without the neighbours' likeness
        assert (np.concatenate(naive) < 0.05).mean() > 0.3


def test_the_standard_error_is_that_of_many_maps() -> None:
    a, b = disc(500, 500, 30), disc(1300, 1200, 50)
    found = random_fields(400, 3.0, 0.3, seed=4)
    exact = (found[a].mean(0) - found[b].mean(0)).std()
    table = compare_regions(found[:, :40], a, b, X, Y, NAMES, placements=1)
    assert np.median(table["standard_error"]) == pytest.approx(exact, rel=0.2)
    # one with all the rest, and many spots represented by some of them
    large = X < 900
    exact = (found[large].mean(0) - found[~large].mean(0)).std()
    table = compare_regions(found[:, :40], large, None, X, Y, NAMES, placements=1)
    assert np.median(table["standard_error"]) == pytest.approx(exact, rel=0.25)


def test_no_variance_is_negative() -> None:
    values = np.random.default_rng(0).poisson(0.02, size=(len(X), 40)).astype(float)
    variogram = fit_variogram(values, X, Y, PITCH)
    assert (variogram.table[0] == 0).all() and (variogram.table >= 0).all()
    random = np.random.default_rng(1)
    for _ in range(20):
        a, b = np.split(random.choice(len(X), 30, replace=False), 2)
        exact = variogram.difference_variance(variogram.difference_weights(a, b, random))
        assert (exact[values.var(0) > 0] > 0).all()


@pytest.mark.parametrize("rest", [False, True])
def test_a_planted_difference_is_found(rest: bool) -> None:
    values = random_fields(40, 2.0, 0.3, seed=11)
    a = disc(700, 900, 40)
    b = None if rest else disc(1500, 500, 40, free=~a)
    values[a, 7] += 4
    table = compare_regions(values, a, b, X, Y, NAMES)
    assert table.index[0] == "G7" and table["p"].iloc[0] <= 0.005
    row = table.loc["G7"]
    other = ~a if b is None else b
    first, second = values[a, 7], values[other, 7]
    assert row["difference"] == pytest.approx(first.mean() - second.mean())
    pooled = ((len(first) - 1) * first.var(ddof=1) + (len(second) - 1) * second.var(ddof=1)) / (
        len(first) + len(second) - 2
    )
    assert row["effect"] == pytest.approx(row["difference"] / np.sqrt(pooled))
    assert row["mean_a"] == pytest.approx(first.mean()) and row["method"] == "placements"
    assert (table["p_adjusted"] >= table["p"]).all()


def test_uncertain_spots_count_for_less() -> None:
    values = random_fields(40, 2.0, 0.3, seed=12)
    a, b = disc(700, 900, 20), disc(1500, 500, 20)
    std = np.full(values.shape, 0.5)
    std[a, 0] = 8.0
    plain, few, many = (
        compare_regions(values, a, b, X, Y, NAMES, std=s, draws=k, placements=1).loc[NAMES]
        for s, k in ((None, 1), (std, 4), (std, 400))
    )
    # 16 / 20 more variance of the mean of a, less what the variogram is taken to hold
    added = few["standard_error"] ** 2 - plain["standard_error"] ** 2
    usual = (std[:, 0] ** 2).mean() / 4 * (1 / 20 + 1 / 20)
    own = (8.0**2 + 0.5**2) / 4 / 20
    assert added["G0"] == pytest.approx(own - usual, rel=1e-6)
    np.testing.assert_allclose(added[1:], 0, atol=1e-9)  # where all are alike nothing changes
    assert (few["standard_error"] ** 2)["G0"] >= own
    assert many.loc["G0", "standard_error"] < few.loc["G0", "standard_error"]


def test_the_same_seed_gives_the_same_p_and_progress_is_told() -> None:
    values = random_fields(40, 2.0, 0.3, seed=13)
    a, b = disc(700, 900, 20), disc(1500, 500, 20)
    told: list[float] = []
    one = compare_regions(values, a, b, X, Y, NAMES, placements=199, on_progress=told.append)
    assert one.equals(compare_regions(values, a, b, X, Y, NAMES, placements=199))
    assert told[-1] == 1 and told == sorted(told)


def test_constant_and_missing_genes() -> None:
    values = random_fields(40, 2.0, 0.3, seed=14)
    values[:, 3] = 1.5
    values[:, 4] = np.nan
    values[:10] = np.nan  # spots that were not measured
    a, b = disc(700, 900, 20), disc(1500, 500, 20)
    table = compare_regions(values, a, b, X, Y, NAMES, placements=199)
    assert table.loc["G3", "p"] == 1 and table.loc["G3", "difference"] == 0
    assert np.isnan(table.loc["G4", "p"]) and len(table) == 40 and table.index[-1] == "G4"


def test_regions_that_cannot_be_compared() -> None:
    values = random_fields(2, 2.0, 0.3, seed=15)
    nothing, few, a = np.zeros(len(X), dtype=bool), disc(0, 0, 4), disc(700, 900, 20)
    for one, other, said in (
        (nothing, a, "The first region holds no spot"),
        (a, few, "The second region holds 4 spots"),
        (a, disc(700, 900, 8), "share 8 spots"),
        (~few, None, "The rest of the map holds 4 spots"),
    ):
        with pytest.raises(SettingsError, match=said):
            compare_regions(values, one, other, X, Y, ["A", "B"])


def test_regions_that_fit_nowhere_else_have_p_of_the_standard_error() -> None:
    x, y = np.arange(60) * PITCH, np.zeros(60)  # a strip: the two ends lie so only once
    values = np.random.default_rng(16).normal(size=(60, 40))
    a, b = np.arange(60) < 25, np.arange(60) >= 35
    table = compare_regions(values, a, b, x, y, NAMES)
    assert set(table["method"]) == {"variogram"}
    z = table["difference"] / table["standard_error"]
    np.testing.assert_allclose(table["p"], 2 * stats.norm.sf(np.abs(z)))
    with pytest.raises(SettingsError, match="in one place"):
        compare_regions(values, a, b, y, y, NAMES)


def test_adjusted_p_is_that_of_scipy() -> None:
    p = np.random.default_rng(2).uniform(size=50) ** 2
    np.testing.assert_allclose(adjusted_p(p), stats.false_discovery_control(p))
    assert adjusted_p(np.array([])).shape == (0,)


def test_a_real_section_has_no_differences_beyond_chance(real_data: Path) -> None:
    """The whole table is that of `benchmarks/region_null.py`."""
    found = sorted(real_data.glob("*/st/MOB1.h5ad"))
    if not found:
        pytest.skip("STEM_TEST_DATA holds no section MOB1")
    section = anndata.read_h5ad(found[0])
    dense = section.X.toarray() if hasattr(section.X, "toarray") else np.asarray(section.X)
    logs = np.log2(1 + dense)
    values = logs[:, np.argsort(-logs.var(0))[:40]]
    x, y = np.asarray(section.obsm["spatial"], dtype=float).T[:2]
    random = np.random.default_rng(3)
    p, naive = [], []
    for _ in range(15):
        a, b = np.zeros((2, len(x)), dtype=bool)
        for region, taken in ((a, a), (b, a)):
            centre = random.integers(len(x))
            away = np.hypot(x - x[centre], y - y[centre]) + 1e9 * taken
            region[np.argsort(away)[:20]] = True
        p.append(compare_regions(values, a, b, x, y, NAMES, placements=199)["p"])
        naive.append(stats.ttest_ind(values[a], values[b], equal_var=False).pvalue)
    share = (np.concatenate(p) < 0.05).mean()
    assert share < 0.1
    assert np.nanmean(np.concatenate(naive) < 0.05) > 3 * share
