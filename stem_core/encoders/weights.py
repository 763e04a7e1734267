"""Weights of a published encoder into its network: every tensor expected, shaped right, finite."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from stem_core.encoders.catalogue import EncoderFacts
from stem_core.encoders.vit import (
    ConchEncoder,
    VitEncoder,
    conch_visual,
    dinov2_to_timm,
    fit_positions,
)
from stem_core.errors import ModelFileError

__all__ = ["build_network", "fill_network", "load_network", "needed_names"]

State = dict[str, Tensor]
_MOST_NAMED = 3


def build_network(facts: EncoderFacts) -> VitEncoder | ConchEncoder:
    """Build an encoder's network on the meta device: names and shapes, no memory."""
    with torch.device("meta"):
        return ConchEncoder(facts) if facts.layout == "conch" else VitEncoder(facts)


def needed_names(facts: EncoderFacts, names: Iterable[str]) -> list[str]:
    """Leave out what the published file holds besides the image tower (of CONCH: its text)."""
    return [name for name in names if facts.layout != "conch" or conch_visual(name)]


def load_network(facts: EncoderFacts, path: Path) -> nn.Module:
    """Build an encoder's network and fill it from a safetensors file with the published names.

    Returns
    -------
    nn.Module
        (N,3,P,P) normalised -> (N,width); on the CPU, float32, for inference.

    Raises
    ------
    ModelFileError
        The file cannot be read, or a tensor is missing, not known, of another shape, or not finite.
    EncoderMissingError
        timm is not installed.
    """
    return fill_network(facts, _read(facts, path), path.name)


def fill_network(facts: EncoderFacts, state: State, shown: str) -> nn.Module:
    """Build an encoder's network and fill it with tensors that have the published names.

    Parameters
    ----------
    facts
        Of the catalogue.
    state
        What the published file holds, without what `needed_names` leaves out.
    shown
        What to call the file in errors.

    Raises
    ------
    ModelFileError
        A tensor is missing, not known, or of another shape.
    EncoderMissingError
        timm is not installed.
    """
    network = build_network(facts)
    if facts.layout == "dinov2":
        state = dinov2_to_timm(state)
        assert facts.shape is not None
        assert facts.input is not None
        if "pos_embed" in state:
            table = fit_positions(state["pos_embed"], facts.shape, facts.input.px)
            state["pos_embed"] = table
    expected = (network if isinstance(network, ConchEncoder) else network.vit).state_dict()
    if wrong := _difference(expected, state):
        msg = (
            f"The weights {shown} are not those of {facts.title} as published ({facts.repo}): "
            f"{wrong}; pull the encoder again, or give the file of its repository."
        )
        raise ModelFileError(msg)
    network.load({name: value.float().contiguous() for name, value in state.items()})
    return network.eval().requires_grad_(False)


def _read(facts: EncoderFacts, path: Path) -> State:
    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in needed_names(facts, file.keys())}
    except (OSError, SafetensorError) as error:
        msg = (
            f"The weights {path.name} of {facts.title} cannot be read "
            f"({str(error).splitlines()[0]}); pull the encoder again."
        )
        raise ModelFileError(msg) from error
    for name, value in state.items():
        if not value.is_floating_point() or not bool(torch.isfinite(value).all()):
            msg = (
                f"The tensor {name} in {path.name} of {facts.title} holds values that are not "
                "finite numbers; pull the encoder again."
            )
            raise ModelFileError(msg)
    return state


def _difference(expected: State, found: State) -> str:
    """Say what does not fit; "" for nothing."""
    missing = [name for name in expected if name not in found]
    unknown = [name for name in found if name not in expected]
    shapes = [
        f"{name} has the shape {tuple(found[name].shape)} instead of {tuple(value.shape)}"
        for name, value in expected.items()
        if name in found and found[name].shape != value.shape
    ]
    said = []
    if missing:
        said.append(f"lacking {_some(missing)}")
    if unknown:
        said.append(f"with {_some(unknown)}, which does not belong there")
    if shapes:
        said.append(_some(shapes))
    return ", ".join(said)


def _some(names: list[str]) -> str:
    more = len(names) - _MOST_NAMED
    shown = ", ".join(name[:100] for name in names[:_MOST_NAMED])
    return f"{shown} and {more} more" if more > 0 else shown
