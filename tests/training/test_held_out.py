import numpy as np
import pytest

from stem_core.encoders.condition import condition_groups, condition_width
from stem_core.evaluation.baseline_choice import choose_baselines
from stem_core.evaluation.baselines import BASELINES, predict_baseline
from stem_core.evaluation.evaluate import evaluate_section
from stem_core.model.config import ConditionConfig
from stem_core.prediction.settings import SamplingSettings
from stem_core.training.conditional_mean import RegressionTraining, TrainingSection
from stem_core.training.fit import FitSettings, fit
from stem_core.training.held_out import FoldSection, held_out_input
from stem_core.training.settings import DenoiserTraining

SPEC, OWN, SPOTS, GENES = (
    ConditionConfig(side_um=100.0, size_px=64, survey_pitch_um=100.0, context_um=(150.0,)),
    8,
    25,
    12,
)


def test_a_fold_gives_model_and_baselines_of_the_section_it_left_out() -> None:
    random = np.random.default_rng(0)
    width = condition_width(SPEC, OWN)
    conditions = [random.normal(size=(SPOTS, width)).astype(np.float32) for _ in range(4)]
    targets = [
        np.log2(1 + random.poisson(4 + 6 * np.abs(c[:, :GENES]))).astype(np.float32)
        for c in conditions
    ]
    lattice = random.normal(size=(9, width)).astype(np.float32)
    settings = FitSettings(
        mean=RegressionTraining(networks=2, hidden=16, bottleneck=8, epochs=2),
        denoiser=DenoiserTraining(steps=20, batch=8, noises=2),
        depth=1,
        width=32,
        heads=2,
        projected_width=8,
        domain_components=4,
    )
    seen = [TrainingSection(c, lattice, t) for c, t in zip(conditions[:3], targets, strict=False)]
    fitted = fit(seen, condition_groups(SPEC, OWN), OWN, settings)
    y, x = (100.0 * a.ravel() for a in np.mgrid[:5, :5])
    symbols = [f"G{g}" for g in range(GENES)]
    ids = [f"spot{i}" for i in range(SPOTS)]
    *training, held_out = (
        FoldSection(
            f"S{i}", patient, ids, np.column_stack([x, y]), conditions[i], lattice, targets[i]
        )
        for i, patient in enumerate("PPQR")
    )
    settings = SamplingSettings("angle", 2, 4)
    given = held_out_input(fitted, symbols, held_out, training, settings, draws=6)
    assert given.left_out == "patient"
    assert given.samples is not None and given.samples.shape == (SPOTS, 6, GENES)
    # draws are independent, not ± pairs: the sum of two neighbours varies from pair to pair
    sums = given.samples[:, 0] + given.samples[:, 1] - 2 * given.predicted
    assert np.abs(sums).mean() > 0.1
    assert set(given.baselines) == set(BASELINES)
    chosen = choose_baselines(conditions[:3], targets[:3], [np.column_stack([x, y])] * 3)
    ridge = predict_baseline("ridge", np.concatenate(conditions[:3]), np.concatenate(targets[:3]),
                             conditions[3], chosen.settings)  # fmt: skip
    np.testing.assert_array_equal(given.baselines["ridge"], ridge.clip(0))
    assert given.baseline_settings["ridge"] == {"penalty": chosen.settings.ridge_penalty}
    assert set(given.spreads) == set(BASELINES)
    assert given.baselines_chosen == chosen.how
    assert sorted(given.ranked_genes) == sorted(symbols)
    assert given.band is not None and (given.band[0] <= given.band[1]).all()
    report = evaluate_section(given)
    for figures in report.baselines.values():
        assert {"crps", "coverage_90", "zero_brier"} <= set(figures)
    assert report.figures["rvd_single_draw"] == pytest.approx(
        np.mean([
            np.mean((given.samples[:, k].var(0) / targets[3].var(0) - 1) ** 2) for k in range(6)
        ]), rel=1e-4,
    )  # fmt: skip
