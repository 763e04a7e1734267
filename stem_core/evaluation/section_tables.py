"""The tables of an evaluated section: genes, gene pairs, calibration."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from stem_core.analysis.comparison import calibration
from stem_core.analysis.spatial import morans_i
from stem_core.evaluation.calibration import sample_calibration
from stem_core.evaluation.metrics import (
    pearson_by_gene,
    relative_variance_difference,
    spearman_by_gene,
)
from stem_core.evaluation.records import EvaluationInput
from stem_core.evaluation.structure import PAIR_EDGES, gene_correlations, pair_counts
from stem_core.evaluation.zeros import ZERO_BELOW

__all__ = ["SINGLE_DRAWS", "calibration_table", "gene_table", "pair_table"]

Floats = NDArray[np.float64]

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
