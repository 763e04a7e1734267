"""On Gaussian data the best denoiser is known in closed form, and so is what samplers must give."""

import numpy as np
import pytest
import torch
from torch import Tensor

from stem_core.diffusion.samplers import (
    antithetic,
    sample_ancestral,
    sample_angle,
    sample_ddim,
    sample_dpmpp_2m,
    sample_dpmpp_2m_sde,
)
from stem_core.diffusion.schedule import Schedule, spaced_timesteps, visited_timesteps

MEAN, STD = 2.0, 0.7
GOLDEN = {
    "ancestral": [1.42590891239, -27.3017286528, 187.198583987],
    "ddim": [0.407223635186, -52.1497398254, 196.631511381],
    "dpmpp-2m": [4.0503947752, -48.3217011168, 194.355573501],
    "angle": [0.469838569671, -4.62749404306, 13.8316400604],
}


@pytest.fixture
def schedule() -> Schedule:
    return Schedule()


def exact(schedule: Schedule):
    """ε̂ for x0 ~ N(2, 0.7²), and v = -1 (the posterior variance)."""

    def denoise(x: Tensor, t: int) -> tuple[Tensor, Tensor]:
        a = schedule.alphas_bar[t]
        eps = np.sqrt(1 - a) * (x - np.sqrt(a) * MEAN) / (a * STD**2 + 1 - a)
        return eps, torch.full_like(x, -1.0)

    return denoise


def noise(seed: int, n: int = 4000) -> Tensor:
    return torch.randn(n, 1, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_ddim_maps_noise_to_data(schedule: Schedule) -> None:
    x = noise(0)
    out = sample_ddim(exact(schedule), x, schedule, spaced_timesteps(1000, 1000))
    torch.testing.assert_close(out, MEAN + STD * x, atol=0.03, rtol=0)


@pytest.mark.parametrize("steps", [50, 1000])
def test_ancestral_sampling_gives_the_distribution(schedule: Schedule, steps: int) -> None:
    out = sample_ancestral(
        exact(schedule), noise(1), schedule, spaced_timesteps(1000, steps), lambda i: noise(100 + i)
    )
    assert float(out.mean()) == pytest.approx(MEAN, abs=0.05)
    # Few steps with the smaller posterior variance come out a little narrow; a thousand do not.
    assert float(out.std()) == pytest.approx(STD, rel=0.12 if steps == 50 else 0.04)


def test_opposite_noise_gives_opposite_draws(schedule: Schedule) -> None:
    pairs = sample_ddim(exact(schedule), antithetic(noise(2)), schedule, spaced_timesteps(1000, 10))
    assert pairs.shape == (4000, 2, 1)
    assert float((pairs.mean(1) - MEAN).abs().max()) < 0.02


def nearly_white(schedule: Schedule, covariance: Tensor):
    """The best denoiser of Gaussian data of mean 0."""
    values, vectors = torch.linalg.eigh(covariance)

    def denoise(x: Tensor, t: int) -> tuple[Tensor, Tensor]:
        a = schedule.alphas_bar[t]
        shrunk = np.sqrt(1 - a) / (a * values + 1 - a)
        return (x @ vectors * shrunk) @ vectors.T, torch.full_like(x, -1.0)

    return denoise


def test_angle_needs_few_steps_where_data_are_nearly_white(schedule: Schedule) -> None:
    """Four steps find the exact draws within 1.5 %; the other samplers are far off."""
    random = torch.Generator().manual_seed(3)
    mix = torch.randn(6, 6, generator=random, dtype=torch.float64) * 0.1
    root = torch.eye(6, dtype=torch.float64) + (mix + mix.T) / 2
    x = torch.randn(3000, 1, 6, generator=random, dtype=torch.float64)
    denoise = nearly_white(schedule, root @ root)
    exact = x @ root

    def off(sampler, spacing: str, steps: int) -> float:
        out = sampler(denoise, x, schedule, visited_timesteps(schedule, steps, spacing))
        return float((out - exact).pow(2).mean().sqrt())

    assert off(sample_angle, "angle", 40) < 1e-3
    assert off(sample_angle, "angle", 4) < 0.015
    assert off(sample_ddim, "even", 4) > 0.3
    assert off(sample_dpmpp_2m, "trimmed", 4) > 0.05


@pytest.mark.parametrize("sampler", [sample_dpmpp_2m, sample_dpmpp_2m_sde])
def test_dpm_solver_gives_the_distribution(schedule: Schedule, sampler) -> None:  # type: ignore[no-untyped-def]
    more = (lambda i: noise(200 + i),) if sampler is sample_dpmpp_2m_sde else ()
    timesteps = visited_timesteps(schedule, 40, "trimmed")
    out = sampler(exact(schedule), noise(4), schedule, timesteps, *more)
    assert float(out.mean()) == pytest.approx(MEAN, abs=0.05)
    assert float(out.std()) == pytest.approx(STD, rel=0.06)


def test_golden_numbers(schedule: Schedule) -> None:
    """What the samplers gave when they agreed with their oracles; see test_oracle."""

    def curved(x: Tensor, t: int) -> tuple[Tensor, Tensor]:
        return torch.tanh(x * (0.4 + t / 2000)) + 0.3 * x.roll(1, -1).sin(), torch.cos(x + t / 300)

    start = torch.tensor([[[0.5, -1.0, 2.0]]], dtype=torch.float64)
    steps = spaced_timesteps(1000, 8)
    found = {
        "ancestral": sample_ancestral(curved, start, schedule, steps, lambda i: start * 0.1 * i),
        "ddim": sample_ddim(curved, start, schedule, steps),
        "dpmpp-2m": sample_dpmpp_2m(curved, start, schedule, steps),
        "angle": sample_angle(curved, start, schedule, visited_timesteps(schedule, 8, "angle")),
    }
    for name, values in GOLDEN.items():
        np.testing.assert_allclose(found[name].numpy().ravel(), values, rtol=1e-9, err_msg=name)
