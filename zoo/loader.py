"""Load a model folder, strictly.

Safetensors only, every tensor expected, shaped right and finite.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from stem_core.diffusion.conditional_mean import build_conditional_mean
from stem_core.diffusion.denoiser import Denoiser
from stem_core.diffusion.schedule import Schedule
from stem_core.encoders.catalogue import encoder_facts
from stem_core.encoders.condition import (
    Encoder,
    condition_groups,
    condition_width,
)
from stem_core.encoders.pair import joined_parts
from stem_core.errors import ModelFileError
from stem_core.files import file_sha256
from stem_core.model.manifest import Manifest, read_manifest
from stem_core.prediction.model import (
    Bands,
    DomainReference,
    Generator,
    RidgeBaseline,
    StemModel,
)
from zoo.encoder_files import ENCODERS_DIR, find_encoder

__all__ = [
    "ENCODERS_DIR",
    "build_generator",
    "check_model",
    "load_generator",
    "load_model",
]


def build_generator(manifest: Manifest) -> Generator:
    """Make the modules a manifest describes, with weights still to be loaded."""
    genes, width = len(manifest.panel), manifest.condition_width
    mean = None
    if manifest.regression is not None:
        groups = condition_groups(manifest.condition, manifest.encoder_width)
        mean = build_conditional_mean(groups, width, genes, manifest.regression)
    as_it_is = manifest.target == "published" and manifest.denoiser.condition_width == width
    return Generator(
        Denoiser(manifest.denoiser),
        mean,
        condition_width=width,
        projected_width=None if as_it_is else manifest.denoiser.condition_width,
    )


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        msg = (
            f"The file {path.name} of model {path.parent.name} cannot be read "
            f"({str(error).splitlines()[0]}); install the model again."
        )
        raise ModelFileError(msg) from error
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            msg = (
                f"The tensor {name} in {path.name} of model {path.parent.name} holds values that "
                "are not finite numbers; install the model again."
            )
            raise ModelFileError(msg)
    return tensors


def _check_weights(encoder: Encoder, manifest: Manifest, folder: Path, remedy: str) -> None:
    """Require the weights of the manifest's encoders, where it has their sha256."""
    for ref, part in zip(manifest.encoders, joined_parts(encoder), strict=True):
        if ref.sha256 and part.sha256 != ref.sha256:
            weights = f"sha256 {part.sha256[:12]}…" if part.sha256 else "no sha256"
            msg = (
                f"The encoder {ref.name} is not the one model {folder.name} was trained "
                f"with ({weights}, expected {ref.sha256[:12]}…); {remedy}."
            )
            raise ModelFileError(msg)


def _check_given_encoder(encoder: Encoder, manifest: Manifest, folder: Path) -> None:
    """Require the encoders of the manifest, in its order, by name and by weights."""
    remedy = "give that encoder, or pass allow_other_encoder=True"
    expected = [ref.name for ref in manifest.encoders]
    parts = joined_parts(encoder)
    same = len(parts) == len(expected) and all(
        part.name == ref.name
        # A model's own encoder has any name; its weights identify it.
        or (encoder_facts(ref.name) is None and part.sha256 == ref.sha256 != "")
        for part, ref in zip(parts, manifest.encoders, strict=True)
    )
    if not same:
        msg = (
            f"The encoder {encoder.name} is not the one model {folder.name} was trained with "
            f"({'+'.join(expected)}); {remedy}."
        )
        raise ModelFileError(msg)
    _check_weights(encoder, manifest, folder, remedy)


def _read_genes(folder: Path, manifest: Manifest) -> pd.DataFrame:
    path = folder / "genes.csv"
    try:
        genes = pd.read_csv(path, index_col="symbol", keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:
        msg = (
            f"The file genes.csv of model {folder.name} cannot be read ({error}); "
            "install the model again."
        )
        raise ModelFileError(msg) from error
    if list(genes.index) != manifest.symbols:
        msg = (
            f"The file genes.csv of model {folder.name} lists other genes than its config.json "
            f"({len(genes)} and {len(manifest.symbols)}); install the model again."
        )
        raise ModelFileError(msg)
    return genes


def _read_reference(
    folder: Path, manifest: Manifest
) -> tuple[Bands, DomainReference, RidgeBaseline]:
    tensors = {
        name: value.float().numpy()
        for name, value in _tensors(folder / "reference.safetensors").items()
    }
    genes, width, own = len(manifest.panel), manifest.condition_width, manifest.encoder_width
    expected: dict[str, tuple[int | None, ...]] = {
        "band.typical": (genes,),
        "band.below": (genes,),
        "band.above": (genes,),
        "band.level": (1,),
        "domain.mean": (own,),
        "domain.projection": (own, None),
        "domain.unit": (1,),
        "ridge.mean": (width,),
        "ridge.std": (width,),
        "ridge.weights": (width, genes),
        "ridge.level": (genes,),
    }
    for name, shape in expected.items():
        if name not in tensors:
            msg = (
                f"The file reference.safetensors of model {folder.name} lacks '{name}'; "
                "install the model again."
            )
            raise ModelFileError(msg)
        found = tensors[name].shape
        if len(found) != len(shape) or any(
            b is not None and a != b for a, b in zip(found, shape, strict=True)
        ):
            msg = (
                f"The tensor '{name}' in reference.safetensors of model {folder.name} has the "
                f"shape {found}, which does not fit its config.json; install the model again."
            )
            raise ModelFileError(msg)

    def group(name: str) -> dict[str, NDArray[np.float32]]:
        return {
            key.split(".")[1]: value for key, value in tensors.items() if key.startswith(name + ".")
        }

    band, domain = group("band"), group("domain")
    return (
        Bands(band["typical"], band["below"], band["above"], float(band["level"][0])),
        DomainReference(domain["mean"], domain["projection"], float(domain["unit"][0])),
        RidgeBaseline(**group("ridge")),
    )


def load_generator(folder: Path, manifest: Manifest) -> Generator:
    """Load the generative part alone, strictly: every tensor expected, shaped right, finite.

    Raises
    ------
    ModelFileError
        The file is missing or damaged, or its tensors do not fit the manifest.
    """
    width = condition_width(manifest.condition, manifest.encoder_width)
    if width != manifest.condition_width:
        msg = (
            f"The condition of model {folder.name} is {width} wide, its config.json says "
            f"{manifest.condition_width}; correct config.json or install the model again."
        )
        raise ModelFileError(msg)
    generator = build_generator(manifest)
    tensors = {
        name: value.float() if value.is_floating_point() else value
        for name, value in _tensors(folder / "model.safetensors").items()
    }
    try:
        generator.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        msg = (
            f"The weights of model {folder.name} do not fit its config.json ({reason}); "
            "install the model again."
        )
        raise ModelFileError(msg) from error
    return generator.eval().requires_grad_(False)


def check_model(folder: Path) -> Manifest:
    """Check all of a model folder but its encoder, which may be elsewhere.

    Raises
    ------
    ModelFileError
        As `load_model`.
    """
    manifest = read_manifest(folder / "config.json")
    _read_genes(folder, manifest)
    load_generator(folder, manifest)
    if manifest.calibrated:
        _read_reference(folder, manifest)
    return manifest


def load_model(
    folder: Path, encoder: Encoder | None = None, *, allow_other_encoder: bool = False
) -> StemModel:
    """Load a model folder.

    Parameters
    ----------
    folder
        Holds config.json, model.safetensors, genes.csv, for a calibrated model
        reference.safetensors and, for an encoder of its own, encoder.safetensors.
    encoder
        Encoder to use in place of those on this machine. Its name and the sha256 of its weights
        must be those in the manifest. Where the manifest has no sha256, the name alone is checked;
        an encoder of the model's own is checked by its weights.
    allow_other_encoder
        Accept an `encoder` of another name or other weights. It must still give as many values
        per patch, and the run record names it.

    Returns
    -------
    StemModel
        On the CPU, in float32.

    Raises
    ------
    ModelFileError
        A file is missing, damaged, or does not fit the manifest; or the encoder is not the one the
        model was trained with.
    EncoderMissingError
        The encoder is not on this machine.
    """
    manifest = read_manifest(folder / "config.json")
    genes = _read_genes(folder, manifest)
    encoder_name = "+".join(ref.name for ref in manifest.encoders)
    if encoder is None:
        encoder = find_encoder([ref.name for ref in manifest.encoders], folder)
        _check_weights(encoder, manifest, folder, "install it again")
    elif allow_other_encoder:
        encoder_name = encoder.name
    else:
        _check_given_encoder(encoder, manifest, folder)
    if encoder.width != manifest.encoder_width:
        msg = (
            f"The encoder {encoder.name} gives {encoder.width} values, model "
            f"{folder.name} expects {manifest.encoder_width}; use the encoder the model was "
            "trained with."
        )
        raise ModelFileError(msg)
    generator = load_generator(folder, manifest)
    bands, domain, ridge = (
        _read_reference(folder, manifest) if manifest.calibrated else (None, None, None)
    )
    identity = {
        "name": manifest.name,
        "version": manifest.version,
        "config_sha256": file_sha256(folder / "config.json"),
        "weights_sha256": file_sha256(folder / "model.safetensors"),
        "encoder": encoder_name,
        "encoder_sha256": encoder.sha256,
        "training_slides": json.dumps(list(manifest.training_slides), allow_nan=False),
    }
    if manifest.calibrated:
        identity["reference_sha256"] = file_sha256(folder / "reference.safetensors")
    return StemModel(
        manifest=manifest,
        symbols=tuple(manifest.symbols),
        ensembl=tuple(gene.ensembl for gene in manifest.panel),
        genes=genes,
        encoder=encoder,
        generator=generator,
        schedule=Schedule(manifest.diffusion_steps, manifest.beta_start, manifest.beta_end),
        bands=bands,
        domain=domain,
        ridge=ridge,
        identity=identity,
        folder=folder,
    )
