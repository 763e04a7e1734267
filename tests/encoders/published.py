"""Weights of encoders as their makers publish them: exact names and shapes, random values.

Laid out without the code under test: by timm's own models with the arguments of the cards, by the
names of transformers' `Dinov2Model`, and by those of CONCH's file. At full size on the meta device
they cost nothing; at tiny size they are files of some kilobytes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from stem_core.encoders.catalogue import CATALOGUE, EncoderFacts, VitShape
from stem_core.encoders.timm_parts import import_timm

State = dict[str, Tensor]

# Model and arguments as on the cards; those that take classes of timm are added below.
TIMM: dict[str, tuple[str, dict[str, Any]]] = {
    "uni": (
        "vit_large_patch16_224",
        {"init_values": 1e-5, "num_classes": 0, "dynamic_img_size": True},
    ),
    "uni2-h": (
        "vit_giant_patch14_224",
        {
            "img_size": 224, "patch_size": 14, "depth": 24, "num_heads": 24, "init_values": 1e-5,
            "embed_dim": 1536, "mlp_ratio": 2.66667 * 2, "num_classes": 0, "no_embed_class": True,
            "reg_tokens": 8, "dynamic_img_size": True,
        },
    ),
    "h-optimus-0": (
        "vit_giant_patch14_reg4_dinov2",
        {"img_size": 224, "init_values": 1e-5, "num_classes": 0, "global_pool": "token"},
    ),
    "virchow2": (
        "vit_huge_patch14_224",
        {
            "img_size": 224, "init_values": 1e-5, "num_classes": 0, "reg_tokens": 4,
            "mlp_ratio": 5.3375, "global_pool": "", "dynamic_img_size": True,
        },
    ),
    "prov-gigapath": (
        "vit_giant_patch14_dinov2",
        {
            "img_size": 224, "patch_size": 16, "embed_dim": 1536, "depth": 40, "num_heads": 24,
            "init_values": 1e-5, "mlp_ratio": 5.33334, "num_classes": 0, "global_pool": "token",
        },
    ),
}  # fmt: skip
WITH_SWIGLU = ("uni2-h", "virchow2")
TINY_WIDTH, TINY_DEPTH, TINY_HEADS, TINY_CONCH = 32, 2, 2, 16


def timm_model(name: str, **changes: Any) -> Any:
    """The published model, built by timm; `changes` make it small."""
    timm = import_timm()
    model, arguments = TIMM[name]
    if name in WITH_SWIGLU:
        swiglu = {"mlp_layer": timm.layers.SwiGLUPacked, "act_layer": torch.nn.SiLU}
        arguments = {**arguments, **swiglu}
    return timm.create_model(model, pretrained=False, **{**arguments, **changes})


def dinov2_shapes(
    width: int, depth: int, hidden: int, patch_px: int, image_px: int, *, gated: bool
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of transformers' `Dinov2Model`."""
    tokens = 1 + (image_px // patch_px) ** 2
    found: dict[str, tuple[int, ...]] = {
        "embeddings.cls_token": (1, 1, width),
        "embeddings.mask_token": (1, width),
        "embeddings.position_embeddings": (1, tokens, width),
        "embeddings.patch_embeddings.projection.weight": (width, 3, patch_px, patch_px),
        "embeddings.patch_embeddings.projection.bias": (width,),
    }
    first, second = ("weights_in", "weights_out") if gated else ("fc1", "fc2")
    for number in range(depth):
        block = f"encoder.layer.{number}"
        for norm in ("norm1", "norm2"):
            found |= {f"{block}.{norm}.weight": (width,), f"{block}.{norm}.bias": (width,)}
        places = [f"attention.attention.{part}" for part in ("query", "key", "value")]
        for place in (*places, "attention.output.dense"):
            found |= {
                f"{block}.{place}.weight": (width, width),
                f"{block}.{place}.bias": (width,),
            }
        found |= {f"{block}.layer_scale{i}.lambda1": (width,) for i in (1, 2)}
        found |= {
            f"{block}.mlp.{first}.weight": (hidden, width),
            f"{block}.mlp.{first}.bias": (hidden,),
            f"{block}.mlp.{second}.weight": (width, hidden // 2 if gated else hidden),
            f"{block}.mlp.{second}.bias": (width,),
        }
    return found | {"layernorm.weight": (width,), "layernorm.bias": (width,)}


def conch_shapes(
    width: int = 512, token_width: int = 768, depth: int = 12, hidden: int = 3072
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of CONCH's file, with some of its text and captioning parts."""
    w, t = width, token_width
    trunk: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, t), "pos_embed": (1, 785, t),
        "patch_embed.proj.weight": (t, 3, 16, 16), "patch_embed.proj.bias": (t,),
        "norm.weight": (t,), "norm.bias": (t,),
    }  # fmt: skip
    for number in range(depth):
        block = f"blocks.{number}"
        trunk |= {
            f"{block}.norm1.weight": (t,), f"{block}.norm1.bias": (t,),
            f"{block}.attn.qkv.weight": (3 * t, t), f"{block}.attn.qkv.bias": (3 * t,),
            f"{block}.attn.proj.weight": (t, t), f"{block}.attn.proj.bias": (t,),
            f"{block}.norm2.weight": (t,), f"{block}.norm2.bias": (t,),
            f"{block}.mlp.fc1.weight": (hidden, t), f"{block}.mlp.fc1.bias": (hidden,),
            f"{block}.mlp.fc2.weight": (t, hidden), f"{block}.mlp.fc2.bias": (t,),
        }  # fmt: skip
    pool: dict[str, tuple[int, ...]] = {
        "ln_q.weight": (w,), "ln_q.bias": (w,), "ln_k.weight": (t,), "ln_k.bias": (t,),
        "attn.q_proj_weight": (w, w), "attn.k_proj_weight": (w, t), "attn.v_proj_weight": (w, t),
        "attn.in_proj_bias": (3 * w,), "attn.out_proj.weight": (w, w), "attn.out_proj.bias": (w,),
    }  # fmt: skip
    found = {f"visual.trunk.{name}": shape for name, shape in trunk.items()}
    for kind, queries in (("contrast", 1), ("caption", 256)):
        found |= {f"visual.attn_pool_{kind}.{name}": shape for name, shape in pool.items()}
        found[f"visual.attn_pool_{kind}.query"] = (queries, w)
        found |= {f"visual.ln_{kind}.weight": (w,), f"visual.ln_{kind}.bias": (w,)}
    return found | {
        "visual.proj_contrast": (w, w),
        "logit_scale": (),
        "text.token_embedding.weight": (64, w),
        "text_decoder.text_projection": (w, w),
    }


def full_state(name: str) -> State:
    """Of an encoder at its published size, on the meta device."""
    with torch.device("meta"):
        if name in TIMM:
            return dict(timm_model(name).state_dict())
        if name == "conch":
            shapes = conch_shapes()
        elif name == "midnight-12k":
            shapes = dinov2_shapes(1536, 40, 8192, 14, 224, gated=True)
        else:
            shapes = dinov2_shapes(1024, 24, 4096, 16, 224, gated=False)
        return {key: torch.empty(shape) for key, shape in shapes.items()}


def tiny_facts(name: str) -> EncoderFacts:
    """An encoder of the catalogue under the name `tiny-…`, its network made small."""
    facts = CATALOGUE[name]
    assert facts.shape is not None
    small = replace(facts.shape, width=TINY_WIDTH, depth=TINY_DEPTH, heads=TINY_HEADS, hidden=64)
    width = {"cls": TINY_WIDTH, "cls+mean": 2 * TINY_WIDTH, "attention": TINY_CONCH}[facts.pooling]
    return replace(facts, name=f"tiny-{name}", repo=f"lab/tiny-{name}", width=width, shape=small)


def tiny_state(name: str, *, seed: int = 0, image_px: int = 224) -> State:
    """Random weights of `tiny_facts(name)` with the published names."""
    shape = CATALOGUE[name].shape
    assert isinstance(shape, VitShape)
    if name in TIMM:
        module = timm_model(
            name, embed_dim=TINY_WIDTH, depth=TINY_DEPTH, num_heads=TINY_HEADS, mlp_ratio=2.0
        )
        shapes = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    elif name == "conch":
        shapes = conch_shapes(TINY_CONCH, TINY_WIDTH, TINY_DEPTH, 64)
    else:
        shapes = dinov2_shapes(
            TINY_WIDTH, TINY_DEPTH, 64, shape.patch_px, image_px, gated=shape.gated_mlp
        )
    random = torch.Generator().manual_seed(seed)
    return {key: 0.2 * torch.randn(size, generator=random) for key, size in shapes.items()}


def add_tiny_encoders() -> None:
    """Put all tiny encoders into this process's catalogue."""
    for name in [n for n, facts in CATALOGUE.items() if facts.shape is not None]:
        CATALOGUE[f"tiny-{name}"] = tiny_facts(name)
