"""The model folder: write it, and read it strictly.

    config.json              the manifest
    model.safetensors        weights of the generative part
    genes.csv                the panel, with held-out and training figures per gene
    reference.safetensors    of a calibrated model: interval, domain and ridge baseline
    README.md                the model card

Reading takes safetensors only; every tensor must be expected, shaped right and finite.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from stem_core.diffusion.conditional_mean import (
    KernelRidge,
    ShallowNetworks,
    build_conditional_mean,
)
from stem_core.diffusion.denoiser import Denoiser
from stem_core.diffusion.schedule import Schedule
from stem_core.encoders.condition import condition_groups, condition_width
from stem_core.encoders.embedding import Encoder
from stem_core.errors import ModelFileError
from stem_core.files import file_sha256, unwritable_as
from stem_core.model.card import model_card
from stem_core.model.manifest import Manifest, read_manifest
from stem_core.model.stem_model import (
    Bands,
    DomainReference,
    Generator,
    RidgeBaseline,
    StemModel,
)

__all__ = [
    "Reference",
    "build_generator",
    "check_model",
    "load_generator",
    "read_model",
    "write_model",
]


class Reference(NamedTuple):
    """What a calibrated model knows of its training sections."""

    bands: Bands
    domain: DomainReference
    ridge: RidgeBaseline


def write_model(
    folder: Path,
    manifest: Manifest,
    generator: Generator,
    genes: pd.DataFrame,
    reference: Reference | None = None,
) -> None:
    """Write all files of a model folder.

    Large tensors of the regression are written in half precision.

    Parameters
    ----------
    folder
        Folder, made where it is missing.
    manifest
        Description of the model.
    generator
        Generative part.
    genes
        Table of the panel, indexed by symbol.
    reference
        Interval, domain and baseline of a calibrated model.

    Raises
    ------
    OutputError
        The folder cannot be written.
    """
    text = json.dumps(manifest.model_dump(mode="json"), indent=1, allow_nan=False) + "\n"
    with unwritable_as(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(text, encoding="utf-8")
        genes.to_csv(folder / "genes.csv")
        data = save(_weights(generator), metadata={"format": "pt"})
        (folder / "model.safetensors").write_bytes(data)
        if reference is not None:
            data = save(_reference_tensors(reference))
            (folder / "reference.safetensors").write_bytes(data)
        (folder / "README.md").write_text(model_card(manifest), encoding="utf-8")


def _weights(generator: Generator) -> dict[str, torch.Tensor]:
    halves: set[str] = set()
    for name, module in generator.named_modules():
        if isinstance(module, KernelRidge):
            halves.add(f"{name}.support")
        if isinstance(module, ShallowNetworks):
            halves |= {f"{name}.weights.{i}" for i in range(len(module.weights))}
    return {
        name: (value.half() if name in halves else value).contiguous().clone()
        for name, value in generator.state_dict().items()
    }


def _reference_tensors(reference: Reference) -> dict[str, torch.Tensor]:
    bands, domain, ridge = reference
    values = {
        "band.typical": bands.typical,
        "band.below": bands.below,
        "band.above": bands.above,
        "band.level": np.array([bands.level], np.float32),
        "domain.mean": domain.mean,
        "domain.projection": domain.projection,
        "domain.unit": np.array([domain.unit], np.float32),
        "ridge.mean": ridge.mean,
        "ridge.std": ridge.std,
        "ridge.weights": ridge.weights,
        "ridge.level": ridge.level,
    }
    tensors = {
        name: torch.from_numpy(np.ascontiguousarray(v, np.float32)) for name, v in values.items()
    }
    tensors["ridge.weights"] = tensors["ridge.weights"].half()
    return tensors


def read_model(folder: Path, encoder: Encoder, encoder_name: str = "") -> StemModel:
    """Read a model folder.

    Parameters
    ----------
    folder
        Folder that `write_model` wrote.
    encoder
        Encoder of the model.
    encoder_name
        Name of the encoder in run records; that of the manifest by default.

    Returns
    -------
    StemModel
        Model on the CPU, in float32.

    Raises
    ------
    ModelFileError
        A file is missing, damaged, or does not fit the manifest; or the encoder has another width.
    """
    manifest = read_manifest(folder / "config.json")
    if encoder.width != manifest.encoder_width:
        msg = (
            f"The encoder {encoder.name} gives {encoder.width} values, model "
            f"{folder.name} expects {manifest.encoder_width}; use the encoder the model was "
            "trained with."
        )
        raise ModelFileError(msg)
    generator = load_generator(folder, manifest)
    reference = _read_reference(folder, manifest) if manifest.calibrated else None
    genes = _read_genes(folder, manifest)
    identity = {
        "name": manifest.name,
        "version": manifest.version,
        "config_sha256": file_sha256(folder / "config.json"),
        "weights_sha256": file_sha256(folder / "model.safetensors"),
        "encoder": encoder_name or "+".join(ref.name for ref in manifest.encoders),
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
        bands=None if reference is None else reference.bands,
        domain=None if reference is None else reference.domain,
        ridge=None if reference is None else reference.ridge,
        identity=identity,
        folder=folder,
    )


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


def _read_reference(folder: Path, manifest: Manifest) -> Reference:
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
                f"The file reference.safetensors of model {folder.name} has no '{name}'; "
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
    return Reference(
        Bands(band["typical"], band["below"], band["above"], float(band["level"][0])),
        DomainReference(domain["mean"], domain["projection"], float(domain["unit"][0])),
        RidgeBaseline(**group("ridge")),
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
