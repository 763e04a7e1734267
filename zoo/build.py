"""Train a model of the zoo from its recipe.

Conditions, leave-one-section-out folds, final weights, folder:

    python -m zoo.build zoo/recipes/her2st-breast.yaml --data DIR [--out DIR] [--folds NAME …]

`DIR` holds the recipe's sections in HEST-1k layout. Conditions are kept in `--cache`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from stem_core.encoders.compact import CompactEncoder, load_compact_encoder
from stem_core.encoders.condition import (
    ConditionSpec,
    condition_groups,
    spot_condition,
    survey_condition,
    survey_slide,
)
from stem_core.evaluation.baselines import BASELINES, fit_ridge, predict_baseline
from stem_core.evaluation.metrics import (
    crps,
    evaluate_arrays,
    pearson_by_gene,
    relative_variance_difference,
)
from stem_core.prediction.sampling import draw_expression, spread
from stem_core.prediction.settings import SamplingSettings
from stem_core.slides.reading import open_slide
from stem_core.slides.spots import read_spots
from stem_core.slides.tissue import find_tissue
from stem_core.training.conditional_mean import MeanTraining, TrainingSection
from stem_core.training.fit import FitSettings, Fitted, fit
from stem_core.training.hest import MeasuredSection, log_counts, read_section
from stem_core.training.panel import choose_panel
from stem_core.training.settings import DenoiserTraining
from zoo.loader import ENCODERS_DIR

log = logging.getLogger(__name__)
Array = NDArray[np.float32]

CRPS_SAMPLES = 4


@dataclass(frozen=True)
class Recipe:
    """A parsed recipe file."""

    raw: dict[str, Any]

    @property
    def spec(self) -> ConditionSpec:
        """What the model looks at."""
        c = self.raw["condition"]
        return ConditionSpec(
            c["side_um"], c["size_px"], c["survey_pitch_um"], tuple(c["context_um"])
        )

    @property
    def fit(self) -> FitSettings:
        """How it is trained."""
        t = dict(self.raw["training"])
        return FitSettings(
            mean=MeanTraining(**t.pop("mean", {})),
            denoiser=DenoiserTraining(**t.pop("denoiser", {})),
            calibration=self.settings,
            **t,
        )

    @property
    def settings(self) -> SamplingSettings:
        """The standard preset."""
        return SamplingSettings(**self.raw["presets"]["standard"])


@dataclass(frozen=True)
class SectionCondition:
    """What a model sees of a section: of its spots (N,C), and all over its tissue (M,C)."""

    spots: Array
    lattice: Array


def section_condition(
    section: MeasuredSection, encoder: CompactEncoder, recipe: Recipe, cache: Path
) -> SectionCondition:
    """Make, or read from the cache, the condition of a section."""
    spec = recipe.spec
    key = hashlib.sha256(f"{encoder.sha256}{spec}".encode()).hexdigest()[:12]
    path = cache / f"{section.name}-{key}.safetensors"
    if not path.is_file():
        with open_slide(section.image) as slide:
            spots = read_spots(
                section.table, slide, diameter_um=recipe.raw["layout"]["spot_diameter_um"]
            )
            survey = survey_slide(slide, find_tissue(slide), encoder, spec)
            made = {
                "spots": spot_condition(slide, spots, survey, encoder, spec),
                "lattice": survey_condition(survey, spec),
            }
        cache.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".aside")
        save_file(made, aside)
        aside.replace(path)
        log.info("condition of %s", section.name)
    return SectionCondition(**load_file(path))


def train_on(
    sections: Sequence[MeasuredSection],
    conditions: Sequence[SectionCondition],
    panel: list[str],
    recipe: Recipe,
    own_width: int,
) -> Fitted:
    """Fit on sections."""
    seen = [
        TrainingSection(c.spots, c.lattice, log_counts(s, panel))
        for s, c in zip(sections, conditions, strict=True)
    ]
    return fit(seen, condition_groups(recipe.spec, own_width), own_width, recipe.fit)


@torch.inference_mode()
def fold_figures(
    fitted: Fitted,
    condition: SectionCondition,
    measured: Array,
    ids: Sequence[str],
    settings: SamplingSettings,
) -> dict[str, Any]:
    """Figures of one fold: of the standard preset, and of more single draws for CRPS and RVD."""
    generator = fitted.generator
    given = torch.from_numpy(condition.spots)
    level = generator.slide_level(torch.from_numpy(condition.lattice))
    mean = generator.regression_mean(given, level)

    def draw(how: SamplingSettings) -> Array:
        out: Array = draw_expression(generator, fitted.schedule, given, mean, ids, how).numpy()
        return out

    samples = draw(settings)
    predicted, std = samples.mean(1), spread(samples, settings)
    low, high = fitted.bands.around(predicted, std, level.doubt)
    predicted = predicted.clip(0)
    figures: dict[str, Any] = evaluate_arrays(predicted, measured, low.clip(0), high.clip(0))
    # Independent draws: opposite noises of one index would make pairs too different.
    single = draw(
        SamplingSettings(settings.sampler, settings.steps, 2 * CRPS_SAMPLES, settings.seed + 1)
    )[:, ::2].clip(0)
    figures["rvd_single_draw"] = float(
        np.mean(
            [
                np.nanmean(relative_variance_difference(single[:, k], measured))
                for k in range(CRPS_SAMPLES)
            ]
        )
    )
    figures["crps"] = crps(single, measured)
    figures["regression_pcc_all"] = float(np.nanmean(pearson_by_gene(mean.numpy(), measured)))
    figures["per_gene"] = {
        "pcc": pearson_by_gene(predicted, measured),
        "rvd": relative_variance_difference(predicted, measured),
    }
    return figures


def run_fold(
    held_out: str,
    sections: dict[str, MeasuredSection],
    conditions: dict[str, SectionCondition],
    names: Sequence[str],
    recipe: Recipe,
    own_width: int,
) -> dict[str, Any]:
    """Train without a section, and report on it.

    It takes no part in panel, scaling, training or calibration.
    """
    train = [name for name in names if name != held_out]
    panel = choose_panel([sections[name].counts for name in train])
    fitted = train_on(
        [sections[n] for n in train], [conditions[n] for n in train], panel, recipe, own_width
    )
    test = sections[held_out]
    missing = set(panel) - set(test.counts.var_names)
    if missing:
        names = ", ".join(sorted(missing))
        msg = f"{len(missing)} panel genes are not measured in {held_out}: {names}"
        raise ValueError(msg)
    measured = log_counts(test, panel)
    figures = fold_figures(
        fitted, conditions[held_out], measured, list(test.counts.obs_names), recipe.settings
    )
    a = np.concatenate([conditions[n].spots for n in train])
    y = np.concatenate([log_counts(sections[n], panel) for n in train])
    baselines = {
        name: evaluate_arrays(predict_baseline(name, a, y, conditions[held_out].spots), measured)
        for name in BASELINES
    }
    return {
        "held_out": held_out,
        "train": train,
        "panel": panel,
        "figures": figures,
        "baselines": baselines,
    }


def describe(fold: dict[str, Any]) -> str:
    """One line per method."""
    lines = [f"held out {fold['held_out']}, trained on {', '.join(fold['train'])}"]
    for name, m in [("Stem", fold["figures"]), *fold["baselines"].items()]:
        row = (
            f"  {name:13s} PCC-10/50/200 {m['pcc_10']:.3f} {m['pcc_50']:.3f} {m['pcc_all']:.3f}"
            f"  MSE {m['mse']:.3f}  MAE {m['mae']:.3f}  RVD {m['rvd']:.3f}"
        )
        if name == "Stem":
            row += (
                f"  single draws {m['rvd_single_draw']:.3f}  CRPS {m['crps']:.3f}"
                f"  in 90 % band {m['coverage_90']:.3f}"
                f"  (regression mean alone {m['regression_pcc_all']:.3f})"
            )
        lines.append(row)
    return "\n".join(lines)


def main() -> None:
    """Run from the command line."""
    import yaml

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=Path("build/conditions"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--folds", nargs="+")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(args.threads)
    recipe = Recipe(yaml.safe_load(args.recipe.read_text(encoding="utf-8")))
    encoder = load_compact_encoder(ENCODERS_DIR / f"{recipe.raw['encoder']}.safetensors")
    names = recipe.raw["sections"]
    sections = {name: read_section(args.data / recipe.raw["folder"], name) for name in names}
    conditions = {
        name: section_condition(s, encoder, recipe, args.cache) for name, s in sections.items()
    }
    folds = []
    for held_out in recipe.raw["folds"] if args.folds is None else args.folds:
        fold = run_fold(held_out, sections, conditions, names, recipe, encoder.width)
        print(describe(fold), flush=True)
        folds.append(fold)
    if args.out is None:
        return
    from zoo.folder import write_model_folder

    panel = choose_panel([s.counts for s in sections.values()])
    fitted = train_on(
        list(sections.values()), list(conditions.values()), panel, recipe, encoder.width
    )
    ridge = fit_ridge(
        np.concatenate([c.spots for c in conditions.values()]),
        np.concatenate([log_counts(s, panel) for s in sections.values()]),
    )
    write_model_folder(
        args.out,
        recipe.raw,
        fitted,
        encoder,
        panel,
        sections,
        ridge,
        folds,
        created=datetime.now(UTC).date().isoformat(),
        seed=recipe.fit.denoiser.seed,
    )
    print(json.dumps({p.name: p.stat().st_size for p in sorted(args.out.iterdir())}))


if __name__ == "__main__":
    main()
