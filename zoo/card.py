"""The model card: a Hub README with its YAML front matter, written from the manifest alone."""

from __future__ import annotations

import json
from collections.abc import Callable

from zoo.manifest import FoldFigures, Manifest, Metrics

__all__ = ["figures_table", "model_card"]

_COLUMNS: tuple[tuple[str, Callable[[Metrics], float | None]], ...] = (
    ("PCC-10", lambda m: m.pcc_10),
    ("PCC-50", lambda m: m.pcc_50),
    ("PCC-all", lambda m: m.pcc_all),
    ("MSE", lambda m: m.mse),
    ("MAE", lambda m: m.mae),
    ("RVD (mean)", lambda m: m.rvd),
    ("RVD (single draws)", lambda m: m.rvd_single_draw),
    ("CRPS", lambda m: m.crps),
    ("in the 90 % band", lambda m: m.coverage_90),
)


def _cell(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.0f}"


def figures_table(folds: tuple[FoldFigures, ...]) -> str:
    """Markdown table: a row per fold and method."""
    lines = [
        "| held out (spots) | method | " + " | ".join(name for name, _ in _COLUMNS) + " |",
        "|---|---|" + "---|" * len(_COLUMNS),
    ]
    for fold in folds:
        methods = [("**Stem**", fold.metrics), *((b.name, b.metrics) for b in fold.baselines)]
        for index, (name, metrics) in enumerate(methods):
            first = f"{fold.held_out} ({fold.n_spots})" if index == 0 else ""
            lines.append(
                f"| {first} | {name} | "
                + " | ".join(_cell(get(metrics)) for _, get in _COLUMNS)
                + " |"
            )
    return "\n".join(lines)


def _facts(manifest: Manifest) -> str:
    """Markdown table: what the model is made for and of."""
    layout, view, licences = manifest.layout, manifest.view, manifest.licences
    context = ", ".join(f"{c:g}" for c in manifest.context_um)
    rows = {
        "tissue": f"{manifest.tissue} ({manifest.organ}), {manifest.species}",
        "disease": manifest.disease,
        "platform": (
            f"{manifest.platform}; {layout.spot_diameter_um:g} µm spots, "
            f"{layout.pitch_um:g} µm apart"
        ),
        "patch": f"{view.side_um:g} µm, {view.size_px} px; context {context} µm",
        "encoder": f"{manifest.encoder.name}, sha256 {manifest.encoder.sha256[:12]}…",
        "target": manifest.target,
        "trained on": ", ".join(manifest.training_slides),
        "code / weights / data": f"{licences.code} / {licences.weights} / {licences.data}",
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {k} | {v} |" for k, v in rows.items())])


_HOW = {
    "residual": """\
The diffusion model draws residuals around a regression mean (seven small regressors,
averaged). Draws come in pairs of opposite residuals, so the mean of an even number of them
is the regression mean itself: what diffusion adds is the spread, the single draws and the
band. Which regressors to average was decided with the folds above in view, so a new section
may give a little less than they say.

Two of the regressors know only the pattern within a slide. The level of the slide comes from the
others, averaged over its whole tissue. The residuals are whitened by their covariance over genes,
so that genes vary together as they do in tissue; the network learns what differs from that.""",
    "published": """The diffusion model draws expression itself, as published; the prediction is the
mean of the draws.""",
}


def model_card(manifest: Manifest) -> str:
    """Write the card."""
    header = {
        "license": "other",
        "license_name": "see-licences-below",
        "library_name": "stem-in-a-browser",
        "pipeline_tag": "other",
        "tags": [
            "histology",
            "spatial-transcriptomics",
            "diffusion",
            manifest.organ.lower(),
            manifest.species.lower(),
        ],
        "metrics": ["pearsonr", "mse", "mae"],
    }
    yaml = "\n".join(
        f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in header.items()
    )
    standard, held_out = manifest.presets.standard, manifest.held_out
    low, high = held_out.pcc_all_range
    return f"""---
{yaml}
---

# {manifest.title}

**For research use only. Not for use in diagnostic procedures.**

Predicts {len(manifest.panel)} genes in {manifest.units} at every spot of an H&E image, with the
spread of {standard.samples} draws of a conditional diffusion model and a calibrated 90 % band.

{_facts(manifest)}

## Held-out figures

{held_out.protocol}

**{held_out.note}**

PCC over the whole panel: mean {held_out.pcc_all_mean:.3f}, from {low:.3f} to {high:.3f} over the
folds. PCC-10 and PCC-50 choose their genes after seeing the section. The mean of draws varies less
than tissue does, by nature; single draws are meant to vary as much. RVD = mean over genes of
((var_pred - var_true) / var_true)².

{figures_table(held_out.folds)}

## How it predicts

{_HOW[manifest.target]}

## Limits

- A handful of sections of few patients: expect less on other patients, scanners, stains and
  fixations. Look at the domain distance beside each map.
- The level of expression shifts between patients and experiments for reasons no image shows
  (sequencing depth); compare within a slide.
- Values are log2(1 + raw count) as this platform would have counted, not absolute amounts.
- The 90 % band is calibrated on training sections predicted by models without them. It widens
  where the regressors disagree about the slide's level, as they do on tissue unlike the training
  sections. It is no guarantee: its coverage on held-out sections is in the table.

## Panel

{manifest.panel_rule}

## Made by

`python -m zoo.build {manifest.recipe} --data DIR --out DIR`, seed {manifest.seed},
{manifest.created}.

## Citation

{manifest.citation}
"""
