"""On Gaussian data the best denoiser is known in closed form, and so is what samplers must give."""

import numpy as np
import pytest
import torch
from torch import Tensor

from stem_core.diffusion.samplers import antithetic, sample_ancestral, sample_ddim
from stem_core.diffusion.schedule import Schedule, spaced_timesteps

MEAN, STD = 2.0, 0.7


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
