"""The model card: a Hub README with its YAML front matter, written from the manifest alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from stem_core.constants import NOTICE
from stem_core.encoders.catalogue import encoder_facts
from stem_core.model.manifest import FoldFigures, Manifest, Metrics

__all__ = ["card_header", "figures_table", "model_card"]

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
    layout, view, licences = manifest.layout, manifest.condition, manifest.licences
    context = ", ".join(f"{c:g}" for c in manifest.condition.context_um)
    rows = {
        "tissue": f"{manifest.tissue} ({manifest.organ}), {manifest.species}",
        "disease": manifest.disease,
        "platform": (
            f"{manifest.platform}; {layout.spot_diameter_um:g} µm spots, "
            f"{layout.pitch_um:g} µm apart"
        ),
        "patch": f"{view.side_um:g} µm, {view.size_px} px; "
        + (f"context {context} µm" if context else "no context"),
        "encoder": " ⊕ ".join(
            f"{e.name} ({e.width} values, "
            + (f"sha256 {e.sha256[:12]}…)" if e.sha256 else f"revision {e.revision})")
            for e in manifest.encoders
        ),
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


def _licence_header(weights: str) -> dict[str, str]:
    """Fill the Hub's licence fields, with one of its own identifiers where there is one."""
    known = {"MIT": "mit", "Apache-2.0": "apache-2.0", "CC BY 4.0": "cc-by-4.0"}
    if weights in known:
        return {"license": known[weights]}
    return {"license": "other", "license_name": "see-below", "license_link": "README.md"}


def _model_index(manifest: Manifest) -> list[dict[str, Any]]:
    """Write the folds as the Hub's `model-index`, one result a fold."""
    names = (("pearsonr", "pcc_all"), ("mse", "mse"), ("mae", "mae"), ("crps", "crps"))
    results = []
    for fold in manifest.held_out.folds:
        metrics = [
            {"type": kind, "value": value, "name": f"{kind} over the panel, held out"}
            for kind, field in names
            if (value := getattr(fold.metrics, field)) is not None
        ]
        results.append(
            {
                "task": {"type": "other", "name": "spatial gene expression from H&E"},
                "dataset": {
                    "type": "spatial-transcriptomics",
                    "name": f"{manifest.tissue}, section {fold.held_out} held out",
                },
                "metrics": metrics,
            }
        )
    return [{"name": manifest.name, "results": results}] if results else []


def card_header(manifest: Manifest) -> dict[str, Any]:
    """Make the front matter of the card."""
    bases = [
        facts.repo for e in manifest.encoders if (facts := encoder_facts(e.name)) and facts.repo
    ]
    header: dict[str, Any] = {
        **_licence_header(manifest.licences.weights),
        "library_name": "stem-in-a-browser",
        "pipeline_tag": "other",
        "tags": [
            "histology",
            "spatial-transcriptomics",
            "diffusion",
            manifest.organ.lower(),
            manifest.species.lower(),
        ],
        "datasets": list(manifest.hub_datasets),
        "base_model": bases,
        "metrics": ["pearsonr", "mse", "mae"],
        "model-index": _model_index(manifest),
    }
    return {key: value for key, value in header.items() if value}


def _held_out(manifest: Manifest) -> str:
    held_out = manifest.held_out
    parts = [held_out.protocol, f"**{held_out.note}**"]
    if held_out.folds and held_out.pcc_all_mean is not None and held_out.pcc_all_range is not None:
        low, high = held_out.pcc_all_range
        parts.append(
            f"PCC over the whole panel: mean {held_out.pcc_all_mean:.3f}, from {low:.3f} to "
            f"{high:.3f} over the\nfolds. PCC-10 and PCC-50 choose their genes after seeing the "
            "section. The mean of draws varies less\nthan tissue does, by nature; single draws are "
            "meant to vary as much. RVD = mean over genes of\n((var_pred - var_true) / var_true)²."
        )
        parts.append(figures_table(held_out.folds))
    for figures in held_out.reported:
        found = figures.model_dump(exclude={"source", "held_out"}, exclude_none=True)
        shown = ", ".join(f"{name.upper().replace('_', '-')} {v:g}" for name, v in found.items())
        parts.append(f"Reported by {figures.source} (held out {figures.held_out}): {shown}.")
    return "\n\n".join(parts)


def _draws_words(manifest: Manifest) -> str:
    standard = manifest.presets.standard
    band = "a calibrated" if manifest.calibrated else "an uncalibrated"
    return (
        f"spread of {standard.samples} draws of a conditional diffusion model and {band} 90 % band"
    )


_CALIBRATED_LIMITS = """\
- A handful of sections of few patients: expect less on other patients, scanners, stains and
  fixations. Look at the domain distance beside each map.
- The level of expression shifts between patients and experiments for reasons no image shows
  (sequencing depth); compare within a slide.
- Values are log2(1 + raw count) as this platform would have counted, not absolute amounts.
- The 90 % band is calibrated on training sections predicted by models without them. It widens
  where the regressors disagree about the slide's level, as they do on tissue unlike the training
  sections. It is no guarantee: its coverage on held-out sections is in the table."""

_PLAIN_LIMITS = """\
- Expect less on other patients, scanners, stains and fixations. The model came without statistics
  of its training tissue, so there is no domain distance to tell how far off a slide is.
- The level of expression shifts between patients and experiments for reasons no image shows
  (sequencing depth); compare within a slide.
- Values are log2(1 + raw count) as this platform would have counted, not absolute amounts.
- The 90 % band is the mean ± 1.645 times the spread of the draws; nothing calibrated it."""

_PUBLISHED_LIMITS = (
    _CALIBRATED_LIMITS.partition("- The 90 % band")[0]
    + """\
- The 90 % band is calibrated on the training spots themselves, so it is too narrow on new ones; its
  coverage on held-out sections is in the table."""
)


def _limits(manifest: Manifest) -> str:
    if not manifest.calibrated:
        return _PLAIN_LIMITS
    return _CALIBRATED_LIMITS if manifest.target == "residual" else _PUBLISHED_LIMITS


def model_card(manifest: Manifest) -> str:
    """Write the card."""
    yaml = "\n".join(
        f"{key}: {json.dumps(value, ensure_ascii=False, allow_nan=False)}"
        for key, value in card_header(manifest).items()
    )
    return f"""---
{yaml}
---

# {manifest.title}

**{NOTICE}**

Predicts {len(manifest.panel)} genes in {manifest.units} at every spot of an H&E image, with the
{_draws_words(manifest)}.

{_facts(manifest)}

## Intended use

Exploring where genes are likely expressed on {manifest.tissue} sections of {manifest.species}, in
research. Not for diagnosis, prognosis or the choice of a treatment.

## Held-out figures

{_held_out(manifest)}

## How it predicts

{_HOW[manifest.target]}

## How to use

Install *Stem in a browser*, put this folder where its models are (or pull it with
`stem zoo pull`), then `stem predict SLIDE --model {manifest.name} --out DIR`, or choose the model
on the Predict page. The folder holds safetensors, JSON and CSV alone; nothing in it is executed.

## Limits

{_limits(manifest)}

## Panel

{manifest.panel_rule}

## Made by

{_made_by(manifest)}
{_imported(manifest)}
## Citation

{manifest.citation}
"""


def _imported(manifest: Manifest) -> str:
    """Name the embeddings that were imported, a line a file."""
    lines = [
        f"| {encoder.name} | {file} | {sha256} |"
        for encoder in manifest.encoders
        for file, sha256 in encoder.imported_from.items()
    ]
    if not lines:
        return ""
    return "\n".join(
        [
            "",
            "The embeddings it was trained on were imported: another tool made them, by weights",
            "that are not known here. They came from these files:",
            "",
            "| encoder | file | sha256 |",
            "|---|---|---|",
            *lines,
            "",
        ]
    )


def _made_by(manifest: Manifest) -> str:
    if manifest.recipe.startswith("Converted"):
        return f"{manifest.recipe}, {manifest.created}."
    return (
        f"`stem train {manifest.recipe} --data DIR --out DIR`, seed {manifest.seed},\n"
        f"{manifest.created}{'; all its settings are in config.json' if manifest.settings else ''}."
    )
