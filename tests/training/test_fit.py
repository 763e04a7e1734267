"""A fit on invented spots whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from stem_core.diffusion.denoiser import Denoiser, DenoiserSize
from stem_core.diffusion.schedule import Schedule
from stem_core.prediction.sampling import SamplingSettings, draw_targets
from stem_core.training.conditional_mean import MeanTraining
from stem_core.training.fit import FitSettings, Fitted, fit
from stem_core.training.trainer import DenoiserTraining, diffusion_loss

GENES, WIDTH, SPOTS = 12, 30, 120
GROUPS = {"raw": slice(0, 14), "relative": slice(14, 28), "geometry": slice(28, None)}
SETTINGS = FitSettings(
    mean=MeanTraining(ridge_alpha=1.0, networks=2, hidden=32, bottleneck=16, epochs=60),
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


@pytest.fixture(scope="module")
def fitted(data: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Fitted:
    condition, target, section = data
    rest = section < 2
    return fit(condition[rest], target[rest], section[rest], GROUPS, 10, SETTINGS)


def draws(fitted: Fitted, condition: np.ndarray, how: SamplingSettings) -> np.ndarray:
    generator = fitted.generator
    given = torch.from_numpy(condition)
    mean = generator.regression_mean(given)
    targets = draw_targets(
        generator.denoiser,
        fitted.schedule,
        generator.label(given),
        generator.relative_mean(mean),
        [f"s{i}" for i in range(len(condition))],
        how,
    )
    return (mean[:, None] + generator.residual_scale * targets).numpy()


def test_held_out_spots_are_predicted(fitted: Fitted, data: tuple[np.ndarray, ...]) -> None:
    condition, target, section = data
    held_out = section == 2
    samples = draws(fitted, condition[held_out], SamplingSettings("ddim", 10, 4))
    mean = samples.mean(1)
    r = [np.corrcoef(mean[:, g], target[held_out][:, g])[0, 1] for g in range(GENES)]
    assert np.mean(r) > 0.8
    # A pair of opposite residuals has the regression mean.
    regression = fitted.generator.regression_mean(torch.from_numpy(condition[held_out])).numpy()
    np.testing.assert_allclose(mean, regression, atol=1e-4)
    # Single draws vary as the measured section does.
    ratio = samples[:, 0].var(0) / target[held_out].var(0)
    assert ratio.mean() == pytest.approx(1, abs=0.25)
    low, high = fitted.bands.around(mean, samples.std(1))
    inside = (target[held_out] >= low) & (target[held_out] <= high)
    assert 0.8 < inside.mean() < 0.98


def test_strange_spots_are_far(fitted: Fitted, data: tuple[np.ndarray, ...]) -> None:
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
            super().__init__(DenoiserSize(5, 2, 1, 8, 2))
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
    condition, target, section = data
    settings = replace(
        SETTINGS, target="published", denoiser=DenoiserTraining(steps=300, batch=32, noises=2)
    )
    fitted = fit(condition, target, section, GROUPS, 10, settings)
    assert fitted.generator.target == "published"
    assert fitted.generator.denoiser.size.predicts == "noise"
    samples = draws(fitted, condition[:50], SamplingSettings("ancestral", 50, 4))
    assert np.isfinite(samples).all()
    # Trained this briefly it knows the level and little more.
    assert abs(samples.mean() - target[:50].mean()) < 1.5
