"""A real model folder of width 32, made in a second or two from random numbers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import yaml

from stem_core.encoders.compact import CompactTrunk, save_compact_encoder
from stem_core.encoders.condition import condition_groups, condition_width
from stem_core.evaluation.baselines import fit_ridge
from stem_core.evaluation.metrics import evaluate_arrays
from stem_core.model.config import ConditionConfig
from stem_core.training.conditional_mean import RegressionTraining, TrainingSection
from stem_core.training.fit import FitSettings, fit
from stem_core.training.held_out import HeldOutResult
from stem_core.training.model_folder import ModelData, ModelOrigin, write_model_folder
from stem_core.training.recipe_file import parse_recipe
from stem_core.training.settings import DenoiserTraining

ROOT = Path(__file__).parents[1]
GENES = 24


def write_tiny_model(folder: Path, *, name: str = "tiny-test") -> Path:
    """Write a model folder with 24 genes, fitted on 60 invented spots."""
    from anndata import AnnData

    raw: dict[str, Any] = yaml.safe_load(
        (ROOT / "zoo/recipes/her2st-breast.yaml").read_text(encoding="utf-8")
    )
    raw["name"] = name
    raw["condition"] = {
        "side_um": 100.0,
        "size_px": 64,
        "survey_pitch_um": 100.0,
        "context_um": [150.0],
    }
    raw["title"] = "Tiny test model"
    recipe = parse_recipe(raw, "tiny.yaml")
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    encoder = save_compact_encoder(CompactTrunk(), folder / "encoder.safetensors")
    spec = ConditionConfig(side_um=100.0, size_px=64, survey_pitch_um=100.0, context_um=(150.0,))
    random = np.random.default_rng(0)
    width = condition_width(spec, encoder.width)
    condition = random.normal(size=(60, width)).astype(np.float32)
    counts = random.poisson(4.0 + 6 * np.abs(condition[:, :GENES])).astype(np.float32)
    target = np.log2(1 + counts)
    section = np.repeat([0, 1, 2], 20)
    settings = FitSettings(
        mean=RegressionTraining(networks=2, hidden=16, bottleneck=8, epochs=2),
        denoiser=DenoiserTraining(steps=20, batch=8, noises=2),
        depth=1,
        width=32,
        heads=2,
        projected_width=8,
        domain_components=8,
    )
    lattice = random.normal(size=(9, width)).astype(np.float32)
    seen = [
        TrainingSection(condition[rows], lattice, target[rows])
        for rows in (section == index for index in range(3))
    ]
    fitted = fit(seen, condition_groups(spec, encoder.width), encoder.width, settings)
    panel = [f"GENE{index:02d}" for index in range(GENES)]
    sections = {}
    for index in range(3):
        table = AnnData(counts[section == index])
        table.var_names = panel
        sections[f"S{index}"] = SimpleNamespace(counts=table)
    figures = evaluate_arrays(target + 0.5 * random.normal(size=target.shape), target)
    result = HeldOutResult(
        section="S0",
        trained_on=("S1", "S2"),
        n_spots=len(target),
        figures=figures,
        baselines={"ridge": figures},
        genes=dict.fromkeys(panel, (0.5, 0.1)),
    )
    write_model_folder(
        folder,
        recipe,
        fitted,
        encoder,
        panel,
        ModelData(sections, fit_ridge(condition, target), [result]),  # type: ignore[arg-type]
        ModelOrigin("2026-01-01", "zoo/recipes/her2st-breast.yaml"),
    )
    return folder
