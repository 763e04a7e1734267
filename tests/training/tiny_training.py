"""A tiny HEST folder and the options that make a recipe of the paper small enough for it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.training.sections import made_counts, write_section

ROOT = Path(__file__).parents[2]
HER2ST = ROOT / "zoo/recipes/hest-her2st.yaml"
# Section -> patient; the paper's test section and another one of its patient among them.
PATIENTS = {"SPA123": "G", "SPA142": "C", "SPA147": "B", "SPA148": "B"}
STEPS = 20
SMALL = {
    "encoders": "[compact-he]",
    "panel.genes": "12",
    "augment.dihedral": "false",
    "training.depth": "2",
    "training.width": "32",
    "training.heads": "2",
    "training.domain_components": "8",
    "training.denoiser.steps": str(STEPS),
    "training.denoiser.batch": "8",
    "training.denoiser.learning_rate": "0.001",
    "training.denoiser.log_every": "5",
    "training.denoiser.checkpoint_every": "10",
    "presets.standard.steps": "3",
    "presets.standard.samples": "2",
}


def write_her2st(folder: Path) -> Path:
    """Write four sections of three patients."""
    for seed, (name, patient) in enumerate(PATIENTS.items()):
        title = "Spatial deconvolution of made-up tissue"
        said = {"dataset_title": title, "patient": patient, "id": name}
        write_section(folder, name, made_counts(seed), metadata=said)
    write_section(folder, "TENX1", made_counts(9), metadata={"dataset_title": "Another"})
    return folder


def options(**changes: str) -> list[str]:
    """`--set` for all of `SMALL` and some changes (`__` stands for a dot)."""
    values = SMALL | {key.replace("__", "."): value for key, value in changes.items()}
    return [part for key, value in values.items() for part in ("--set", f"{key}={value}")]


def training_slides(model: Path) -> list[str]:
    """Return what a model folder says it was trained on."""
    found: list[str] = json.loads((model / "config.json").read_text())["training_slides"]
    return found
