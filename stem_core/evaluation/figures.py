"""Every figure of an evaluation: its key, name, unit, and which way is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stem_core.constants import UNITS

__all__ = ["FIGURES", "Figure", "better", "method_name", "shown"]

Group = Literal["correlation", "composition", "error", "pattern", "zeros", "draws"]


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes
    ----------
    key, name, unit
        In JSON, for people, and the unit ("" for a pure number).
    group
        Which table it stands in.
    wanted
        `high` or `low`; a number where that is what it should be.
    what
        One sentence.
    """

    key: str
    name: str
    unit: str
    group: Group
    wanted: Literal["high", "low"] | float
    what: str


FIGURES: dict[str, Figure] = {
    figure.key: figure
    for figure in (
        Figure("pcc_10", "PCC-10", "", "correlation", "high",
               "Mean Pearson correlation over spots of the 10 genes that correlate best on this "
               "very section, as published."),
        Figure("pcc_50", "PCC-50", "", "correlation", "high", "The same of the best 50 genes."),
        Figure("pcc_all", "PCC-all", "", "correlation", "high",
               "Mean Pearson correlation over spots of all genes of the panel."),
        Figure("pcc_10_fixed", "PCC-10, fixed", "", "correlation", "high",
               "Mean Pearson correlation of 10 genes that were named before the section was seen."),
        Figure("pcc_50_fixed", "PCC-50, fixed", "", "correlation", "high",
               "The same of 50 genes named before."),
        Figure("spearman_all", "Spearman", "", "correlation", "high",
               "Mean rank correlation over spots of all genes."),
        Figure("composition_pcc", "Composition PCC", "", "composition", "high",
               "Mean Pearson correlation over spots of each gene's share of the spot's total, "
               "log2(1 + 10,000 × share): which RNA there is, not only how much."),
        Figure("composition_pcc_50", "Composition PCC-50", "", "composition", "high",
               "The same of the 50 genes whose shares correlate best on this very section."),
        Figure("mse", "MSE", f"({UNITS})²", "error", "low",
               "Mean squared error over spots and genes."),
        Figure("mae", "MAE", UNITS, "error", "low", "Mean absolute error over spots and genes."),
        Figure("rvd", "RVD", "", "error", "low",
               "Mean over genes of ((variance predicted − measured) / measured)²."),
        Figure("rvd_median", "RVD, median", "", "error", "low",
               "The median over genes instead: a few genes that hardly vary cannot blow it up."),
        Figure("moran_error", "Moran's I, error", "", "pattern", "low",
               "Mean over genes of the distance between Moran's I predicted and measured; a "
               "constant map counts as 0."),
        Figure("moran_shift", "Moran's I, shift", "", "pattern", 0.0,
               "Mean over genes of Moran's I predicted minus measured: above 0 is too smooth, "
               "below too rough; a constant map counts as 0."),
        Figure("svg_overlap", "Patterned genes found", "", "pattern", "high",
               "Share of the most patterned genes (highest measured Moran's I; 50, or a quarter "
               "of a small panel) among as many of the prediction's."),
        Figure("svg_auc", "Patterned genes, AUC", "", "pattern", "high",
               "Area under the ROC curve of the predicted Moran's I for these genes."),
        Figure("pairs_r", "Gene pairs, r", "", "pattern", "high",
               "Correlation, over all pairs of genes, of the pair's correlation predicted with "
               "that measured."),
        Figure("pairs_rmse", "Gene pairs, RMSE", "", "pattern", "low",
               "Root mean squared error of the correlations of all pairs of genes."),
        Figure("pairs_shift", "Gene pairs, shift", "", "pattern", 0.0,
               "Median correlation of all pairs of genes, predicted minus measured: above 0 the "
               "maps resemble each other more than the tissue's do."),
        Figure("zero_auc", "Zeros, AUC", "", "zeros", "high",
               "How well a low value tells spots with no count from others: area under the ROC "
               "curve, mean over genes with at least 5 spots of either kind."),
        Figure("zero_share_error", "Share of zeros, error", "", "zeros", "low",
               "Mean over genes of the distance between the share of spots with no count "
               "predicted and measured."),
        Figure("zero_brier", "Zeros, Brier score", "", "zeros", "low",
               "Mean squared error of the predicted probability of no count."),
        Figure("crps", "CRPS", UNITS, "draws", "low",
               "Continuous ranked probability score of the draws; of a baseline, of a normal "
               "distribution around its value, cut at 0 and as wide, gene by gene, as its errors "
               "on training spots that it was not fitted on."),
        Figure("coverage_90", "In the 90 % band", "", "draws", 0.9,
               "Share of measured values within the band that should hold 90 % of them; of a "
               "baseline, within that distribution's."),
        Figure("rvd_single_draw", "RVD of single draws", "", "draws", "low",
               "RVD of one draw at a time, mean over draws: draws are meant to vary as tissue "
               "does."),
    )
}  # fmt: skip


def better(figure: Figure, one: float, other: float) -> bool:
    """Tell whether `one` is the better value."""
    if figure.wanted == "high":
        return one > other
    if figure.wanted == "low":
        return one < other
    return abs(one - figure.wanted) < abs(other - figure.wanted)


def shown(value: float | None) -> str:
    """Write a value with three decimals, a large one with none."""
    if value is None:
        return "–"
    text = f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"
    return text.replace("-", "−")


def method_name(name: str) -> str:
    """Name a method for people: the baseline `mean` is not the mean of draws."""
    return {"mean": "training mean"}.get(name, name)
