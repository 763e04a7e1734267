"""A fit on invented spots whose truth is known."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stem_core.diffusion.denoiser import Denoiser
from stem_core.diffusion.schedule import Schedule
from stem_core.errors import SettingsError
from stem_core.model.config import DenoiserConfig
from stem_core.prediction.sampling import draw_expression
from stem_core.prediction.settings import SamplingSettings
from stem_core.training.conditional_mean import (
    RegressionTraining,
    TrainingSection,
    fit_conditional_mean,
)
from stem_core.training.fit import FitSettings, TrainedModel, fit
from stem_core.training.loss import diffusion_loss
from stem_core.training.settings import DenoiserTraining
from stem_core.training.trainer import TrainingRun

GENES, WIDTH, SPOTS = 12, 30, 120
GROUPS = {"raw": slice(0, 14), "relative": slice(14, 28), "geometry": slice(28, None)}
SETTINGS = FitSettings(
    mean=RegressionTraining(ridge_alpha=1.0, networks=2, hidden=32, bottleneck=16, epochs=60),
    denoiser=DenoiserTraining(steps=60, batch=16, noises=2),
    depth=1,
    width=16,
    projected_width=8,
    domain_components=6,
)


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    condition = random.normal(size=(3 * SPOTS, WIDTH)).astype(np.float32)
    truth = condition @ random.normal(size=(WIDTH, GENES)) * 0.3
    target = (4 + truth + 0.5 * random.normal(size=truth.shape)).astype(np.float32)
    return condition, target, np.repeat([0, 1, 2], SPOTS)


def training_sections(
    data: tuple[np.ndarray, np.ndarray, np.ndarray], which: tuple[int, ...]
) -> list[TrainingSection]:
    condition, target, section = data
    return [
        TrainingSection(condition[rows], condition[rows][::5], target[rows])
        for rows in (section == s for s in which)
    ]


@pytest.fixture(scope="module")
def fitted(data: tuple[np.ndarray, np.ndarray, np.ndarray]) -> TrainedModel:
    return fit(training_sections(data, (0, 1)), GROUPS, 10, SETTINGS)


def draws(fitted: TrainedModel, condition: np.ndarray, how: SamplingSettings) -> np.ndarray:
    generator = fitted.generator
    given = torch.from_numpy(condition)
    mean = generator.regression_mean(given, generator.slide_level(given[::5]))
    ids = [f"s{i}" for i in range(len(condition))]
    return draw_expression(generator, fitted.schedule, given, mean, ids, how).numpy()


def test_training_leaves_the_random_state_alone(
    data: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    fit(training_sections(data, (0, 1)), GROUPS, 10, SETTINGS)
    assert torch.equal(torch.get_rng_state(), before)


def test_held_out_spots_are_predicted(fitted: TrainedModel, data: tuple[np.ndarray, ...]) -> None:
    condition, target, section = data
    held_out = section == 2
    samples = draws(fitted, condition[held_out], SamplingSettings("angle", 4, 4))
    mean = samples.mean(1)
    r = [np.corrcoef(mean[:, g], target[held_out][:, g])[0, 1] for g in range(GENES)]
    assert np.mean(r) > 0.8
    # A pair of opposite residuals has the regression mean.
    given = torch.from_numpy(condition[held_out])
    level = fitted.generator.slide_level(given[::5])
    regression = fitted.generator.regression_mean(given, level).numpy()
    np.testing.assert_allclose(mean, regression, atol=1e-4)
    # Single draws vary as the measured section does.
    ratio = samples[:, 0].var(0) / target[held_out].var(0)
    assert ratio.mean() == pytest.approx(1, abs=0.25)
    low, high = fitted.bands.around(mean, samples.std(1), level.doubt)
    inside = (target[held_out] >= low) & (target[held_out] <= high)
    assert 0.8 < inside.mean() < 0.98


def test_validation_sections_teach_nothing(
    fitted: TrainedModel, data: tuple[np.ndarray, ...], tmp_path: Path
) -> None:
    """They are looked at while the denoiser learns residuals, and change no weight."""
    settings = replace(SETTINGS, denoiser=replace(SETTINGS.denoiser, validate_every=20))
    run = TrainingRun(tmp_path)
    watched = training_sections(data, (2,))
    again = fit(training_sections(data, (0, 1)), GROUPS, 10, settings, run, watched)
    for name, value in fitted.generator.state_dict().items():
        assert torch.equal(again.generator.state_dict()[name], value), name
    with (tmp_path / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["20", "40", "60"]
    assert all(0 < float(row["crps"]) < 2 and float(row["pcc_all"]) > 0.8 for row in rows)


def test_strange_spots_are_far(fitted: TrainedModel, data: tuple[np.ndarray, ...]) -> None:
    own = data[0][:, :10]
    assert np.quantile(fitted.domain.distance(own[data[2] < 2]), 0.95) == pytest.approx(1, abs=1e-3)
    assert np.median(fitted.domain.distance(own + 5)) > 2


def test_loss_of_a_perfect_denoiser_is_least() -> None:
    """On one known x0 the exact noise has no noise error, and zero noise has the error 1."""
    schedule = Schedule()
    x0 = torch.zeros(64, 1, 5)
    noise = torch.randn(64, 1, 5, generator=torch.Generator().manual_seed(0))
    t = np.full(64, 500)

    class Exact(Denoiser):
        def __init__(self, right: bool) -> None:
            super().__init__(DenoiserConfig(genes=5, condition_width=2, depth=1, width=8, heads=2))
            self.right = right

        def forward(self, x, t, condition, gene_mean=None):  # type: ignore[no-untyped-def]
            return (noise if self.right else 0 * noise), -torch.ones_like(x)

    good, bad = (
        diffusion_loss(Exact(r), schedule, x0, t, noise, torch.zeros(64, 2), None)
        for r in (True, False)
    )
    assert float(good) == pytest.approx(
        0, abs=1e-6
    )  # and v = -1 is the true variance: no bound left
    assert float(bad) > 0.8


def test_published_target_stays_available(data: tuple[np.ndarray, ...]) -> None:
    condition, target, _ = data
    settings = replace(
        SETTINGS, target="published", denoiser=DenoiserTraining(steps=300, batch=32, noises=2)
    )
    fitted = fit(training_sections(data, (0, 1, 2)), GROUPS, 10, settings)
    assert fitted.generator.target == "published"
    assert fitted.generator.denoiser.config.predicts == "noise"
    samples = draws(fitted, condition[:50], SamplingSettings("ancestral", 50, 4))
    assert np.isfinite(samples).all()
    # Trained this briefly it knows the level and little more.
    assert abs(samples.mean() - target[:50].mean()) < 1.5


def test_the_level_of_a_slide_comes_from_its_own_tissue() -> None:
    """Sections that differ in level alone: patterns get the level, pooled members know it."""
    random = np.random.default_rng(2)
    weights = random.normal(size=(WIDTH, GENES)) * 0.2

    def section(brightness: float) -> TrainingSection:
        condition = random.normal(size=(80, WIDTH)).astype(np.float32)
        pattern = condition[:, 14:28] @ weights[14:28]
        condition[:, :14] = condition[:, 14:28] + brightness  # raw is relative plus the slide's own
        target = (4 + brightness + pattern).astype(np.float32)
        return TrainingSection(condition, condition[::4], target)

    sections = [section(b) for b in (-1.0, -0.5, 0.0, 0.5, 1.0)]
    new = section(0.8)
    mean = fit_conditional_mean(sections, GROUPS, SETTINGS.mean)
    level = mean.slide_level(torch.from_numpy(new.lattice))
    given = torch.from_numpy(new.condition)
    right, wrong = (
        float((mean(given, shift).numpy().mean(0) - new.target.mean(0)).mean())
        for shift in (level.shift, torch.zeros(GENES))
    )
    # Without it the patterns would be added as if they were whole predictions.
    assert abs(right) < 0.3 < abs(wrong)


@pytest.mark.parametrize("values", [{"steps": 10}, {"batch": 0}, {"noises": 0}])
def test_training_that_cannot_be_is_refused(values: dict[str, int]) -> None:
    with pytest.raises(SettingsError, match="must be at least"):
        DenoiserTraining(**values)
