"""Published encoders: names and shapes, refusals, arithmetic, inputs, and what is not imported."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file

from stem_core.encoders.catalogue import CATALOGUE
from stem_core.encoders.foundation import FoundationEncoder, load_published
from stem_core.encoders.pair import JoinedEncoder
from stem_core.encoders.preparation import normalise, resize_patch
from stem_core.encoders.vit import fit_positions
from stem_core.encoders.weights import fill_network, needed_names
from stem_core.errors import ModelFileError, SettingsError
from tests.encoders.published import (
    TIMM,
    State,
    dinov2_shapes,
    full_state,
    timm_model,
    tiny_facts,
    tiny_state,
)

PUBLISHED = [name for name, facts in CATALOGUE.items() if facts.shape is not None]


def patches(count: int = 3, side: int = 224, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, side, side), dtype=np.uint8)


def saved(name: str, folder: Path, state: State | None = None) -> Path:
    path = folder / f"{name}.safetensors"
    state = tiny_state(name) if state is None else state
    save_file({key: value.contiguous() for key, value in state.items()}, path)
    return path


def loaded(name: str, folder: Path) -> FoundationEncoder:
    return load_published(tiny_facts(name), saved(name, folder))


@pytest.mark.parametrize("name", PUBLISHED)
def test_full_size_takes_exactly_the_published_names_and_shapes(name: str) -> None:
    state = full_state(name)
    needed = {key: state[key] for key in needed_names(CATALOGUE[name], state)}
    network = fill_network(CATALOGUE[name], needed, "weights")
    assert all(value.is_meta for value in network.state_dict().values())  # it cost no memory


@pytest.mark.parametrize("name", ["uni", "conch", "h-optimus-0", "midnight-12k"])
def test_what_is_not_the_published_network_is_refused(name: str, tmp_path: Path) -> None:
    state = tiny_state(name)
    some = next(key for key in state if "norm" in key)
    extra = "visual.head.weight" if name == "conch" else "head.weight"
    renamed = {("x" + key if key == some else key): value for key, value in state.items()}
    if name == "conch":
        renamed = {k.replace("trunk.norm", "trunk.nrom"): v for k, v in state.items()}
    cases: dict[str, State] = {
        "lacking": {key: value for key, value in state.items() if key != some},
        "does not belong there": {**state, extra: torch.zeros(7)},
        "has the shape": {**state, some: torch.zeros(7)},
        "lacking .* with": renamed,
    }
    for says, wrong in cases.items():
        with pytest.raises(ModelFileError, match=f"not those of .*{says}") as told:
            load_published(tiny_facts(name), saved(name, tmp_path, wrong))
        assert len(str(told.value).splitlines()) == 1


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_encoder_says_all_that_is_needed(name: str) -> None:
    facts = CATALOGUE[name]
    assert facts.shape is not None
    assert facts.input is not None
    twice = 2 if facts.pooling == "cls+mean" else 1
    assert facts.width == (512 if name == "conch" else twice * facts.shape.width)
    assert facts.files
    assert facts.input.px % facts.shape.patch_px == 0


@pytest.mark.parametrize("name", list(TIMM))
def test_embeddings_are_those_of_timm(name: str, tmp_path: Path) -> None:
    encoder = loaded(name, tmp_path)
    oracle = timm_model(name, embed_dim=32, depth=2, num_heads=2, mlp_ratio=2.0)
    oracle.load_state_dict(tiny_state(name))
    oracle.eval()
    given = patches(3, 260)
    rule = CATALOGUE[name].input
    assert rule is not None
    prepared = np.stack([resize_patch(patch, rule) for patch in given])
    with torch.inference_mode():
        x = normalise(prepared, rule, torch.device("cpu"))
        tokens = oracle.forward_features(x)
        expected = oracle(x) if oracle.global_pool == "token" else tokens[:, 0]
        if name == "virchow2":  # its card: class token and mean of the patch tokens from the 5th on
            expected = torch.cat([tokens[:, 0], tokens[:, 5:].mean(1)], 1)
    found = encoder.encode(given, batch=2)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-4)
    assert np.abs(found[0] - found[1]).max() > 1e-3  # it looks at the patch
    assert encoder.encode(given[:0]).shape == (0, encoder.width)


def plain_dinov2(state: State, x: torch.Tensor, heads: int) -> torch.Tensor:
    """What transformers' `Dinov2Model` computes, line by line, from its own names."""

    def linear(name: str, value: torch.Tensor) -> torch.Tensor:
        return F.linear(value, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(name: str, value: torch.Tensor) -> torch.Tensor:
        size = value.shape[-1:]
        return F.layer_norm(value, size, state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)

    at = "embeddings.patch_embeddings.projection"
    kernel = state[f"{at}.weight"]
    grid = F.conv2d(x, kernel, state[f"{at}.bias"], stride=kernel.shape[-1])
    tokens = grid.flatten(2).transpose(1, 2)
    first = state["embeddings.cls_token"].expand(len(x), -1, -1)
    tokens = torch.cat([first, tokens], 1) + state["embeddings.position_embeddings"]
    for number in range(sum(key.endswith("norm1.weight") for key in state)):
        block = f"encoder.layer.{number}"
        normed = norm(f"{block}.norm1", tokens)
        q, k, v = (
            linear(f"{block}.attention.attention.{part}", normed).unflatten(-1, (heads, -1))
            for part in ("query", "key", "value")
        )
        weights = torch.einsum("nqhd,nkhd->nhqk", q, k) * q.shape[-1] ** -0.5
        mixed = torch.einsum("nhqk,nkhd->nqhd", weights.softmax(-1), v).flatten(2)
        attended = linear(f"{block}.attention.output.dense", mixed)
        tokens = tokens + state[f"{block}.layer_scale1.lambda1"] * attended
        normed = norm(f"{block}.norm2", tokens)
        if f"{block}.mlp.weights_in.weight" in state:
            gate, value = linear(f"{block}.mlp.weights_in", normed).chunk(2, -1)
            out = linear(f"{block}.mlp.weights_out", F.silu(gate) * value)
        else:
            out = linear(f"{block}.mlp.fc2", F.gelu(linear(f"{block}.mlp.fc1", normed)))
        tokens = tokens + state[f"{block}.layer_scale2.lambda1"] * out
    return norm("layernorm", tokens)


@pytest.mark.parametrize("name", ["midnight-12k", "phikon-v2"])
def test_embeddings_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    given = patches()
    rule = CATALOGUE[name].input
    assert rule is not None
    tokens = plain_dinov2(tiny_state(name), normalise(given, rule, torch.device("cpu")), 2)
    expected = tokens[:, 0]
    if name == "midnight-12k":
        expected = torch.cat([expected, tokens[:, 1:].mean(1)], 1)
    found = loaded(name, tmp_path).encode(given)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-4)


def test_positions_saved_for_a_larger_image_are_resampled(tmp_path: Path) -> None:
    facts = tiny_facts("midnight-12k")
    assert facts.shape is not None
    state = tiny_state("midnight-12k", image_px=518)
    name = "embeddings.position_embeddings"
    state[name] = torch.ones_like(state[name]) * torch.arange(32.0)
    load_published(facts, saved("large", tmp_path, state))
    fitted = fit_positions(state[name], facts.shape, 224)
    assert fitted.shape == (1, 257, 32)
    torch.testing.assert_close(fitted, torch.arange(32.0).expand(1, 257, 32))
    odd = {**state, name: torch.zeros(1, 1 + 20**2, 32)}
    with pytest.raises(ModelFileError, match=r"pos_embed has the shape \(1, 401, 32\)"):
        load_published(facts, saved("odd", tmp_path, odd))


def test_conch_attends_to_all_normalised_tokens(tmp_path: Path) -> None:
    state, encoder = tiny_state("conch"), loaded("conch", tmp_path)
    given = patches(2, 448)
    rule = CATALOGUE["conch"].input
    assert rule is not None
    prepared = np.stack([resize_patch(patch, rule) for patch in given])
    x = normalise(prepared, rule, torch.device("cpu"))
    with torch.inference_mode():
        tokens = encoder.network.visual.trunk.forward_features(x)  # type: ignore[union-attr,operator]
    assert tokens.shape == (2, 785, 32)
    pool = {k.removeprefix("visual.attn_pool_contrast."): v for k, v in state.items()}
    query = F.layer_norm(pool["query"], (16,), pool["ln_q.weight"], pool["ln_q.bias"])
    keys = F.layer_norm(tokens, (32,), pool["ln_k.weight"], pool["ln_k.bias"])
    bias = pool["attn.in_proj_bias"].chunk(3)
    q = F.linear(query, pool["attn.q_proj_weight"], bias[0]).unflatten(-1, (8, -1))  # (1,8,d)
    k = F.linear(keys, pool["attn.k_proj_weight"], bias[1]).unflatten(-1, (8, -1))  # (2,785,8,d)
    v = F.linear(keys, pool["attn.v_proj_weight"], bias[2]).unflatten(-1, (8, -1))
    weights = (torch.einsum("qhd,nkhd->nhqk", q, k) * q.shape[-1] ** -0.5).softmax(-1)
    mixed = torch.einsum("nhqk,nkhd->nqhd", weights, v)[:, 0].flatten(1)
    pooled = F.linear(mixed, pool["attn.out_proj.weight"], pool["attn.out_proj.bias"])
    ln = "visual.ln_contrast"
    expected = F.layer_norm(pooled, (16,), state[f"{ln}.weight"], state[f"{ln}.bias"])
    np.testing.assert_allclose(encoder.encode(given), expected.numpy(), rtol=1e-4, atol=1e-4)


def by_pillow(name: str, image: Image.Image) -> Image.Image:
    """What each publication does to a patch, with Pillow's own calls."""
    kind = Image.Resampling
    match name:
        case "uni":
            return image.resize((224, 224), kind.LANCZOS)
        case "conch":
            return image.resize((256, 256), kind.LANCZOS).resize((448, 448), kind.BICUBIC)
        case "prov-gigapath":
            return image.resize((256, 256), kind.BICUBIC).crop((16, 16, 240, 240))
        case "uni2-h" | "midnight-12k":
            return image.resize((224, 224), kind.BILINEAR)
    return image.resize((224, 224), kind.BICUBIC)


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("side", [224, 300, 97])
def test_patches_are_resized_as_published(name: str, side: int) -> None:
    rule = CATALOGUE[name].input
    assert rule is not None
    [patch] = patches(1, side)
    expected = np.asarray(by_pillow(name, Image.fromarray(patch.transpose(1, 2, 0))))
    np.testing.assert_array_equal(resize_patch(patch, rule), expected.transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("name", "golden"),
    [
        ("uni", (1.307047, 0.590336, 1.332810)),
        ("conch", (1.127423, 0.499068, 1.079392)),
        ("h-optimus-0", (0.363836, 0.041311, 0.012761)),
        ("midnight-12k", (0.568627, 0.176471, 0.411765)),
    ],
)
def test_normalisation_has_golden_numbers(name: str, golden: tuple[float, ...]) -> None:
    """Of a pixel (200, 150, 180)."""
    rule = CATALOGUE[name].input
    assert rule is not None
    patch = np.empty((1, 3, 2, 2), np.uint8)
    patch[:] = np.array([200, 150, 180], np.uint8)[:, None, None]
    found = normalise(patch, rule, torch.device("cpu"))
    assert found[0, :, 1, 0].tolist() == pytest.approx(golden, abs=2e-6)


def test_precision(tmp_path: Path) -> None:
    path = saved("uni", tmp_path)
    given = patches(2)
    full = load_published(tiny_facts("uni"), path).encode(given)  # auto, on a CPU: fp32
    exact = load_published(tiny_facts("uni"), path, precision="fp32").encode(given)
    half = load_published(tiny_facts("uni"), path, precision="bf16").encode(given)
    np.testing.assert_array_equal(full, exact)
    assert 1e-5 < np.abs(half - exact).max() < 0.3
    with pytest.raises(SettingsError, match="needs a GPU"):
        load_published(tiny_facts("uni"), path, precision="fp16").encode(given)


def test_a_pair_is_joined_in_order(tmp_path: Path) -> None:
    parts = loaded("uni", tmp_path), loaded("conch", tmp_path)
    pair = JoinedEncoder(parts)
    given = patches(2)
    np.testing.assert_array_equal(
        pair.encode(given), np.concatenate([part.encode(given) for part in parts], 1)
    )
    assert (pair.name, pair.width) == ("tiny-uni+tiny-conch", 48)
    joined = "".join(part.sha256 for part in parts).encode()
    assert pair.sha256 == hashlib.sha256(joined).hexdigest()
    assert (
        parts[0].sha256 == hashlib.sha256((tmp_path / "uni.safetensors").read_bytes()).hexdigest()
    )
    assert JoinedEncoder(parts[::-1]).sha256 != pair.sha256


def test_files_that_are_not_the_published_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="not those of UNI as published"):
        load_published(CATALOGUE["uni"], saved("uni", tmp_path))  # the tiny one
    with pytest.raises(ModelFileError, match="cannot be read"):
        load_published(CATALOGUE["uni"], tmp_path / "nothing.safetensors")


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    state = tiny_state("uni")
    state["norm.bias"][3] = float("nan")
    with pytest.raises(ModelFileError, match=r"norm.bias .* not finite"):
        load_published(tiny_facts("uni"), saved("uni", tmp_path, state))


def test_published_tables_have_the_published_sizes() -> None:
    """Of `model.safetensors`: 4.55 GB for Midnight-12k and 1.21 GB for Phikon-v2 in float32."""
    midnight = dinov2_shapes(1536, 40, 8192, 14, 224, gated=True)
    phikon = dinov2_shapes(1024, 24, 4096, 16, 224, gated=False)
    sizes = [4e-9 * sum(float(np.prod(s)) for s in t.values()) for t in (midnight, phikon)]
    assert sizes == pytest.approx([4.54, 1.21], abs=0.02)


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("STEM_FULL_SIZE"), reason="STEM_FULL_SIZE is not set")
@pytest.mark.parametrize("name", ["uni", "conch", "h-optimus-0", "midnight-12k"])
def test_four_patches_at_full_size(name: str, tmp_path: Path) -> None:
    """Takes 5 GB of memory, 2.5 GB of disk and about a minute for the largest."""
    random = torch.Generator().manual_seed(0)
    some = 0.02 * torch.randn(1 << 20, generator=random)
    state = {}
    for key, value in full_state(name).items():
        repeated = some.repeat(-(-value.numel() // len(some)))[: value.numel()]
        state[key] = repeated.reshape(value.shape).half()
    path = saved(name, tmp_path, state)
    del state
    found = load_published(CATALOGUE[name], path, precision="bf16").encode(patches(4, 224), batch=4)
    path.unlink()
    assert found.shape == (4, CATALOGUE[name].width)
    assert np.isfinite(found).all()
    assert len(np.unique(found, axis=0)) == 4  # it looks at the patch
