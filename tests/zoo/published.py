"""Checkpoints as the original authors write them, made without their code and without timm.

The classes below have the names, parameters and attributes of theirs, and no forward pass. They say
that they live in `Stem.models` and `timm`; modules of these names exist only while a file is
written, so that whoever reads it has neither.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["write_training_checkpoint", "write_whole_model"]

State = dict[str, Tensor]


class Attention(nn.Module):
    __module__ = "timm.models.vision_transformer"

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads = heads
        self.head_dim = width // heads
        self.scale = self.head_dim**-0.5
        self.fused_attn = True
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm, self.k_norm = nn.Identity(), nn.Identity()
        self.attn_drop = nn.Dropout(0.0)
        self.proj = nn.Linear(width, width)
        self.proj_drop = nn.Dropout(0.0)


class Mlp(nn.Module):
    __module__ = "timm.layers.mlp"

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.act = nn.GELU(approximate="tanh")
        self.drop1, self.norm, self.drop2 = nn.Dropout(0.0), nn.Identity(), nn.Dropout(0.0)
        self.fc2 = nn.Linear(4 * width, width)


class GeneJointEmbedding(nn.Module):
    __module__ = "Stem.models"

    def __init__(self, genes: int, width: int) -> None:
        super().__init__()
        self.gene_name_ebd = nn.Parameter(torch.empty(genes, width))
        self.gene_count_ebd = nn.Sequential(nn.Linear(1, width), nn.SiLU(), nn.Linear(width, width))
        self.hidden_dim = width


class TimestepEmbedder(nn.Module):
    __module__ = "Stem.models"

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))
        self.frequency_embedding_size = 256


class DiTBlock(nn.Module):
    __module__ = "Stem.models"

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.mlp = Mlp(width)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))


class FinalLayer(nn.Module):
    __module__ = "Stem.models"

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.linear = nn.Linear(width, 2)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))


class StemModel(nn.Module):
    __module__ = "Stem.models"

    def __init__(
        self, genes: int, condition_width: int, depth: int, width: int, heads: int
    ) -> None:
        super().__init__()
        self.learn_sigma = True
        self.input_size, self.hidden_size, self.num_heads = genes, width, heads
        self.gene_joint_embed = GeneJointEmbedding(genes, width)
        self.time_embed = TimestepEmbedder(width)
        self.label_embed = nn.Sequential(
            nn.Linear(condition_width, condition_width),
            nn.SiLU(),
            nn.Linear(condition_width, width),
        )
        self.blocks = nn.ModuleList(DiTBlock(width, heads) for _ in range(depth))
        self.final_layer = FinalLayer(width)


class _Extras(nn.Module):
    """What other versions of such models carry: functions, classes, sets, buffers, types."""

    __module__ = "Stem.models"

    def __init__(self) -> None:
        super().__init__()
        self.norm_layer = functools.partial(nn.LayerNorm, eps=1e-6)
        self.act_layer = nn.GELU
        self.gelu, self.attend = F.gelu, F.scaled_dot_product_attention
        self.dtype, self.device, self.shape = torch.float32, torch.device("cpu"), torch.Size([2])
        self.kept, self.told = {"a", "b"}, {1: (2.5, None, [True, "text"])}
        self.register_buffer("positions", torch.arange(4.0), persistent=False)
        self.register_parameter("absent", None)


CLASSES = (
    *(Attention, Mlp, GeneJointEmbedding, TimestepEmbedder),
    *(DiTBlock, FinalLayer, StemModel, _Extras),
)


@contextmanager
def _modules_of_the_authors() -> Iterator[None]:
    names = {
        ".".join(parts[: end + 1])
        for parts in (cls.__module__.split(".") for cls in CLASSES)
        for end in range(len(parts))
    }
    before = {name: sys.modules.get(name) for name in names}
    sys.modules.update({name: ModuleType(name) for name in names})
    for cls in CLASSES:
        setattr(sys.modules[cls.__module__], cls.__name__, cls)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def _build(
    seed: int, like: nn.Module | None, dtype: torch.dtype, sizes: tuple[int, int, int, int, int]
) -> StemModel:
    model = StemModel(*sizes)
    for name, value in {} if like is None else like.state_dict().items():
        place, _, leaf = name.rpartition(".")
        model.get_submodule(place).register_parameter(leaf, nn.Parameter(value.clone()))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.02, generator=generator)
    return model.to(dtype)


def _copy(state: Mapping[str, Tensor]) -> State:
    return {name: value.detach().clone() for name, value in state.items()}


def write_whole_model(
    path: Path,
    *,
    genes: int = 200,
    condition_width: int = 1536,
    depth: int = 12,
    width: int = 384,
    heads: int = 6,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    like: nn.Module | None = None,
    extras: bool = True,
    protocol: int = 2,
) -> State:
    """Write `torch.save(model, path)` and return the model's state.

    With `like`, parameters take the shapes of that module's instead of the authors'.
    """
    model = _build(seed, like, dtype, (genes, condition_width, depth, width, heads))
    if extras:
        model.extras = _Extras()
    with _modules_of_the_authors():
        torch.save(model, path, pickle_protocol=protocol)
    return _copy(model.state_dict())


def write_training_checkpoint(
    path: Path,
    *,
    genes: int = 200,
    condition_width: int = 1536,
    depth: int = 12,
    width: int = 384,
    heads: int = 6,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    like: nn.Module | None = None,
    args: argparse.Namespace | dict[str, Any] | None = None,
    prefix: str = "",
    optimiser: bool = True,
    protocol: int = 2,
) -> tuple[State, State]:
    """Write what the authors' training writes; return the states of the model and of its EMA.

    The names in the file have `prefix`, those returned have not. The authors' own script writes no
    `args`, so by default there are none.
    """
    sizes = (genes, condition_width, depth, width, heads)
    model, ema = (_build(seed + i, like, dtype, sizes) for i in range(2))
    checkpoint: dict[str, Any] = {}
    for key, module in (("model", model), ("ema", ema)):
        state = module.state_dict()  # an OrderedDict with an attribute _metadata
        for name in list(state):
            state[prefix + name] = state.pop(name)
        checkpoint[key] = state
    if optimiser:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0)
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        checkpoint["opt"] = optimizer.state_dict()
    if args is not None:
        checkpoint["args"] = args
    torch.save(checkpoint, path, pickle_protocol=protocol)
    return _copy(model.state_dict()), _copy(ema.state_dict())
