"""The samplers against the schedulers of diffusers, and the denoiser against its formulas."""

import math

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from diffusers.schedulers import scheduling_ddpm, scheduling_dpmsolver_multistep
from torch import Tensor

from stem_core.diffusion.denoiser import Denoiser
from stem_core.diffusion.samplers import (
    sample_ancestral,
    sample_ddim,
    sample_dpmpp_2m,
    sample_dpmpp_2m_sde,
)
from stem_core.diffusion.schedule import Schedule, spaced_timesteps
from stem_core.model.config import DenoiserConfig

N, K, G = 2, 3, 5


def curved(x: Tensor, t: int) -> tuple[Tensor, Tensor]:
    """Some smooth nonlinear denoiser with a variance of its own."""
    eps = torch.tanh(x * (0.4 + t / 2000)) + 0.3 * torch.roll(x, 1, -1).sin()
    return eps, torch.cos(x + t / 300)


def start(seed: int = 0) -> Tensor:
    return torch.randn(N, K, G, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def flat(x: Tensor) -> Tensor:
    """(N,K,G) -> (N·K,1,G): diffusers wants channels second."""
    return x.flatten(0, 1)[:, None]


@pytest.mark.parametrize("steps", [7, 50, 1000])
def test_ancestral_equals_ddpm_with_learned_range(
    steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No clipping; the oracle's own respacing takes β of the full schedule as the upper variance.

    So it is given the respaced betas, and visits all of them.
    """
    schedule, chosen = Schedule(), spaced_timesteps(1000, steps)
    ours = sample_ancestral(curved, start(), schedule, chosen, lambda i: start(i))
    oracle = DDPMScheduler(
        num_train_timesteps=steps,
        trained_betas=schedule.respaced(chosen).betas,
        variance_type="learned_range",
        clip_sample=False,
    )
    drawn = iter(range(1, steps))
    monkeypatch.setattr(scheduling_ddpm, "randn_tensor", lambda *_, **__: flat(start(next(drawn))))
    x = start()
    for i in range(steps - 1, -1, -1):
        out = torch.cat([flat(part) for part in curved(x, int(chosen[i]))], 1)
        x = oracle.step(out, i, flat(x)).prev_sample.view(N, K, G)
    torch.testing.assert_close(ours, x, atol=2e-4, rtol=2e-4)  # its betas are float32


def run_oracle(oracle: object, timesteps: np.ndarray) -> Tensor:
    x = start()
    for t in timesteps[::-1]:
        eps, _ = curved(x, int(t))
        x = oracle.step(flat(eps), int(t), flat(x)).prev_sample.view(N, K, G)  # type: ignore[attr-defined]
    return x


def test_ddim_equals_ddim() -> None:
    schedule = Schedule()
    chosen = np.arange(0, 1000, 50)  # the oracle's "leading" spacing
    oracle = DDIMScheduler(
        beta_start=1e-4, beta_end=2e-2, clip_sample=False, set_alpha_to_one=True, steps_offset=0
    )
    oracle.set_timesteps(20)
    assert oracle.timesteps.tolist() == chosen[::-1].tolist()
    torch.testing.assert_close(
        sample_ddim(curved, start(), schedule, chosen), run_oracle(oracle, chosen),
        atol=2e-4, rtol=2e-4,
    )  # fmt: skip


def dpm_oracle(algorithm: str, steps: int) -> tuple[DPMSolverMultistepScheduler, np.ndarray]:
    """Make the oracle visit our timesteps: it spaces and rounds its own in another way."""
    schedule, chosen = Schedule(), spaced_timesteps(1000, steps)
    oracle = DPMSolverMultistepScheduler(
        beta_start=1e-4,
        beta_end=2e-2,
        algorithm_type=algorithm,
        solver_order=2,
        solver_type="midpoint",
        final_sigmas_type="zero",
        lower_order_final=True,
    )
    oracle.set_timesteps(steps)
    kept = schedule.alphas_bar[chosen][::-1]
    oracle.timesteps = torch.from_numpy(chosen[::-1].copy())
    oracle.sigmas = torch.from_numpy(np.append(np.sqrt((1 - kept) / kept), 0.0))
    return oracle, chosen


@pytest.mark.parametrize("steps", [2, 5, 10, 20])
def test_dpm_solver_equals_its_oracle(steps: int) -> None:
    oracle, chosen = dpm_oracle("dpmsolver++", steps)
    ours = sample_dpmpp_2m(curved, start(), Schedule(), chosen)
    torch.testing.assert_close(ours, run_oracle(oracle, chosen), atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("steps", [2, 10])
def test_stochastic_dpm_solver_equals_its_oracle(
    steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle, chosen = dpm_oracle("sde-dpmsolver++", steps)
    drawn = iter(range(1, steps + 1))
    monkeypatch.setattr(
        scheduling_dpmsolver_multistep, "randn_tensor", lambda *_, **__: flat(start(next(drawn)))
    )
    ours = sample_dpmpp_2m_sde(curved, start(), Schedule(), chosen, lambda i: start(i))
    torch.testing.assert_close(ours, run_oracle(oracle, chosen), atol=2e-4, rtol=2e-4)


# The denoiser --------------------------------------------------------------------------------


def published_state(generator: torch.Generator) -> dict[str, Tensor]:
    """A state dict with the published names and shapes: G 200, C 1536, D 384, depth 12."""
    d, c, g = 384, 1536, 200
    shapes = {"gene_joint_embed.gene_name_ebd": (g, d)}

    def linear(name: str, out: int, into: int) -> None:
        shapes[f"{name}.weight"] = (out, into)
        shapes[f"{name}.bias"] = (out,)

    linear("gene_joint_embed.gene_count_ebd.0", d, 1)
    linear("gene_joint_embed.gene_count_ebd.2", d, d)
    linear("time_embed.mlp.0", d, 256)
    linear("time_embed.mlp.2", d, d)
    linear("label_embed.0", c, c)
    linear("label_embed.2", d, c)
    for i in range(12):
        linear(f"blocks.{i}.attn.qkv", 3 * d, d)
        linear(f"blocks.{i}.attn.proj", d, d)
        linear(f"blocks.{i}.mlp.fc1", 4 * d, d)
        linear(f"blocks.{i}.mlp.fc2", d, 4 * d)
        linear(f"blocks.{i}.adaLN_modulation.1", 6 * d, d)
    linear("final_layer.linear", 2, d)
    linear("final_layer.adaLN_modulation.1", 2 * d, d)
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64) * 0.5 / shape[-1] ** 0.5
        for name, shape in shapes.items()
    }


def by_formula(p: dict[str, Tensor], x: Tensor, t: Tensor, label: Tensor) -> Tensor:
    """The published network written out for one sample a spot: x (N,G) -> (N,2,G)."""
    d, heads = 384, 6

    def linear(name: str, value: Tensor) -> Tensor:
        return value @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    def silu(value: Tensor) -> Tensor:
        return value / (1 + torch.exp(-value))

    def gelu(value: Tensor) -> Tensor:
        inner = math.sqrt(2 / math.pi) * (value + 0.044715 * value**3)
        return 0.5 * value * (1 + torch.tanh(inner))

    def norm(value: Tensor) -> Tensor:
        centred = value - value.mean(-1, keepdim=True)
        return centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + 1e-6)

    def embed(name: str, value: Tensor) -> Tensor:
        return linear(f"{name}.2", silu(linear(f"{name}.0", value)))

    frequencies = 10_000.0 ** (-torch.arange(128, dtype=torch.float64) / 128)
    angles = t.double()[:, None] * frequencies
    c = embed("time_embed.mlp", torch.cat([angles.cos(), angles.sin()], 1))
    c = c + embed("label_embed", label)
    tokens = embed("gene_joint_embed.gene_count_ebd", x[..., None])
    tokens = tokens + p["gene_joint_embed.gene_name_ebd"]
    for i in range(12):
        block = f"blocks.{i}"
        six = linear(f"{block}.adaLN_modulation.1", silu(c)).view(len(x), 6, 1, d)
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = six.unbind(1)
        h = norm(tokens) * (1 + scale_a) + shift_a
        q, k, v = (
            part.unflatten(-1, (heads, d // heads)).transpose(1, 2)
            for part in linear(f"{block}.attn.qkv", h).split(d, -1)
        )
        weights = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(d // heads), -1)
        mixed = (weights @ v).transpose(1, 2).flatten(2)
        tokens = tokens + gate_a * linear(f"{block}.attn.proj", mixed)
        h = norm(tokens) * (1 + scale_m) + shift_m
        h = linear(f"{block}.mlp.fc2", gelu(linear(f"{block}.mlp.fc1", h)))
        tokens = tokens + gate_m * h
    two = linear("final_layer.adaLN_modulation.1", silu(c)).view(len(x), 2, 1, d)
    shift, scale = two.unbind(1)
    return linear("final_layer.linear", norm(tokens) * (1 + scale) + shift).transpose(1, 2)


def test_published_state_dict_gives_the_published_output() -> None:
    generator = torch.Generator().manual_seed(0)
    state = published_state(generator)
    denoiser = Denoiser(DenoiserConfig()).eval()
    assert 35.5e6 < sum(value.numel() for value in denoiser.parameters()) < 35.7e6  # as published
    denoiser.load_state_dict(state, strict=True)
    x = torch.randn(3, 200, generator=generator, dtype=torch.float64)
    t = torch.tensor([0, 431, 999])
    label = torch.randn(3, 1536, generator=generator, dtype=torch.float64)
    expected = by_formula(state, x, t, label)
    with torch.inference_mode():
        out = torch.stack(denoiser.double()(x[:, None], t, label), 2)[:, 0]
        single = torch.stack(denoiser.float()(x[:, None].float(), t, label.float()), 2)[:, 0]
    assert expected.abs().max() > 0.1
    # In double precision only the sinusoids, kept in single precision, differ.
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(single.double(), expected, atol=1e-5, rtol=1e-5)
