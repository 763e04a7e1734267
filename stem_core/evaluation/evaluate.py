"""Evaluate the prediction of one section: all figures of the model, its draws and baselines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from stem_core.analysis.comparison import calibration
from stem_core.analysis.spatial import morans_i, neighbour_weights
from stem_core.analysis.variogram import median_pitch
from stem_core.evaluation.calibration import half_sample_mode, sample_calibration
from stem_core.evaluation.censored_normal import CensoredNormal
from stem_core.evaluation.composition import composition, noise_ceiling, total_everywhere
from stem_core.evaluation.figures import FIGURES, better
from stem_core.evaluation.intervals import (
    BlockBootstrap,
    draw_blocks,
    percentile_interval,
    resampled_figures,
)
from stem_core.evaluation.metrics import (
    MIN_SPOTS,
    crps_by_spot,
    evaluate_arrays,
    mean_or_none,
    pearson_by_gene,
    relative_variance_difference,
    spearman_by_gene,
)
from stem_core.evaluation.records import (
    Difference,
    EvaluationInput,
    Kind,
    MethodReport,
    SectionReport,
)
from stem_core.evaluation.structure import (
    PAIR_EDGES,
    gene_correlations,
    pair_counts,
    pair_figures,
    pattern_figures,
)
from stem_core.evaluation.zeros import ZERO_BELOW, no_count_probability, zero_figures

__all__ = [
    "SINGLE_DRAWS",
    "EvaluationInput",
    "SectionReport",
    "calibration_table",
    "evaluate_section",
    "gene_table",
    "pair_table",
]

Floats = NDArray[np.float64]
Values = NDArray[np.floating[Any]]
Figures = dict[str, float | None]


@dataclass(frozen=True)
class _Measured:
    """What every method of a section is held against; no bootstrap with fewer than 3 spots."""

    values: Values
    composition: Values
    neighbours: csr_array
    moran: Floats
    pairs: Floats
    bootstrap: BlockBootstrap | None
    ranked: tuple[int, ...]  # columns, best first, as judged before


def evaluate_section(given: EvaluationInput, *, seed: int = 0) -> SectionReport:
    """Evaluate the prediction of one section.

    Parameters
    ----------
    given
        The prediction, its draws and band where it has them, and baselines.
    seed
        Of the bootstrap.

    Returns
    -------
    SectionReport
        Methods in this order: `model`; baselines; `measured total` and `model's total`, the
        logarithm of the spot's total given to every gene; `one draw` (figures of single draws,
        averaged), `median of draws` and `mode of draws` where there are draws. Figures that cannot
        be computed are left out, and `notes` say why: correlations, patterns and intervals need 3
        spots, and correlations genes that vary in the measurement.
    """
    column = {symbol: place for place, symbol in enumerate(given.symbols)}
    neighbours = neighbour_weights(given.x_um, given.y_um, median_pitch(given.x_um, given.y_um))
    measured = _Measured(
        given.measured,
        composition(given.measured),
        neighbours,
        morans_i(given.measured, neighbours),
        gene_correlations(given.measured),
        draw_blocks(given.x_um, given.y_um, seed=seed)
        if len(given.measured) >= MIN_SPOTS
        else None,
        tuple(column[gene] for gene in given.ranked_genes if gene in column),
    )
    constant = int(np.isnan(relative_variance_difference(given.measured, given.measured)).sum())
    probability = no_count_probability(given.predicted, given.samples, given.band)
    model, resampled = _method("model", "model", given.predicted, measured, probability)
    _judge_spread(given, model, resampled, measured)
    methods = [_report(model, resampled, measured)]
    differences: list[Difference] = []
    for name, values in given.baselines.items():
        sd = given.spreads.get(name)
        spread = None if sd is None else CensoredNormal(values, sd)
        says = None if spread is None else spread.no_count()
        baseline, replicates = _method(name, "baseline", values, measured, says)
        if spread is not None:
            inside, score = (
                of(given.measured).mean(1, dtype=np.float64)
                for of in (spread.inside_90, spread.crps)
            )
            _add_spot_means(baseline, replicates, measured, coverage_90=inside, crps=score)
        elif probability is not None:  # yes or no is not held against a probability
            del baseline.figures["zero_share_error"]
        methods.append(_report(baseline, replicates, measured))
        differences += _differences(model, resampled, baseline, replicates, measured)
    methods += _of_depth(given, measured)
    methods += _of_draws(given, measured)
    return SectionReport(
        section=given.section,
        patient=given.patient,
        protocol=given.protocol,
        left_out=given.left_out,
        trained_on=dict(given.trained_on),
        baseline_settings={n: dict(s) for n, s in given.baseline_settings.items()},
        baselines_chosen=given.baselines_chosen,
        n_spots=len(given.measured),
        n_genes=len(given.symbols),
        n_constant_genes=constant,
        n_samples=0 if given.samples is None else given.samples.shape[1],
        block_um=None if measured.bootstrap is None else measured.bootstrap.side_um,
        methods=tuple(methods),
        differences=tuple(differences),
        calibration=calibration_table(given),
        genes=gene_table(given, measured.neighbours, probability),
        pairs=pair_table(given, measured.pairs),
        ceilings=_ceilings(given.measured, seed),
        notes=(*given.notes, *_left_out(given, constant)),
    )


def _left_out(given: EvaluationInput, constant: int) -> list[str]:
    """Say which figures cannot be computed, and why."""
    n = len(given.measured)
    if n < MIN_SPOTS:
        compared = "1 spot was" if n == 1 else f"{n} spots were"
        return [
            f"Only {compared} compared, so correlations, patterns and intervals are left out. "
            f"They need at least {MIN_SPOTS} spots."
        ]
    if constant == len(given.symbols):
        return [
            "Every gene is constant in the measured section, so correlations and variance "
            "differences are left out. Choose a section in which genes vary."
        ]
    return []


@dataclass
class _Method:
    name: str
    kind: Kind
    figures: Figures


def _best_first(r: Floats) -> list[int]:
    """Columns of the correlations that are known, the highest first."""
    order = np.argsort(-np.where(np.isfinite(r), r, -np.inf), kind="stable")
    return [int(gene) for gene in order[: int(np.isfinite(r).sum())]]


def _correlations(predicted: Values, measured: _Measured) -> tuple[Figures, dict[str, list[int]]]:
    """Correlations of log counts, and the genes that each averages Pearson's r of."""
    r = pearson_by_gene(predicted, measured.values)
    best = _best_first(r)
    chosen = {"pcc_10": best[:10], "pcc_50": best[:50], "pcc_all": best}
    for count in (10, 50):
        if len(measured.ranked) >= count:
            chosen[f"pcc_{count}_fixed"] = list(measured.ranked[:count])
    figures: Figures = {key: mean_or_none(r[genes]) for key, genes in chosen.items()}
    figures["spearman_all"] = mean_or_none(spearman_by_gene(predicted, measured.values))
    return figures, chosen


def _method(
    name: str, kind: Kind, predicted: Values, measured: _Measured, probability: Floats | None
) -> tuple[_Method, dict[str, Floats]]:
    """Figures of a method, and those of every replicate that has them."""
    truth = measured.values
    figures, chosen = _correlations(predicted, measured)
    shares = composition(predicted)
    r = pearson_by_gene(shares, measured.composition)
    best = _best_first(r)
    chosen_shares = {"composition_pcc": best, "composition_pcc_50": best[:50]}
    figures |= {key: mean_or_none(r[genes]) for key, genes in chosen_shares.items()}
    plain = evaluate_arrays(predicted, truth)
    figures |= {key: plain[key] for key in ("mse", "mae", "rvd")}
    rvd = relative_variance_difference(predicted, truth)
    figures["rvd_median"] = float(np.nanmedian(rvd)) if np.isfinite(rvd).any() else None
    figures |= pattern_figures(morans_i(predicted, measured.neighbours), measured.moran)
    figures |= pair_figures(gene_correlations(predicted), measured.pairs)
    figures |= zero_figures(predicted, truth, probability)
    method = _Method(name, kind, figures)
    if measured.bootstrap is None:
        return method, {}
    resampled = resampled_figures(predicted, truth, measured.bootstrap, chosen)
    of_shares = resampled_figures(shares, measured.composition, measured.bootstrap, chosen_shares)
    return method, resampled | {key: of_shares[key] for key in chosen_shares if key in of_shares}


def _judge_spread(
    given: EvaluationInput, model: _Method, resampled: dict[str, Floats], measured: _Measured
) -> None:
    """Add what only a method with draws or a band has."""
    if given.band is not None:
        inside = ((given.measured >= given.band[0]) & (given.measured <= given.band[1])).mean(1)
        _add_spot_means(model, resampled, measured, coverage_90=inside)
    if given.samples is not None and given.samples.shape[1] > 1:
        score = crps_by_spot(given.samples, given.measured)
        _add_spot_means(model, resampled, measured, crps=score)
    if given.samples is not None:
        by_draw = [
            relative_variance_difference(draw, given.measured)
            for draw in given.samples.transpose(1, 0, 2)
        ]
        model.figures["rvd_single_draw"] = mean_or_none(np.stack(by_draw))


def _add_spot_means(
    method: _Method, replicates: dict[str, Floats], measured: _Measured, **by_spot: Floats
) -> None:
    """Add figures that are means over spots, (N,) each, and their replicates."""
    for key, values in by_spot.items():
        method.figures[key] = float(values.mean())
        if measured.bootstrap is not None:
            weights = measured.bootstrap.weights
            replicates[key] = weights @ values / weights.sum(1)


def _of_depth(given: EvaluationInput, measured: _Measured) -> list[MethodReport]:
    """Correlations of one number per spot, given to every gene: how much RNA, and not which."""
    if measured.bootstrap is None:
        return []
    reports = []
    totals = {"measured total": given.measured, "model's total": given.predicted}
    for name, expression in totals.items():
        values = total_everywhere(expression)
        figures, chosen = _correlations(values, measured)
        replicates = resampled_figures(values, measured.values, measured.bootstrap, chosen)
        reports.append(_report(_Method(name, "depth", figures), replicates, measured))
    return reports


def _ceilings(measured: Values, seed: int) -> dict[str, float]:
    """Mean over genes of the highest correlations that counting noise allows."""
    if len(measured) < MIN_SPOTS:
        return {}
    highest = zip(("log_counts", "composition"), noise_ceiling(measured, seed=seed), strict=True)
    found = {name: mean_or_none(by_gene) for name, by_gene in highest}
    return {name: value for name, value in found.items() if value is not None}


def _of_draws(given: EvaluationInput, measured: _Measured) -> list[MethodReport]:
    """Figures of single draws, averaged, and of the draws' median and mode."""
    if given.samples is None or given.samples.shape[1] < 2:
        return []
    count = min(SINGLE_DRAWS, given.samples.shape[1])
    each = [
        _method("one draw", "draws", given.samples[:, k], measured, None)[0].figures
        for k in range(count)
    ]
    average: Figures = {
        key: mean_or_none(np.array([figures[key] for figures in each], dtype=np.float64))
        for key in each[0]
    }
    reports = [MethodReport("one draw", "draws", _finite(average), {})]
    for name, values in (
        ("median of draws", np.median(given.samples, axis=1)),
        ("mode of draws", half_sample_mode(given.samples)),
    ):
        method, replicates = _method(name, "draws", values, measured, None)
        reports.append(_report(method, replicates, measured))
    return reports


def _report(method: _Method, replicates: Mapping[str, Floats], measured: _Measured) -> MethodReport:
    figures = _finite(method.figures)
    intervals = {
        key: percentile_interval(values, measured.bootstrap.blocks)
        for key, values in replicates.items()
        if measured.bootstrap is not None and figures.get(key) is not None
    }
    return MethodReport(method.name, method.kind, figures, intervals)


def _differences(
    model: _Method,
    resampled: Mapping[str, Floats],
    baseline: _Method,
    replicates: Mapping[str, Floats],
    measured: _Measured,
) -> list[Difference]:
    """Model against a baseline in every figure that both have, resampled together."""
    ours, theirs = _finite(model.figures), _finite(baseline.figures)
    found = []
    for key, figure in FIGURES.items():
        one, other = ours.get(key), theirs.get(key)
        if one is None or other is None:
            continue
        low = high = certain = None
        if measured.bootstrap is not None and key in resampled and key in replicates:
            shift = resampled[key] - replicates[key]
            low, high = percentile_interval(shift, measured.bootstrap.blocks)
            certain = not low <= 0 <= high
            if not isinstance(figure.wanted, str):  # nearer to what it should be, not just other
                ours_off, theirs_off = (
                    np.abs(values - figure.wanted) for values in (resampled[key], replicates[key])
                )
                ends = percentile_interval(ours_off - theirs_off, measured.bootstrap.blocks)
                certain = not ends[0] <= 0 <= ends[1]
        winner = (
            "model"
            if better(figure, one, other)
            else "baseline"
            if better(figure, other, one)
            else "tie"
        )
        found.append(
            Difference(baseline.name, key, one - other, low, high, winner, certain)  # type: ignore[arg-type]
        )
    return found


def _finite(figures: Mapping[str, float | None]) -> dict[str, float]:
    """Figures that are finite, in the order of `FIGURES`."""
    return {
        key: float(value)
        for key in FIGURES
        if (value := figures.get(key)) is not None and np.isfinite(value)
    }


SINGLE_DRAWS = 4  # whose figures are averaged for "one draw"


def calibration_table(given: EvaluationInput) -> dict[str, dict[str, list[float]]]:
    """Calibration curves by source, `band` and `draws`: their columns."""
    found: dict[str, dict[str, list[float]]] = {}
    if given.band is not None:
        table = calibration(given.predicted, *given.band, given.measured)
        found["band"] = {str(name): values.tolist() for name, values in table.items()}
    if given.samples is not None and given.samples.shape[1] > 1:
        table = sample_calibration(given.samples, given.measured)
        found["draws"] = {str(name): values.tolist() for name, values in table.items()}
    return found


def gene_table(
    given: EvaluationInput, neighbours: csr_array, probability: Floats | None
) -> dict[str, list[Any]]:
    """Columns of the gene table, one value a gene; draws are averaged over the first four.

    Parameters
    ----------
    given
        The evaluated section.
    neighbours
        Weights for Moran's I.
    probability
        (N,G) of no count, or None.
    """
    predicted, truth = given.predicted, given.measured
    said = predicted < ZERO_BELOW if probability is None else probability
    table: dict[str, list[Any]] = {
        "symbol": list(given.symbols),
        "pcc": pearson_by_gene(predicted, truth).tolist(),
        "spearman": spearman_by_gene(predicted, truth).tolist(),
        "mse": ((predicted.astype(np.float64) - truth) ** 2).mean(0).tolist(),
        "rvd": relative_variance_difference(predicted, truth).tolist(),
        "mean_measured": truth.mean(0, dtype=np.float64).tolist(),
        "mean_predicted": predicted.mean(0, dtype=np.float64).tolist(),
        "variance_measured": truth.var(0, dtype=np.float64).tolist(),
        "variance_predicted": predicted.var(0, dtype=np.float64).tolist(),
        "moran_measured": morans_i(truth, neighbours).tolist(),
        "moran_predicted": morans_i(predicted, neighbours).tolist(),
        "zeros_measured": (truth < ZERO_BELOW).mean(0).tolist(),
        "zeros_predicted": said.mean(0).tolist(),
    }
    if given.samples is not None:
        draws = given.samples[:, :SINGLE_DRAWS].transpose(1, 0, 2)
        variance = [draw.var(0, dtype=np.float64) for draw in draws]
        table["variance_draw"] = np.mean(variance, axis=0).tolist()
        moran = [np.nan_to_num(morans_i(draw, neighbours)) for draw in draws]
        table["moran_draw"] = np.mean(moran, axis=0).tolist()
    if given.band is not None:
        inside = (truth >= given.band[0]) & (truth <= given.band[1])
        table["coverage_90"] = inside.mean(0).tolist()
    for name, values in given.baselines.items():
        table[f"pcc of {name}"] = pearson_by_gene(values, truth).tolist()
    return table


def pair_table(given: EvaluationInput, measured: Floats) -> dict[str, Any]:
    """Count gene pairs by measured × predicted correlation; `measured` is (G,G)."""
    counts = {"model": pair_counts(gene_correlations(given.predicted), measured).tolist()}
    if given.samples is not None:
        one = gene_correlations(given.samples[:, 0])
        counts["one draw"] = pair_counts(one, measured).tolist()
    return {"edges": PAIR_EDGES.tolist(), "counts": counts}
