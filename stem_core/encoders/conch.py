"""CONCH's image tower (Lu et al. 2024): a ViT-B/16 whose tokens one learned query attends to.

The embedding is the one before the contrastive projection, not normalised, as the authors advise
for an image encoder and as Stem takes it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stem_core.encoders.catalogue import EncoderFacts
from stem_core.encoders.vit import build_vit

__all__ = ["ConchEncoder", "conch_visual"]

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
