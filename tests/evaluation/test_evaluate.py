from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor

from stem_core.errors import EvaluationError
from stem_core.evaluation import baselines
from stem_core.evaluation.baselines import (
    BASELINES,
    BaselineSettings,
    evenly_taken,
    predict_baseline,
    rank_genes,
)
from stem_core.evaluation.composition import composition
from stem_core.evaluation.evaluate import evaluate_section
from stem_core.evaluation.figures import FIGURES
from stem_core.evaluation.metrics import crps, evaluate_arrays, spearman_by_gene
from stem_core.evaluation.report import write_report
from stem_core.evaluation.summary import standings, summarise, verdicts
from tests.evaluation.made_section import DRAWS, made_input

RANDOM = np.random.default_rng(5)


def test_spearman_agrees_with_scipy_with_ties() -> None:
    p, m = RANDOM.integers(0, 5, (2, 40, 4))
    expected = [stats.spearmanr(p[:, g], m[:, g]).statistic for g in range(4)]
    np.testing.assert_allclose(spearman_by_gene(p, m), expected)


def test_baselines_agree_with_scikit_learn() -> None:
    a, b = RANDOM.normal(size=(50, 6)), RANDOM.normal(size=(20, 6))
    y = RANDOM.normal(size=(50, 3))
    mean, std = a.mean(0), a.std(0) + 1e-6
    one, two = np.clip((a - mean) / std, -5, 5), np.clip((b - mean) / std, -5, 5)
    expected = {
        "mean": np.tile(y.mean(0), (20, 1)),
        "ridge": Ridge(300.0).fit(one, y).predict(two),
        "kernel ridge": KernelRidge(alpha=1.0, kernel="rbf", gamma=0.2 / 6)
        .fit(one, y - y.mean(0))
        .predict(two)
        + y.mean(0),
        "kNN": KNeighborsRegressor(20, weights="distance").fit(one, y).predict(two),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(predict_baseline(name, a, y, b), values, atol=1e-5)


def test_knn_takes_all_spots_where_they_are_few() -> None:
    a, b = (RANDOM.normal(size=(n, 4)).astype(np.float32) for n in (7, 3))
    y = RANDOM.normal(size=(7, 2)).astype(np.float32)
    found = predict_baseline("kNN", a, y, b, BaselineSettings(neighbours=20))
    np.testing.assert_array_equal(
        found, predict_baseline("kNN", a, y, b, BaselineSettings(neighbours=7))
    )


def test_kernel_ridge_alone_is_cut_to_some_spots(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = (RANDOM.normal(size=(n, 4)).astype(np.float32) for n in (60, 5))
    y = RANDOM.normal(size=(60, 2)).astype(np.float32)
    full = {name: predict_baseline(name, a, y, b) for name in BASELINES}
    monkeypatch.setattr(baselines, "KERNEL_SPOTS", 30)
    rows = evenly_taken(60, 30)
    for name in BASELINES:
        cut = predict_baseline(name, a, y, b)
        if name == "kernel ridge":
            np.testing.assert_array_equal(cut, predict_baseline(name, a[rows], y[rows], b))
            assert np.abs(cut - full[name]).max() > 0.01
        else:
            np.testing.assert_array_equal(cut, full[name])


def test_genes_are_ranked_without_the_section() -> None:
    conditions = [RANDOM.normal(size=(60, 5)) for _ in range(3)]
    strength = np.array([0.0, 3.0, 1.0])
    targets = [
        (c[:, :1] * strength + RANDOM.normal(size=(60, 3))).astype(np.float32) for c in conditions
    ]
    assert rank_genes(conditions, targets, ["none", "strong", "some"]) == ("strong", "some", "none")
    assert rank_genes(conditions[:1], targets[:1], ["a", "b", "c"]) == ()


def test_figures_are_those_of_their_definitions() -> None:
    given = made_input()
    report = evaluate_section(given)
    figures = report.figures
    plain = evaluate_arrays(given.predicted, given.measured, *given.band)
    for key in ("pcc_10", "pcc_50", "pcc_all", "mse", "mae", "rvd", "coverage_90"):
        assert figures[key] == pytest.approx(plain[key]), key
    assert figures["crps"] == pytest.approx(crps(given.samples, given.measured))
    ranked = [int(gene[4:]) for gene in given.ranked_genes[:10]]
    r = [stats.pearsonr(given.predicted[:, g], given.measured[:, g]).statistic for g in range(24)]
    assert figures["pcc_10_fixed"] == pytest.approx(np.mean([r[g] for g in ranked]))
    assert "pcc_50_fixed" not in figures  # 24 genes
    assert report.genes["pcc"] == pytest.approx(r)
    assert set(figures) <= set(FIGURES)
    for key, (low, high) in report.methods[0].intervals.items():
        assert low <= figures[key] <= high, key
    assert report.n_samples == DRAWS
    assert [m.name for m in report.methods] == [
        "model", "mean", "ridge", "measured total", "model's total",
        "one draw", "median of draws", "mode of draws",
    ]  # fmt: skip


def test_which_rna_is_judged_apart_from_how_much() -> None:
    given = made_input()
    report = evaluate_section(given)
    shares, truth = composition(given.predicted), composition(given.measured)
    r = [stats.pearsonr(shares[:, g], truth[:, g]).statistic for g in range(24)]
    assert report.figures["composition_pcc"] == pytest.approx(np.mean(r), abs=1e-5)
    low, high = report.methods[0].intervals["composition_pcc"]
    assert low <= report.figures["composition_pcc"] <= high
    depth = next(m.figures for m in report.methods if m.name == "measured total")
    total = np.log2(1 + (np.exp2(given.measured.astype(float)) - 1).sum(1))
    r = [stats.pearsonr(total, given.measured[:, g]).statistic for g in range(24)]
    assert depth["pcc_all"] == pytest.approx(np.mean(r), abs=1e-5)
    assert "mse" not in depth and "composition_pcc" not in depth
    assert "measured total" not in report.baselines
    assert set(report.ceilings) == {"log_counts", "composition"}


def test_single_draws_vary_as_the_tissue_does_and_their_mean_is_smoother() -> None:
    report = evaluate_section(made_input())
    one = next(m.figures for m in report.methods if m.name == "one draw")
    assert one["rvd"] < report.figures["rvd"]
    assert one["mse"] > report.figures["mse"]
    assert one["moran_error"] < report.figures["moran_error"]
    assert report.figures["moran_shift"] > 0


def test_a_baseline_without_a_spread_is_not_judged_as_a_distribution() -> None:
    report = evaluate_section(made_input())
    for figures in report.baselines.values():
        assert not {"crps", "coverage_90", "zero_brier", "zero_share_error"} & set(figures)
    compared = {d.figure for d in report.differences}
    assert "mae" in compared and not {"crps", "zero_share_error"} & compared
    assert standings([report], ["crps"]) == []
    point = evaluate_section(made_input(samples=None, band=None))  # yes or no on either side
    assert "zero_share_error" in point.baselines["ridge"]


def test_a_baseline_with_a_spread_is_judged_as_the_model_is() -> None:
    given = made_input()
    error = given.measured - given.baselines["ridge"]
    sd = np.sqrt((error**2).mean(0))
    report = evaluate_section(replace(given, spreads={"ridge": sd}))
    ridge = report.baselines["ridge"]
    normal = np.random.default_rng(0).normal(size=(len(error), 2000, len(sd)))
    drawn = (given.baselines["ridge"][:, None] + sd * normal).clip(0)
    assert ridge["crps"] == pytest.approx(crps(drawn, given.measured), rel=5e-3)
    assert ridge["crps"] < ridge["mae"]
    assert 0.85 < ridge["coverage_90"] < 0.95
    zero = (drawn < np.log2(1.5)).mean((0, 1))
    share = np.abs(zero - (given.measured == 0).mean(0)).mean()
    assert ridge["zero_share_error"] == pytest.approx(share, abs=2e-3)
    found = {d.figure: d for d in report.differences if d.baseline == "ridge"}
    assert found["crps"].low is not None and {"coverage_90", "zero_brier"} <= set(found)
    (method,) = [m for m in report.methods if m.name == "ridge"]
    low, high = method.intervals["crps"]
    assert low < ridge["crps"] < high
    assert [s.baseline for s in standings([report], ["crps"])] == ["ridge"]  # mean has no spread


def test_coverage_is_certain_only_where_one_is_surely_nearer_to_90() -> None:
    given = made_input(baselines={"ridge": made_input().predicted})
    error = given.measured - given.predicted
    for share, certain in ((0.8, False), (0.3, True)):
        # the model covers 99 %, the baseline as much less than 90 % or far less
        wide, narrow = (np.quantile(np.abs(error), q) for q in (0.99, share))
        report = evaluate_section(
            replace(
                given,
                band=(given.predicted - wide, given.predicted + wide),
                spreads={"ridge": np.full(24, narrow / 1.645, np.float32)},
            )
        )
        (found,) = [d for d in report.differences if d.figure == "coverage_90"]
        assert found.low is not None and found.low > 0  # they differ for sure
        assert (found.winner, found.certain) == ("model", certain)


def test_differences_name_the_winner() -> None:
    given = made_input()
    best = replace(
        given,
        baselines={"ridge": given.measured + np.float32(0.01)},
        spreads={"ridge": np.full(len(given.symbols), 0.01, np.float32)},
    )
    report = evaluate_section(best)
    assert {d.winner for d in report.differences if d.figure != "coverage_90"} == {"baseline"}
    assert all(d.certain for d in report.differences if d.figure in ("pcc_all", "mse", "crps"))
    (sentence, *_) = verdicts(report)
    assert sentence.startswith(
        "ridge is better than the model on A1 beyond chance in PCC-10 (1.000"
    )
    (standing, *_) = standings([report], ["mse"])
    assert (standing.better, standing.worse, standing.surely_worse) == (0, 1, 1)
    same = evaluate_section(replace(given, baselines={"ridge": given.predicted}))
    tied = {d.figure: d for d in same.differences}
    assert (tied["mse"].winner, tied["mse"].value, tied["mse"].certain) == ("tie", 0.0, False)


def test_where_no_baseline_wins_it_says_so() -> None:
    given = made_input(samples=None, band=None)
    perfect = replace(given, predicted=given.measured)
    report = evaluate_section(perfect)
    assert verdicts(report) == ["No baseline is better than the model in any figure on A1."]
    assert "crps" not in report.figures and report.n_samples == 0 and not report.calibration


def test_mean_over_sections() -> None:
    reports = [evaluate_section(made_input(seed)) for seed in (0, 1, 2)]
    model = summarise(reports)[0]
    values = [r.figures["mse"] for r in reports]
    assert model.figures["mse"] == pytest.approx(np.mean(values))
    low, high = model.intervals["mse"]
    assert min(values) <= low < high <= max(values)


@pytest.mark.parametrize(
    ("patient", "trained_on", "left_out"),
    [
        ("A", {"B1": "B"}, "patient"),
        ("A", {"B1": "B", "A2": "A"}, "section"),
        ("", {"B1": "B"}, "section"),
        ("A", {"B1": ""}, "section"),
        ("A", {"A1": "A"}, "training"),
        ("A", {}, ""),
    ],
)
def test_what_was_left_out(patient: str, trained_on: dict[str, str], left_out: str) -> None:
    assert made_input(patient=patient, trained_on=trained_on).left_out == left_out


def test_constant_genes_and_few_genes_are_evaluated() -> None:
    given = made_input()
    measured, predicted = given.measured.copy(), given.predicted.copy()
    measured[:, 0], predicted[:, 1] = 0.0, 1.0
    report = evaluate_section(replace(given, measured=measured, predicted=predicted))
    assert report.n_constant_genes == 1
    assert all(np.isfinite(v) for m in report.methods for v in m.figures.values())
    assert report.to_dict()["genes"]["pcc"][0] is None
    tiny = {
        "symbols": given.symbols[:1],
        "measured": measured[:, 5:6],
        "predicted": predicted[:, 5:6],
        "samples": None,
        "band": None,
        "baselines": {},
    }
    assert evaluate_section(replace(given, **tiny)).figures["mse"] > 0


def test_unfit_input_gives_a_sentence() -> None:
    given = made_input()
    broken = given.measured.copy()
    broken[3, 2] = np.nan
    for changes, says in (
        ({"measured": broken}, "not finite"),
        ({"predicted": given.predicted[:, 1:]}, "predicted has shape"),
        ({"symbols": given.symbols[1:]}, "23 gene symbols for 24"),
        ({"baselines": {"kNN": given.predicted[1:]}}, "baseline kNN"),
    ):
        with pytest.raises(EvaluationError, match=says):
            replace(given, **changes)
    none = {
        "x_um": given.x_um[:0],
        "y_um": given.y_um[:0],
        "measured": given.measured[:0],
        "predicted": given.predicted[:0],
    }
    with pytest.raises(EvaluationError, match="no spot in common"):
        replace(given, **none, samples=None, band=None, baselines={})


CORRELATIONS = {"pcc_10", "pcc_50", "pcc_all", "pcc_10_fixed", "spearman_all", "moran_error"}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n", [1, 2])
def test_what_one_or_two_spots_cannot_tell_is_left_out(n: int, tmp_path: Path) -> None:
    given = made_input()
    few = replace(
        given,
        x_um=given.x_um[:n],
        y_um=given.y_um[:n],
        measured=given.measured[:n],
        predicted=given.predicted[:n],
        samples=given.samples[:n],
        band=tuple(bound[:n] for bound in given.band),
        baselines={name: values[:n] for name, values in given.baselines.items()},
        spreads={"ridge": np.full(len(given.symbols), 0.5, np.float32)},
    )
    report = evaluate_section(few)
    assert report.notes[-1].startswith(
        "Only 1 spot was compared, so" if n == 1 else "Only 2 spots were compared, so"
    )
    assert report.n_spots == n and report.block_um is None
    for method in report.methods:
        assert not CORRELATIONS & set(method.figures) and not method.intervals
        assert method.figures["mse"] > 0
    assert all(d.low is d.high is d.certain is None for d in report.differences)
    assert {"crps", "coverage_90"} < set(report.figures)
    assert set(report.to_dict()["genes"]["pcc"]) == {None}
    page, data = write_report([report, evaluate_section(given)], tmp_path, "Few", {})
    assert report.notes[-1] in page.read_text(encoding="utf-8")
    assert "NaN" not in data.read_text(encoding="utf-8")


@pytest.mark.filterwarnings("error")
def test_a_section_without_variation_has_no_correlation() -> None:
    given = made_input()
    report = evaluate_section(replace(given, measured=np.ones_like(given.measured)))
    assert report.notes[-1].startswith("Every gene is constant in the measured section, so")
    assert report.n_constant_genes == len(given.symbols)
    assert not {*CORRELATIONS, "rvd", "rvd_median", "rvd_single_draw"} & set(report.figures)


@pytest.mark.filterwarnings("error")
def test_spots_in_one_place_have_no_pattern() -> None:
    given = made_input()
    nowhere = np.zeros(len(given.measured))
    report = evaluate_section(replace(given, x_um=nowhere, y_um=nowhere))
    assert report.block_um is None and report.n_constant_genes == 0
    assert "moran_error" not in report.figures and "pcc_all" in report.methods[0].intervals
