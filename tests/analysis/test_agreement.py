"""Agreement of two predictions: against scipy and the formulas written out once more."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from stem_core.analysis.agreement import (
    agreement_by_gene,
    common_spots,
    concordance,
    joint_difference,
    pcc_against,
    shared_genes,
)
from stem_core.analysis.comparison import effective_number
from stem_core.errors import EvaluationError
from stem_core.prediction.result import Prediction
from stem_core.prediction.values import PredictedArrays
from stem_core.slides.spots import Spots

SIDE = 12
N = SIDE**2
ROW, COL = np.divmod(np.arange(N), SIDE)


def made(seed: int, symbols: tuple[str, ...], *, like: Prediction | None = None) -> Prediction:
    """A map that falls from left to right, noise on it; near another one if wanted."""
    random = np.random.default_rng(seed)
    shape = (N, len(symbols))
    mean = 3 + 0.2 * COL[:, None] + random.normal(size=shape)
    if like is not None:
        mean = like.mean[:, : len(symbols)] + 0.3 * random.normal(size=shape) + 0.5
    std = random.uniform(0.2, 0.6, shape)
    spots = Spots(
        ids=tuple(f"s{n}" for n in range(N)), x_px=COL * 200.0, y_px=ROW * 200.0,
        diameter_um=55.0, pitch_um=100.0, source="grid", array_row=ROW.astype(np.int32),
        array_col=COL.astype(np.int32), in_tissue=np.ones(N, bool),
        tissue_fraction=np.ones(N, np.float32),
    )  # fmt: skip
    return Prediction(
        slide_name="a", spots=spots, mpp=0.5, symbols=symbols, ensembl=("",) * len(symbols),
        values=PredictedArrays(mean=mean.astype(np.float32), std=std.astype(np.float32),
        q05=(mean - 1.645 * std).astype(np.float32), q95=(mean + 1.645 * std).astype(np.float32)),
        domain_distance=None, gene_table=pd.DataFrame(index=pd.Index(symbols, name="symbol")),
        run={}, thumbnail=np.zeros((4, 4, 3), np.uint8), thumbnail_scale=1.0,
    )  # fmt: skip


def test_figures_of_a_gene_are_those_of_the_formulas() -> None:
    one = made(0, ("AAA", "BBB", "CCC"))
    other = made(1, ("CCC", "ZZZ", "AAA"), like=one)  # its CCC is near the first one's AAA
    symbols = shared_genes(one, other)
    assert symbols == ("AAA", "CCC")
    at = np.where(np.arange(N) % 5 == 0, -1, np.arange(N)[::-1])
    table = agreement_by_gene(one, other, at, symbols)
    assert set(table.index) == {"AAA", "CCC"}
    assert table["ccc"].is_monotonic_decreasing
    rows = at >= 0
    for gene, mine, others in (("AAA", 0, 2), ("CCC", 2, 0)):
        a = one.mean[rows, mine].astype(float)
        b = other.mean[at[rows], others].astype(float)
        found = table.loc[gene]
        assert found["pcc"] == pytest.approx(stats.pearsonr(a, b)[0])
        covariance = np.cov(a, b, ddof=0)
        lin = 2 * covariance[0, 1] / (np.trace(covariance) + (a.mean() - b.mean()) ** 2)
        assert found["ccc"] == pytest.approx(lin)
        x, y = one.spots.x_px[rows] / 2, one.spots.y_px[rows] / 2
        [n] = effective_number(a[:, None], b[:, None], x, y)
        assert found["n_effective"] == pytest.approx(n, rel=1e-4)
        assert found["mean_difference"] == pytest.approx(a.mean() - b.mean(), abs=1e-5)
        joint = np.sqrt(one.std[rows, mine] ** 2 + other.std[at[rows], others] ** 2)
        distance = np.abs(a - b) / joint
        assert found["median_distance"] == pytest.approx(np.median(distance), rel=1e-4)
        assert found["far"] == pytest.approx((distance > 2).mean())
        apart = (one.q95[rows, mine] < other.q05[at[rows], others]) | (
            other.q95[at[rows], others] < one.q05[rows, mine]
        )
        assert found["overlap"] == pytest.approx(1 - apart.mean())
        assert 0 < found["overlap"] < 1


def test_a_run_agrees_with_itself_and_a_constant_gene_has_no_figure() -> None:
    one = made(0, ("AAA", "BBB"))
    one.mean[:, 1] = 2.0
    table = agreement_by_gene(one, one, np.arange(N), one.symbols)
    assert table.loc["AAA", ["pcc", "ccc", "ccc_low", "ccc_high", "overlap"]].tolist() == (
        pytest.approx([1.0] * 5)
    )
    assert table.loc["AAA", ["mean_difference", "median_distance", "far"]].tolist() == [0, 0, 0]
    assert table.loc["BBB", ["pcc", "ccc", "ccc_low", "ccc_high"]].isna().all()
    assert table.loc["BBB", "overlap"] == 1.0


def test_without_spread_there_is_no_joint_difference() -> None:
    one, other = made(0, ("AAA",)), made(1, ("AAA",))
    one.std[:], other.std[:] = 0.0, 0.0
    [row] = agreement_by_gene(one, other, np.arange(N), ("AAA",)).to_dict("records")
    assert np.isnan([row["median_distance"], row["far"]]).all()
    assert np.isfinite(row["ccc"])
    np.testing.assert_allclose(
        joint_difference(np.array([3.0, 1, 5]), np.array([3.0, 0, 0]),
                         np.array([1.0, 2, 5]), np.array([4.0, 0, 1])),
        [0.4, np.nan, 0.0],
    )  # fmt: skip


@pytest.mark.parametrize(("rho", "shift", "scale"), [(0.3, 0, 1), (0.8, 0.5, 1), (0.95, 0, 1.4)])
def test_the_interval_of_the_concordance_holds_what_it_promises(
    rho: float, shift: float, scale: float
) -> None:
    """Independent pairs of normal numbers: 95 % of the intervals hold the true value."""
    random, n, repeats = np.random.default_rng(5), 100, 2000
    a = random.normal(size=(n, repeats))
    b = rho * a + np.sqrt(1 - rho**2) * random.normal(size=(n, repeats))
    b = scale * b + shift
    true = 2 * rho * scale / (1 + scale**2 + shift**2)
    ccc, low, high = concordance(a, b, np.full(repeats, float(n)))
    assert ((low <= true) & (true <= high)).mean() == pytest.approx(0.95, abs=0.02)
    assert ccc.mean() == pytest.approx(true, abs=0.02)
    _, low_of_few, high_of_few = concordance(a, b, np.full(repeats, 10.0))
    assert (high_of_few - low_of_few > high - low).all()


def test_common_spots_are_the_nearest_within_reach() -> None:
    random = np.random.default_rng(2)
    places, others = random.uniform(0, 1000, (200, 2)), random.uniform(0, 1000, (90, 2))
    found = common_spots(places, others, 40.0)
    distance = np.hypot(*(places[:, None] - others[None]).transpose(2, 0, 1))
    nearest = np.where(distance.min(1) < 40.0, distance.argmin(1), -1)
    np.testing.assert_array_equal(found, nearest)
    assert 0 < (found < 0).sum() < 200
    np.testing.assert_array_equal(common_spots(places, places, 5.0), np.arange(200))


def test_pcc_of_several_maps_with_one_measurement() -> None:
    one, other = made(0, ("AAA", "BBB", "CCC")), made(1, ("AAA", "BBB", "CCC"))
    measured = made(2, ("AAA", "BBB", "CCC")).mean.copy()
    measured[:30] = np.nan
    measured[:, 1] = np.nan
    x, y = one.spots.x_px / 2, one.spots.y_px / 2
    table = pcc_against(measured, {"a": one.mean, "b": other.mean}, x, y, one.symbols)
    assert list(table.index) == ["AAA", "CCC"]
    for name, values in (("a", one.mean), ("b", other.mean)):
        expected = stats.pearsonr(values[30:, 2], measured[30:, 2])[0]
        assert table.loc["CCC", f"{name}_pcc"] == pytest.approx(expected, rel=1e-5)
        assert table.loc["CCC", f"{name}_pcc_low"] < expected < table.loc["CCC", f"{name}_pcc_high"]


def test_too_little_in_common_is_one_sentence() -> None:
    one, other = made(0, ("AAA",)), made(1, ("BBB",))
    assert shared_genes(one, other) == ()
    for at, symbols in ((np.arange(N), ()), (np.full(N, -1), ("AAA",))):
        with pytest.raises(EvaluationError, match=r"in common, and at least 3 spots and one gene"):
            agreement_by_gene(one, other, at, symbols)
