"""Describe what was trained, and write it as a model folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stem_core.constants import UNITS
from stem_core.diffusion.conditional_mean import KernelRidge, ShallowNetworks
from stem_core.encoders.imported_embeddings import EmbeddingSource, ImportedEncoders
from stem_core.encoders.pair import JoinedEncoder
from stem_core.model.config import ModelConfig, RegressionConfig
from stem_core.model.folder import Reference, write_model
from stem_core.model.manifest import (
    UNPINNED,
    Baseline,
    EncoderRef,
    FoldFigures,
    Gene,
    HeldOut,
    Manifest,
    Metrics,
)
from stem_core.model.stem_model import Generator, RidgeBaseline
from stem_core.training.fit import TrainedModel
from stem_core.training.held_out import HeldOutResult
from stem_core.training.hest import MeasuredSection, log_counts
from stem_core.training.recipe import Recipe

__all__ = ["ModelData", "ModelOrigin", "gene_table", "write_model_folder"]

_LEFT_OUT = {"section": "Leave one section out:", "patient": "Leave whole patients out:"}
_SEES = {
    "strict": (
        "panel, regression mean, denoiser, scaling and band calibration see the other sections "
        "only; the encoder is trained without expression."
    ),
    "paper": (
        "the panel is chosen from all sections, the held-out ones among them, as published; all "
        "else sees the other sections only."
    ),
}


def gene_table(
    panel: Sequence[str],
    ensembl: Mapping[str, str],
    mean: NDArray[np.float32],
    fitted: TrainedModel,
    results: Sequence[HeldOutResult],
) -> pd.DataFrame:
    """Per gene: Ensembl id, held-out PCC and RVD, mean, band.

    PCC is given as mean and range over the held-out sections that have the gene.
    """
    rows = []
    for index, symbol in enumerate(panel):
        found = [r.genes[symbol] for r in results if symbol in r.genes]
        pcc = [p for p, _ in found if p is not None and np.isfinite(p)]
        rvd = [r for _, r in found if r is not None and np.isfinite(r)]
        rows.append(
            {
                "symbol": symbol,
                "ensembl": ensembl.get(symbol, ""),
                "held_out_pcc": np.mean(pcc) if pcc else np.nan,
                "held_out_pcc_low": min(pcc, default=np.nan),
                "held_out_pcc_high": max(pcc, default=np.nan),
                "held_out_rvd": np.mean(rvd) if rvd else np.nan,
                "held_out_folds": len(pcc),
                "training_mean": mean[index],
                "band_typical": fitted.bands.typical[index],
                "band_below": fitted.bands.below[index],
                "band_above": fitted.bands.above[index],
            }
        )
    return pd.DataFrame(rows).set_index("symbol")


def _metrics(figures: Mapping[str, float | None]) -> Metrics:
    values = {name: figures.get(name) for name in Metrics.model_fields}
    return Metrics.model_validate(
        {name: None if value is None else round(value, 4) for name, value in values.items()}
    )


def _fold(result: HeldOutResult) -> FoldFigures:
    return FoldFigures(
        held_out=result.section,
        trained_on=result.trained_on,
        n_spots=result.n_spots,
        metrics=_metrics(result.figures),
        baselines=tuple(
            Baseline(name=name, metrics=_metrics(figures))
            for name, figures in result.baselines.items()
        ),
    )


def _held_out(
    recipe: Recipe, results: Sequence[HeldOutResult], trained_on: Sequence[str]
) -> HeldOut:
    """Say which figures these are, and by which protocol."""
    scores = [f for r in results if (f := r.figures.get("pcc_all")) is not None]
    protocol = " ".join(
        (
            _LEFT_OUT["patient" if recipe.whole_patients else "section"],
            _SEES[recipe.protocol],
            "Standard preset, log2(1 + count), every measured spot.",
        )
    )
    own = {r.section for r in results if set(r.trained_on) == set(trained_on)}
    if not results:
        note = "Nothing was held out, so nothing is known of how well this model does."
    elif len(own) == len(results):
        note = "These are figures of the shipped weights, which never saw the held-out sections."
    else:
        unseen = sorted({*own, *recipe.validation})
        but = f" but {', '.join(unseen)}" if unseen else ""
        note = "These figures describe the folds; the shipped weights are trained on all sections"
        note += but + (
            f", and of them alone are the figures of {', '.join(sorted(own))}."
            if own
            else " and have no held-out figure of their own."
        )
    return HeldOut(
        protocol=protocol,
        note=note,
        folds=tuple(_fold(r) for r in results),
        pcc_all_mean=round(float(np.mean(scores)), 4) if scores else None,
        pcc_all_range=(round(min(scores), 4), round(max(scores), 4)) if scores else None,
    )


def _ensembl_ids(sections: Sequence[MeasuredSection]) -> dict[str, str]:
    ids: dict[str, str] = {}
    for section in sections:
        if "gene_ids" in section.counts.var:
            pairs = section.counts.var["gene_ids"].astype(str).items()
            ids.update({str(k): v for k, v in pairs if v.startswith("ENS")})
    return ids


def _describe_encoders(encoder: EmbeddingSource, sections: Iterable[str]) -> tuple[EncoderRef, ...]:
    if isinstance(encoder, ImportedEncoders):
        return tuple(
            EncoderRef(
                name=part.name,
                revision=UNPINNED,
                width=part.width,
                imported_from=part.file_sums(sections),
            )
            for part in encoder.parts
        )
    parts = encoder.encoders if isinstance(encoder, JoinedEncoder) else (encoder,)
    return tuple(
        EncoderRef(
            name=part.name,
            revision=getattr(part, "revision", "") or part.sha256[:40],
            width=part.width,
            sha256=part.sha256,
        )
        for part in parts
    )  # fmt: skip


def _describe_regression(generator: Generator) -> RegressionConfig | None:
    if generator.mean is None:
        return None
    networks = next(m for m in generator.mean.members if isinstance(m, ShallowNetworks))
    kernel = next(m for m in generator.mean.members if isinstance(m, KernelRidge))
    members, bottleneck, hidden = (int(n) for n in networks.weights[1].shape)
    return RegressionConfig(
        support=len(kernel.support), networks=members, hidden=hidden, bottleneck=bottleneck
    )


@dataclass(frozen=True)
class ModelData:
    """What a model was trained and measured on.

    Attributes
    ----------
    sections
        Sections of the training, by name.
    ridge
        Ridge baseline of these sections.
    results
        Held-out figures.
    patch_um
        Side of a patch, where the recipe does not fix it (patch mode `paper`).
    """

    sections: Mapping[str, MeasuredSection]
    ridge: RidgeBaseline
    results: Sequence[HeldOutResult]
    patch_um: float | None = None


@dataclass(frozen=True)
class ModelOrigin:
    """When a model was made (an ISO date), and where its recipe can be found."""

    created: str
    recipe_name: str


def write_model_folder(
    folder: Path,
    recipe: Recipe,
    fitted: TrainedModel,
    encoder: EmbeddingSource,
    panel: Sequence[str],
    data: ModelData,
    origin: ModelOrigin,
) -> Manifest:
    """Write all files of a model folder and return its manifest.

    Parameters
    ----------
    folder
        Made where it is not there.
    recipe
        Recipe of the training.
    fitted, encoder, panel
        Networks, encoder and genes.
    data
        Sections and what was measured with them.
    origin
        Date and recipe to write down.
    """
    sections, results = data.sections, data.results
    generator, ids = fitted.generator, _ensembl_ids(list(sections.values()))
    config = recipe.config()
    if recipe.condition.patch_mode == "paper" and data.patch_um:
        config["condition"] = recipe.condition.model_copy(update={"side_um": data.patch_um})
    own = {"encoders", *ModelConfig.model_fields}  # these stand in the manifest itself
    manifest = Manifest(
        **config,
        schema_version=1,
        units=UNITS,
        panel=tuple(Gene(symbol=symbol, ensembl=ids.get(symbol, "")) for symbol in panel),
        encoders=_describe_encoders(encoder, sections),
        condition_width=generator.condition_width,
        target=generator.target,
        regression=_describe_regression(generator),
        denoiser=generator.denoiser.config,
        diffusion_steps=fitted.schedule.steps,
        beta_start=fitted.schedule.beta_start,
        beta_end=fitted.schedule.beta_end,
        training_slides=tuple(sections),
        held_out=_held_out(recipe, results, list(sections)),
        recipe=origin.recipe_name,
        settings=recipe.model_dump(mode="json", exclude=own),
        seed=recipe.training.denoiser.seed,
        created=origin.created,
    )
    counts = np.concatenate([log_counts(s, list(panel)) for s in sections.values()])
    genes = gene_table(panel, ids, counts.mean(0), fitted, results).round(5)
    reference = Reference(fitted.bands, fitted.domain, data.ridge)
    write_model(folder, manifest, generator, genes, reference)
    return manifest
