"""Published vision transformers, built from timm, and the names of their weights.

CONCH's image tower (Lu et al. 2024) is a ViT-B/16 whose tokens one learned query attends to. Its
embedding is the one before the contrastive projection, not normalised, as the authors advise for an
image encoder and as Stem takes it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stem_core.encoders.catalogue import EncoderFacts, VitShape
from stem_core.encoders.timm_parts import import_timm

__all__ = [
    "ConchEncoder",
    "VitEncoder",
    "build_vit",
    "conch_visual",
    "dinov2_to_timm",
    "fit_positions",
]

State = dict[str, Tensor]


def build_vit(shape: VitShape, image_px: int) -> Any:
    """Build timm's vision transformer without a head: (N,3,P,P) -> all tokens, normalised."""
    timm = import_timm()
    gated: dict[str, Any] = (
        {"mlp_layer": timm.layers.SwiGLUPacked, "act_layer": nn.SiLU} if shape.gated_mlp else {}
    )
    return timm.models.vision_transformer.VisionTransformer(
        img_size=image_px,
        patch_size=shape.patch_px,
        num_classes=0,
        global_pool="",
        embed_dim=shape.width,
        depth=shape.depth,
        num_heads=shape.heads,
        # timm multiplies by the width and cuts off what is behind the point
        mlp_ratio=(shape.hidden + 0.5) / shape.width,
        init_values=1e-5 if shape.layer_scale else None,
        reg_tokens=shape.registers,
        no_embed_class=not shape.prefix_positions,
        weight_init="skip",
        **gated,
    )


class VitEncoder(nn.Module):
    """(N,3,P,P) normalised -> (N,width): the class token, or it and the mean of the patches'."""

    def __init__(self, facts: EncoderFacts) -> None:
        super().__init__()
        assert facts.shape is not None
        assert facts.input is not None
        self.vit = build_vit(facts.shape, facts.input.px)
        self.first_patch = 1 + facts.shape.registers
        self.with_mean = facts.pooling == "cls+mean"

    def forward(self, x: Tensor) -> Tensor:
        """(N,3,P,P) -> (N,width)."""
        tokens: Tensor = self.vit.forward_features(x)  # (N, 1 + registers + patches, D)
        cls = tokens[:, 0]
        if not self.with_mean:
            return cls
        return torch.cat([cls, tokens[:, self.first_patch :].mean(1)], 1)

    def load(self, state: State) -> None:
        """Take weights by timm's names, strictly."""
        self.vit.load_state_dict(state, strict=True, assign=True)


_DINOV2_OUTSIDE = {
    "embeddings.cls_token": "cls_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection.weight": "patch_embed.proj.weight",
    "embeddings.patch_embeddings.projection.bias": "patch_embed.proj.bias",
    "layernorm.weight": "norm.weight",
    "layernorm.bias": "norm.bias",
}
_DINOV2_INSIDE = {
    "norm1": "norm1",
    "attention.output.dense": "attn.proj",
    "norm2": "norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
    "mlp.weights_in": "mlp.fc1",
    "mlp.weights_out": "mlp.fc2",
}
_PARTS = ("query", "key", "value")


def dinov2_to_timm(state: State) -> State:
    """Rename the tensors of transformers' `Dinov2Model` as timm names them.

    Query, key and value become one matrix. The mask token, used in training alone, is left out;
    names that no such model has stay as they are, to be refused.
    """
    named: State = {}
    joined: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        if name == "embeddings.mask_token":
            continue
        parts = name.split(".")
        if name in _DINOV2_OUTSIDE:
            named[_DINOV2_OUTSIDE[name]] = value
        elif parts[:2] == ["encoder", "layer"] and len(parts) > 4:
            block, inside, leaf = f"blocks.{parts[2]}", ".".join(parts[3:-1]), parts[-1]
            if inside in ("layer_scale1", "layer_scale2") and leaf == "lambda1":
                named[f"{block}.ls{inside[-1]}.gamma"] = value
            elif inside in _DINOV2_INSIDE:
                named[f"{block}.{_DINOV2_INSIDE[inside]}.{leaf}"] = value
            elif inside.startswith("attention.attention.") and parts[-2] in _PARTS:
                joined.setdefault(f"{block}.attn.qkv.{leaf}", {})[parts[-2]] = value
            else:
                named[name] = value
        else:
            named[name] = value
    for target, three in joined.items():
        if set(three) == set(_PARTS) and len({tuple(v.shape) for v in three.values()}) == 1:
            named[target] = torch.cat([three[part] for part in _PARTS])
        else:  # incomplete: keep the names of the file, to be refused by them
            for part, value in three.items():
                named[target.replace("attn.qkv", f"attn.{part}")] = value
    return named


def fit_positions(table: Tensor, shape: VitShape, image_px: int) -> Tensor:
    """Resample a table of positions that was saved for one of the other image sides allowed.

    Bicubic, as transformers does it. A table of any other size is returned as it is.

    Parameters
    ----------
    table
        (1, 1 + n², width), the class token's first.
    """
    if table.dim() != 3 or not shape.prefix_positions or shape.registers:
        return table
    side = image_px // shape.patch_px
    for px in shape.table_px:
        n = px // shape.patch_px
        if n != side and table.shape[1] == 1 + n * n:
            grid = table[:, 1:].reshape(1, n, n, -1).permute(0, 3, 1, 2).float()
            fitted = F.interpolate(grid, size=(side, side), mode="bicubic", align_corners=False)
            return torch.cat([table[:, :1].float(), fitted.flatten(2).transpose(1, 2)], 1)
    return table


_HEADS = 8
# Of the published file: text tower, captioning, and the projection behind the embedding.
_NOT_NEEDED = ("visual.proj_contrast", "visual.attn_pool_caption.", "visual.ln_caption.")


class _AttentionPool(nn.Module):
    """One query over all tokens: (N,T,width of the trunk) -> (N,width)."""

    def __init__(self, width: int, token_width: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.empty(1, width))
        self.ln_q = nn.LayerNorm(width)
        self.ln_k = nn.LayerNorm(token_width)
        self.attn = nn.MultiheadAttention(
            width, _HEADS, kdim=token_width, vdim=token_width, batch_first=True
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """(N,T,token width) -> (N,width)."""
        keys = self.ln_k(tokens)
        query = self.ln_q(self.query).expand(len(tokens), -1, -1)
        pooled: Tensor = self.attn(query, keys, keys, need_weights=False)[0]
        return pooled[:, 0]


class _ImageTower(nn.Module):
    """(N,3,448,448) normalised -> (N,512)."""

    def __init__(self, facts: EncoderFacts) -> None:
        super().__init__()
        assert facts.shape is not None
        assert facts.input is not None
        self.trunk = build_vit(facts.shape, facts.input.px)
        self.attn_pool_contrast = _AttentionPool(facts.width, facts.shape.width)
        self.ln_contrast = nn.LayerNorm(facts.width)

    def forward(self, x: Tensor) -> Tensor:
        """(N,3,P,P) -> (N,width)."""
        tokens = self.trunk.forward_features(x)  # (N,785,768)
        out: Tensor = self.ln_contrast(self.attn_pool_contrast(tokens))
        return out


class ConchEncoder(nn.Module):
    """The image tower, with parameters named as in the published file."""

    def __init__(self, facts: EncoderFacts) -> None:
        super().__init__()
        self.visual = _ImageTower(facts)

    def forward(self, x: Tensor) -> Tensor:
        """(N,3,P,P) -> (N,width)."""
        out: Tensor = self.visual(x)
        return out

    def load(self, state: dict[str, Tensor]) -> None:
        """Take the image tower's weights, strictly."""
        self.load_state_dict(state, strict=True, assign=True)


def conch_visual(name: str) -> bool:
    """Tell whether a tensor of the published file belongs to the image tower."""
    return name.startswith("visual.") and not name.startswith(_NOT_NEEDED)
