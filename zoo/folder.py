"""Write a model folder: manifest, weights, gene table, reference, and its card."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from stem_core.diffusion.conditional_mean import KernelRidge, ShallowNetworks
from stem_core.encoders.compact import CompactEncoder
from stem_core.prediction.model import RidgeBaseline
from stem_core.training.fit import Fitted
from stem_core.training.hest import MeasuredSection, log_counts
from zoo.card import model_card
from zoo.manifest import Manifest

__all__ = ["gene_table", "save_weights", "write_model_folder"]


def save_weights(fitted: Fitted, ridge: RidgeBaseline, folder: Path) -> None:
    """Write model.safetensors and reference.safetensors.

    Large regression tensors are written in half precision.
    """
    generator = fitted.generator
    halves: set[str] = set()
    for name, module in generator.named_modules():
        if isinstance(module, KernelRidge):
            halves.add(f"{name}.support")
        if isinstance(module, ShallowNetworks):
            halves |= {f"{name}.weights.{i}" for i in range(len(module.weights))}
    tensors = {
        name: (value.half() if name in halves else value).contiguous().clone()
        for name, value in generator.state_dict().items()
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    bands, domain = fitted.bands, fitted.domain
    reference = {
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
        name: torch.from_numpy(np.ascontiguousarray(v, np.float32)) for name, v in reference.items()
    }
    tensors["ridge.weights"] = tensors["ridge.weights"].half()
    save_file(tensors, folder / "reference.safetensors")


def gene_table(
    panel: Sequence[str],
    ensembl: Mapping[str, str],
    mean: NDArray[np.float32],
    fitted: Fitted,
    folds: Sequence[dict[str, Any]],
) -> pd.DataFrame:
    """Per gene: Ensembl id, held-out PCC and RVD, mean, band.

    PCC is given as mean and range over the folds that have the gene.
    """
    rows = []
    for index, symbol in enumerate(panel):
        found = [
            (float(f["figures"]["per_gene"]["pcc"][at]), float(f["figures"]["per_gene"]["rvd"][at]))
            for f in folds
            if symbol in f["panel"]
            for at in [f["panel"].index(symbol)]
        ]
        pcc = [p for p, _ in found if np.isfinite(p)]
        rvd = [r for _, r in found if np.isfinite(r)]
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


def _metrics(figures: Mapping[str, Any]) -> dict[str, float | None]:
    names = (
        "pcc_10",
        "pcc_50",
        "pcc_all",
        "mse",
        "mae",
        "rvd",
        "rvd_single_draw",
        "crps",
        "coverage_90",
    )
    return {
        name: None if figures.get(name) is None else round(float(figures[name]), 4)
        for name in names
    }


def _fold(fold: dict[str, Any]) -> dict[str, Any]:
    return {
        "held_out": fold["held_out"],
        "trained_on": fold["train"],
        "n_spots": fold["figures"]["n_spots"],
        "metrics": _metrics(fold["figures"]),
        "baselines": [
            {"name": name, "metrics": _metrics(m)} for name, m in fold["baselines"].items()
        ],
    }


def _ensembl_ids(sections: Sequence[MeasuredSection]) -> dict[str, str]:
    ids: dict[str, str] = {}
    for section in sections:
        if "gene_ids" in section.counts.var:
            pairs = section.counts.var["gene_ids"].astype(str).items()
            ids.update({str(k): v for k, v in pairs if v.startswith("ENS")})
    return ids


def write_model_folder(
    folder: Path,
    recipe: Mapping[str, Any],
    fitted: Fitted,
    encoder: CompactEncoder,
    panel: Sequence[str],
    sections: Mapping[str, MeasuredSection],
    ridge: RidgeBaseline,
    folds: Sequence[dict[str, Any]],
    created: str,
    seed: int,
) -> Manifest:
    """Write all files of a model folder and return its manifest.

    `recipe["manifest"]` gives what no data say: title, tissue, licences and so on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generator, ids = fitted.generator, _ensembl_ids(list(sections.values()))
    size = generator.denoiser.size
    regression = None
    if generator.mean is not None:
        networks = next(m for m in generator.mean.members if isinstance(m, ShallowNetworks))
        kernel = next(m for m in generator.mean.members if isinstance(m, KernelRidge))
        members, bottleneck, hidden = (int(n) for n in networks.weights[1].shape)
        regression = {
            "support": len(kernel.support),
            "networks": members,
            "hidden": hidden,
            "bottleneck": bottleneck,
        }
    scores = [float(f["figures"]["pcc_all"]) for f in folds] or [0.0]
    condition = recipe["condition"]
    manifest = Manifest.model_validate(
        {
            "schema_version": 1,
            "name": recipe["name"],
            **recipe["manifest"],
            "units": "log2(1 + count)",
            "panel": [{"symbol": g, "ensembl": ids.get(g, "")} for g in panel],
            "encoders": [
                {
                    "name": encoder.name,
                    "revision": encoder.sha256[:40],
                    "width": encoder.width,
                    "sha256": encoder.sha256,
                }
            ],
            "view": {"side_um": condition["side_um"], "size_px": condition["size_px"]},
            "survey_pitch_um": condition["survey_pitch_um"],
            "context_um": condition["context_um"],
            "condition_width": generator.projection.shape[0],
            "regression": regression,
            "layout": recipe["layout"],
            "patch_mode": "physical",
            "target": generator.target,
            "denoiser": {
                "depth": size.depth,
                "width": size.width,
                "heads": size.heads,
                "mlp_ratio": size.mlp_ratio,
                "condition_width": size.condition_width,
                "label_width": size.label_width,
                "predicts": size.predicts,
                "symmetric": size.symmetric,
            },
            "diffusion_steps": fitted.schedule.steps,
            "beta_start": fitted.schedule.beta_start,
            "beta_end": fitted.schedule.beta_end,
            "presets": recipe["presets"],
            "training_slides": list(sections),
            "held_out": {
                "protocol": (
                    "Leave one section out: panel, regression mean, denoiser, scaling and band "
                    "calibration see the other sections only; the encoder is trained without "
                    "expression. Standard preset, log2(1 + count), every measured spot."
                ),
                "note": (
                    "These figures describe the folds; the shipped weights are trained on all "
                    "sections and have no held-out figure of their own."
                ),
                "folds": [_fold(f) for f in folds],
                "pcc_all_mean": round(float(np.mean(scores)), 4),
                "pcc_all_range": [round(min(scores), 4), round(max(scores), 4)],
            },
            "recipe": f"zoo/recipes/{recipe['name']}.yaml",
            "seed": seed,
            "created": created,
        }
    )
    (folder / "config.json").write_text(
        json.dumps(manifest.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8"
    )
    counts = np.concatenate([log_counts(s, list(panel)) for s in sections.values()])
    gene_table(panel, ids, counts.mean(0), fitted, folds).round(5).to_csv(folder / "genes.csv")
    save_weights(fitted, ridge, folder)
    (folder / "README.md").write_text(model_card(manifest), encoding="utf-8")
    return manifest
