"""Claim: the standard preset is as good as the published procedure, at a thousandth of its cost.

Measure the folds of a bundled model's recipe (models trained without the section they are tested
on) over samplers, steps and samples:

    python benchmarks/quality_vs_cost.py measure zoo/recipes/NAME.yaml --data DIR --json FILE

and write the table and plot of several such files:

    python benchmarks/quality_vs_cost.py report FILE … --docs docs --models zoo/models

Cheap procedures run on whole sections; all of them, and the published one as the reference, on a
fixed random subset of each section's spots, since the published one takes half a minute a spot on
two cores. Everything runs in fp32. Intervals are 95 % of paired bootstraps over the spots.

A few hundred draws leave the covariance between genes uncertain by a tenth, more than what is to be
told apart. So it is measured with a control variate: the same noises go through the same procedure
with a denoiser that knows nothing but that whitened residuals are white, whose draws have a known
covariance (the residuals' own) and follow the real ones closely; what those draws show by chance
is taken off.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stem_core.diffusion.denoiser import Denoiser
from stem_core.diffusion.schedule import Schedule
from stem_core.evaluation.metrics import crps, evaluate_arrays, relative_variance_difference
from stem_core.model.card import model_card
from stem_core.model.config import DenoiserConfig
from stem_core.model.manifest import Manifest
from stem_core.prediction.sampling import draw_expression, draw_targets, spread
from stem_core.prediction.settings import SamplingSettings
from stem_core.training.distributed import DistributedContext
from stem_core.training.fit import TrainedModel
from stem_core.training.hest import log_counts
from stem_core.training.plan import FINAL, Plan, Split, make_plan
from stem_core.training.recipe_file import read_recipe
from stem_core.training.section_store import SectionStore, recipe_encoder
from stem_core.training.train import fit_split
from stem_core.training.training_order import TrainingOrder

log = logging.getLogger("quality_vs_cost")
Array = NDArray[np.float32]

REFERENCE = SamplingSettings("ancestral", 1000, 20)
STANDARD = SamplingSettings("angle", 4, 4)
WHOLE = [
    SamplingSettings("angle", 2, 2),
    SamplingSettings("angle", 3, 4),
    STANDARD,
    SamplingSettings("angle", 4, 16),
]
SUBSET = [
    *WHOLE,
    SamplingSettings("angle", 10, 4),
    SamplingSettings("dpmpp-2m", 5, 4),
    SamplingSettings("dpmpp-2m", 10, 4),
    SamplingSettings("dpmpp-2m", 10, 4, spacing="even"),
    SamplingSettings("dpmpp-2m-sde", 20, 4),
    SamplingSettings("ddim", 10, 4),
    SamplingSettings("ddim", 50, 4),
    SamplingSettings("ancestral", 50, 20),
]
INDEPENDENT = {"whole": 8, "subset": 48}  # draws per spot for the figures of single draws
BOOTSTRAPS = 100


def label(how: SamplingSettings) -> str:
    """Name a procedure."""
    spacing = f" ({how.spacing})" if how.spacing else ""
    return f"{how.sampler}{spacing} {how.steps}×{how.samples}"


class KnowsOnlyWhite(Denoiser):
    """A denoiser of velocity 0: exact for white data, which any sampler then draws unchanged."""

    def __init__(self, size: DenoiserConfig) -> None:
        nn.Module.__init__(self)
        self.size = size
        self.precision = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
        """No velocity; the upper variance, which is that of white data."""
        return torch.zeros_like(x), torch.ones_like(x)


@dataclass(frozen=True)
class Draws:
    """What a procedure drew, around the regression mean.

    Attributes
    ----------
    samples, control
        (N,K,G): of the model, and of `KnowsOnlyWhite` from the same noises.
    mean
        (N,G), the regression mean.
    white_variance
        What the procedure makes of white noise of variance 1 with `KnowsOnlyWhite`.
    s_per_spot
        Of the model's.
    """

    samples: Array
    control: Array
    mean: Array
    white_variance: float
    s_per_spot: float

    def take_every_second(self) -> Draws:
        """Leave out the opposite draws of pairs."""
        return replace(self, samples=self.samples[:, ::2], control=self.control[:, ::2])

    def covariance(self, rows: NDArray[np.int64], root: Array) -> Array:
        """Of draws around the mean over these spots, (G,G), by way of the control's true one."""
        real, control = (
            (values[rows] - self.mean[rows][:, None]).reshape(-1, values.shape[-1])
            for values in (self.samples, self.control)
        )
        by_chance = control.T @ control / len(real) - self.white_variance * (root @ root.T)
        out: Array = (real.T @ real / len(real) - by_chance).astype(np.float32)
        return out


@lru_cache
def white_variance(size: DenoiserConfig, how: SamplingSettings) -> float:
    """Variance of draws through `KnowsOnlyWhite`, from many; 1 but for solvers' own errors."""
    spots = int(np.clip(200_000 // how.steps, 200, 2000))
    label = torch.zeros(spots, size.condition_width)
    ids = [f"white/{i}" for i in range(spots)]
    drawn = draw_targets(KnowsOnlyWhite(size), Schedule(), label, None, ids, how)
    return float((drawn**2).mean())


@dataclass(frozen=True)
class Fold:
    """A fitted fold and its held-out section."""

    fitted: TrainedModel
    condition: Array
    lattice: Array
    measured: Array
    ids: list[str]

    def take(self, chosen: NDArray[np.int64]) -> Fold:
        """Keep some spots."""
        return replace(
            self,
            condition=self.condition[chosen],
            measured=self.measured[chosen],
            ids=[self.ids[i] for i in chosen],
        )

    @torch.inference_mode()
    def draw(self, how: SamplingSettings, *, control: bool = False) -> Draws:
        """Draw; the control's draws are left 0 unless asked for."""
        generator = self.fitted.generator
        given = torch.from_numpy(self.condition)
        started = time.perf_counter()
        level = generator.slide_level(torch.from_numpy(self.lattice))
        mean = generator.regression_mean(given, level)

        def through(denoiser: Denoiser | None) -> Array:
            out: Array = draw_expression(
                generator, self.fitted.schedule, given, mean, self.ids, how, denoiser=denoiser
            ).numpy()
            return out

        samples = through(None)
        s_per_spot = (time.perf_counter() - started) / len(self.ids)
        white, variance = np.zeros_like(samples), 1.0
        if control:
            white = through(KnowsOnlyWhite(generator.denoiser.config))
            few = replace(how, samples=min(how.samples, 20))
            variance = white_variance(generator.denoiser.config, few)
        return Draws(samples, white, mean.numpy(), variance, s_per_spot)


def figures(
    fold: Fold, how: SamplingSettings, independent: int, *, control: bool = False
) -> tuple[dict[str, float], tuple[Array, Draws]]:
    """Figures of one procedure; its means and independent draws, which a comparison needs."""
    single = fold.draw(how, control=control and not how.paired)
    s_per_spot, samples = single.s_per_spot, single.samples
    mean, std = samples.mean(1), spread(samples, how)
    doubt = fold.fitted.generator.slide_level(torch.from_numpy(fold.lattice)).doubt
    low, high = fold.fitted.bands.around(mean, std, doubt)
    found = evaluate_arrays(mean.clip(0), fold.measured, low.clip(0), high.clip(0))
    if how.paired:  # a pair is not two independent draws
        twice = replace(how, samples=2 * independent, seed=how.seed + 1)
        single = fold.draw(twice, control=control).take_every_second()
    rvd_single = np.mean(
        [
            np.nanmean(relative_variance_difference(single.samples[:, k].clip(0), fold.measured))
            for k in range(single.samples.shape[1])
        ]
    )
    row = {
        **{
            k: float(found[k] or 0)
            for k in ("pcc_10", "pcc_50", "pcc_all", "mse", "rvd", "coverage_90")
        },
        "crps": crps(single.samples.clip(0), fold.measured),
        "rvd_single_draw": float(rvd_single),
        "s_per_spot": s_per_spot,
    }
    return row, (mean.clip(0), single)


def compare(fold: Fold, ours: tuple[Array, Draws], theirs: tuple[Array, Draws]) -> dict[str, Any]:
    """One procedure against the reference on the same spots, with paired bootstrap intervals."""
    root = fold.fitted.generator.residual_root.numpy()
    upper = np.triu_indices(len(root), 1)

    def one(rows: NDArray[np.int64]) -> dict[str, float]:
        truth = fold.measured[rows]
        ra, rb = (evaluate_arrays(mean[rows], truth) for mean, _ in (ours, theirs))
        ca, cb = (draws.covariance(rows, root) for _, draws in (ours, theirs))
        va, vb = np.diag(ca), np.diag(cb)
        ka, kb = (c[upper] / np.sqrt(np.outer(v, v)[upper]) for c, v in ((ca, va), (cb, vb)))
        pa, pb = (crps(draws.samples[rows].clip(0), truth) for _, draws in (ours, theirs))
        return {
            "pcc_all": float(ra["pcc_all"] or 0) - float(rb["pcc_all"] or 0),
            "mse_ratio": float(ra["mse"] or 0) / float(rb["mse"] or np.nan),
            "rvd": float(ra["rvd"] or 0) - float(rb["rvd"] or 0),
            "variance_ratio": float(va.mean() / vb.mean()),
            "variance_ratio_least_gene": float((va / vb).min()),
            "variance_ratio_largest_gene": float((va / vb).max()),
            "correlation_ratio": float(np.abs(ka).mean() / np.abs(kb).mean()),
            "correlation_agreement": float(np.corrcoef(ka, kb)[0, 1]),
            "crps_ratio": pa / pb,
        }

    n = len(fold.ids)
    random = np.random.default_rng(0)
    whole = one(np.arange(n))
    tries = [one(random.integers(0, n, n)) for _ in range(BOOTSTRAPS)]
    return {
        name: [value, *np.nanquantile([t[name] for t in tries], (0.025, 0.975)).tolist()]
        for name, value in whole.items()
    }


def fit_fold(order: TrainingOrder, plan: Plan, split: Split) -> Fold:
    """Train without a section."""
    encoder = recipe_encoder(order.recipe, order.data)
    folder = order.sections
    store = SectionStore(order.recipe, folder, order.work / "embeddings", encoder, log.info)
    panel, fitted = fit_split(order, plan, split, store, DistributedContext())
    (held_out,) = split.test
    test, seen = store.section(held_out), store.condition(held_out)
    return Fold(
        fitted, seen.spots, seen.lattice, log_counts(test, panel), list(test.counts.obs_names)
    )


def measure(args: argparse.Namespace) -> None:
    """Measure the folds of one recipe."""
    recipe = read_recipe(args.recipe)
    order = TrainingOrder(recipe, args.recipe, args.data, args.work, args.work)
    plan = make_plan(recipe, args.data / recipe.data.folder)
    found: dict[str, Any] = {"model": recipe.name, "threads": args.threads, "folds": {}}
    for split in plan.splits:
        held_out = split.name
        if held_out == FINAL or (args.folds and held_out not in args.folds):
            continue
        fold = fit_fold(order, plan, split)
        whole = {}
        for how in WHOLE:
            whole[label(how)] = figures(fold, how, INDEPENDENT["whole"])[0]
            log.info("%s %s %s", held_out, label(how), whole[label(how)])
        chosen = np.sort(np.random.default_rng(0).permutation(len(fold.ids))[: args.spots])
        few = fold.take(chosen)
        reference, theirs = figures(few, REFERENCE, REFERENCE.samples, control=True)
        log.info("%s reference %s", held_out, reference)
        rows = {}
        for how in SUBSET:
            row, ours = figures(few, how, INDEPENDENT["subset"], control=True)
            rows[label(how)] = {"figures": row, "against_reference": compare(few, ours, theirs)}
            log.info("%s %s %s", held_out, label(how), rows[label(how)]["against_reference"])
        found["folds"][held_out] = {
            "spots": len(fold.ids),
            "whole": whole,
            "subset_spots": len(few.ids),
            "reference": reference,
            "subset": rows,
        }
        args.json.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _average(values: list[list[float]]) -> tuple[float, float, float]:
    """Mean over folds, with the interval of a mean of independent figures."""
    array = np.array(values)
    mean = array[:, 0].mean()
    half = np.sqrt((((array[:, 2] - array[:, 1]) / 2) ** 2).sum()) / len(array)
    return float(mean), float(mean - half), float(mean + half)


def report(args: argparse.Namespace) -> None:
    """Write docs/quality-vs-cost.md and its plot."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    runs = [json.loads(path.read_text(encoding="utf-8")) for path in args.files]
    folds = {name: fold for run in runs for name, fold in run["folds"].items()}
    lines = [
        "# Quality against cost",
        "",
        "Made by `benchmarks/quality_vs_cost.py` (its head says how). Models trained without the",
        "section they are tested on; fp32; s per spot on one core while both cores were busy.",
        "",
        "## Against the published procedure",
        "",
        f"1000 ancestral steps × 20 samples, on {next(iter(folds.values()))['subset_spots']} "
        f"random spots of each of {', '.join(folds)}. Means over these sections with",
        "95 % intervals (paired bootstrap over spots). Draws are compared around the same mean.",
        "",
        "| procedure | PCC-200 less published's | MSE ratio | RVD less published's | "
        "variance of draws, ratio | gene-gene correlation of draws, ratio, and agreement | "
        "CRPS ratio | s per spot |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in next(iter(folds.values()))["subset"]:
        cells = []
        rows = [fold["subset"][name] for fold in folds.values()]
        for key, form in (
            ("pcc_all", "+.4f"),
            ("mse_ratio", ".3f"),
            ("rvd", "+.3f"),
            ("variance_ratio", ".3f"),
            ("correlation_ratio", ".3f"),
            ("crps_ratio", ".3f"),
        ):
            values = [row["against_reference"][key] for row in rows]
            if key == "rvd":  # B4's level shift makes its RVD hundreds
                values = [v for v, f in zip(values, folds, strict=True) if f != "B4"]
            mean, low, high = _average(values)
            cell = f"{mean:{form}} ({low:{form}} to {high:{form}})"
            if key == "correlation_ratio":
                agree = np.mean(
                    [row["against_reference"]["correlation_agreement"][0] for row in rows]
                )
                cell += f", {agree:.2f}"
            cells.append(cell)
        seconds = np.mean([row["figures"]["s_per_spot"] for row in rows])
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {seconds:.3g} |")
    seconds = np.mean([fold["reference"]["s_per_spot"] for fold in folds.values()])
    lines += [
        f"| **published** | 0 | 1 | 0 | 1 | 1 | 1 | {seconds:.3g} |",
        "",
        "RVD without B4, whose level shift makes it hundreds either way. The published mean of 20",
        "independent draws still carries a twentieth of the draws' variance; the mean of opposite",
        "draws carries none. So the few-step mean varies less (its RVD is higher), and errs less.",
        "",
        "Variance and correlation of draws (mean absolute correlation between genes, and how alike",
        "the 19,900 correlations are) are measured with a control variate: the same noises through",
        "a denoiser that only knows that whitened residuals are white. Without it, one common",
        "factor of the genes leaves a few hundred draws' correlations uncertain by a tenth.",
        "",
        "## On whole sections",
        "",
        "| held out | procedure | PCC-10 | PCC-50 | PCC-200 | MSE | RVD | RVD of single draws | "
        "CRPS | in the 90 % band | s per spot |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for held_out, fold in folds.items():
        for name, row in fold["whole"].items():
            lines.append(
                f"| {held_out} | {name} | {row['pcc_10']:.3f} | {row['pcc_50']:.3f} | "
                f"{row['pcc_all']:.3f} | {row['mse']:.3f} | {row['rvd']:.3f} | "
                f"{row['rvd_single_draw']:.3f} | {row['crps']:.3f} | {row['coverage_90']:.3f} | "
                f"{row['s_per_spot']:.3g} |"
            )
    lines += ["", "![Quality against cost](img/quality-vs-cost.png)", ""]
    if args.models is not None:
        write_curves(runs, args.models)
    (args.docs / "quality-vs-cost.md").write_text("\n".join(lines), encoding="utf-8")

    figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    kinds = {"angle": "o", "dpmpp-2m": "s", "dpmpp-2m-sde": "v", "ddim": "^", "ancestral": "D"}
    for axis, (key, title) in zip(
        axes,
        (
            ("variance_ratio", "variance of single draws"),
            ("crps_ratio", "CRPS"),
            ("mse_ratio", "MSE of the mean"),
        ),
        strict=True,
    ):
        for kind, marker in kinds.items():
            names = [n for n in next(iter(folds.values()))["subset"] if n.split(" ")[0] == kind]
            rows_of = [[fold["subset"][n] for fold in folds.values()] for n in names]
            x = [np.mean([r["figures"]["s_per_spot"] for r in rows]) for rows in rows_of]
            y = [_average([r["against_reference"][key] for r in rows]) for rows in rows_of]
            error = [[m - low for m, low, _ in y], [high - m for m, _, high in y]]
            axis.errorbar(
                x, [m for m, _, _ in y], error, fmt=marker, capsize=3, label=kind, markersize=6
            )
        axis.axhline(1, color="black", linewidth=0.8)
        axis.plot([seconds], [1], "k*", markersize=12, label="published")
        axis.set(xscale="log", xlabel="seconds per spot", ylabel=f"{title} ÷ published procedure's")
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.savefig(args.docs / "img" / "quality-vs-cost.png", dpi=120)


def write_curves(runs: list[dict[str, Any]], models: Path) -> None:
    """Put the curve of each model into its manifest, and renew its card."""
    for run in runs:
        folder, folds = models / run["model"], list(run["folds"].values())
        points = []
        for how in WHOLE:
            rows = [fold["whole"][label(how)] for fold in folds]
            keys = ("pcc_all", "mse", "crps", "rvd_single_draw", "coverage_90")
            points.append(
                {"sampler": how.sampler, "steps": how.steps, "samples": how.samples}
                | {key: round(float(np.mean([row[key] for row in rows])), 4) for key in keys}
            )
        against = [fold["subset"][label(STANDARD)]["against_reference"] for fold in folds]
        names = ("pcc_all", "mse_ratio", "crps_ratio", "variance_ratio", "correlation_ratio")
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config["quality"] = {
            "points": points,
            "against_published": {"spots": sum(fold["subset_spots"] for fold in folds)}
            | {name: round(float(np.mean([a[name][0] for a in against])), 4) for name in names},
        }
        manifest = Manifest.model_validate(config)
        text = json.dumps(manifest.model_dump(mode="json"), indent=1, allow_nan=False) + "\n"
        (folder / "config.json").write_text(text, encoding="utf-8")
        (folder / "README.md").write_text(model_card(manifest), encoding="utf-8")


def main() -> None:
    """Run from the command line."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    one = actions.add_parser("measure")
    one.add_argument("recipe", type=Path)
    one.add_argument("--data", type=Path, required=True)
    one.add_argument("--json", type=Path, required=True)
    one.add_argument("--work", type=Path, default=Path("build/quality_vs_cost"))
    one.add_argument("--folds", nargs="+")
    one.add_argument("--spots", type=int, default=6, help="of the subset, per fold")
    one.add_argument("--threads", type=int, default=2)
    one.set_defaults(run=measure)
    two = actions.add_parser("report")
    two.add_argument("files", type=Path, nargs="+")
    two.add_argument("--docs", type=Path, default=Path("docs"))
    two.add_argument("--models", type=Path, help="put the curves into the manifests there")
    two.set_defaults(run=report)
    args = parser.parse_args()
    torch.set_num_threads(getattr(args, "threads", 2))
    args.run(args)


if __name__ == "__main__":
    main()
