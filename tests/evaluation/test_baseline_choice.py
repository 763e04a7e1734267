"""Baselines' settings come from the training sections, and so does their spread."""

import numpy as np
import pytest

from stem_core.evaluation import baseline_choice
from stem_core.evaluation.baseline_choice import CANDIDATES, choose_baselines
from stem_core.evaluation.baselines import BASELINES, BaselineSettings, predict_baseline

GENES = 4


def made_sections(
    count: int, spots: int, *, noise: float, columns: int = 6, seed: int = 0
) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    random = np.random.default_rng(seed)
    weights = random.normal(size=(columns, GENES))
    conditions = [random.normal(size=(spots, columns)).astype(np.float32) for _ in range(count)]
    targets = [
        (20 + c @ weights + noise * random.normal(size=(spots, GENES))).astype(np.float32)
        for c in conditions
    ]
    return conditions, targets, [random.uniform(0, 1000, (spots, 2)) for _ in range(count)]


def test_the_penalty_follows_the_noise_of_the_training_sections() -> None:
    clear, noisy = (
        choose_baselines(*made_sections(3, 60, noise=noise), ["ridge"]).settings.ridge_penalty
        for noise in (0.1, 30.0)
    )
    assert clear == min(c["ridge_penalty"] for c in CANDIDATES["ridge"])
    assert noisy > 10 * clear


def test_choice_and_spread_are_those_of_sections_predicted_from_the_others() -> None:
    conditions, targets, positions = made_sections(3, 30, noise=2.0)
    found = choose_baselines(conditions, targets, positions)
    errors = {}
    for k in (c["neighbours"] for c in CANDIDATES["kNN"]):
        squares = []
        for left_out in range(3):
            others = [i for i in range(3) if i != left_out]
            predicted = predict_baseline(
                "kNN",
                np.concatenate([conditions[i] for i in others]),
                np.concatenate([targets[i] for i in others]),
                conditions[left_out],
                BaselineSettings(neighbours=k),
            ).clip(0)
            squares.append(((predicted - targets[left_out]) ** 2).mean(0))
        errors[k] = np.mean(squares, axis=0)
    best = min(errors, key=lambda k: errors[k].mean())
    assert found.settings.neighbours == best
    np.testing.assert_allclose(found.spreads["kNN"], np.sqrt(errors[best]), rtol=1e-5)
    assert found.by_name["kNN"] == {"neighbours": best}
    assert found.by_name["kernel ridge"]["training spots"] == 90
    assert set(found.spreads) == set(BASELINES)
    assert "each training section predicted from the others" in found.how


def test_a_single_section_is_cut_into_contiguous_quarters() -> None:
    y, x = (a.ravel().astype(float) for a in np.mgrid[:12, :12])
    part, said = baseline_choice._parts([np.column_stack([x, y])])
    assert "quarter" in said
    assert np.bincount(part).tolist() == [36] * 4
    for number in range(4):  # a quarter is a square of its own
        assert np.ptp(x[part == number]) == np.ptp(y[part == number]) == 5
    (condition,), (target,), _ = made_sections(1, 144, noise=1.0)
    found = choose_baselines([condition], [target], [np.column_stack([x, y])], ["mean", "ridge"])
    left = [target[part == n] - target[part != n].mean(0) for n in range(4)]
    expected = np.sqrt(np.mean([(e**2).mean(0) for e in left], axis=0))
    np.testing.assert_allclose(found.spreads["mean"], expected, rtol=1e-4)


def test_many_sections_are_left_out_in_groups_and_many_spots_are_thinned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(baseline_choice, "_SPOTS", 50)
    found = choose_baselines(*made_sections(13, 10, noise=1.0), ["mean"])
    assert "6 groups" in found.how and "on 50 of 130 training spots" in found.how
    part, _ = baseline_choice._parts([np.zeros((10, 2))] * 13)
    assert len(np.unique(part)) == 6
    assert all(len(np.unique(part[i * 10 : i * 10 + 10])) == 1 for i in range(13))


def test_too_few_spots_leave_the_settings_as_they_are_and_no_spread() -> None:
    found = choose_baselines(*made_sections(2, 6, noise=1.0))
    assert found.settings == BaselineSettings() and not found.spreads
    assert found.by_name["kNN"] == {"neighbours": 12}
    assert "too few" in found.how
