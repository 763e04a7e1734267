"""Evaluate a finished prediction, such as a `prediction.h5ad`, by its measured section."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stem_core.analysis.matching import Measured, section_name
from stem_core.evaluation.records import EvaluationInput
from stem_core.prediction.result import Prediction

__all__ = ["result_input"]

Array = NDArray[np.float32]


def result_input(
    prediction: Prediction,
    measured: Measured,
    *,
    samples: Array | None = None,
    ridge: Array | None = None,
) -> EvaluationInput:
    """Bring a prediction and its measurement together: spots and genes that both have.

    Baselines are those that the prediction brings along: the training mean of the model's gene
    table, and ridge regression where the model has it. Genes are ranked by the model's held-out
    correlation.

    Parameters
    ----------
    prediction
        As read from its file.
    measured
        From `stem_core.analysis.measured_files.read_measured`.
    samples
        (N,K,G): independent draws of all spots and genes of the prediction, if kept.
    ridge
        (N,G): the ridge baseline's prediction, of an older result that does not hold it itself.

    Raises
    ------
    EvaluationError
        No spot was measured.
    """
    slide = section_name(prediction.slide_name)
    rows, columns = measured.spots, measured.genes
    both = np.ix_(rows, columns)

    def some(values: Array) -> Array:
        return np.asarray(values[both], dtype=np.float32)

    table = prediction.gene_table.reindex(list(prediction.symbols))
    kept = [s for s, there in zip(prediction.symbols, columns, strict=True) if there]
    baselines = {}
    if "training_mean" in table:
        level = table["training_mean"].to_numpy(np.float32)[columns]
        if np.isfinite(level).all():
            shape = (int(rows.sum()), len(level))
            baselines["mean"] = np.broadcast_to(level, shape)
    ridge = ridge if prediction.ridge is None else prediction.ridge
    if ridge is not None:
        baselines["ridge"] = some(ridge).clip(0)
    return EvaluationInput(
        section=measured.name or slide,
        symbols=tuple(kept),
        x_um=prediction.spots.x_px[rows] * prediction.mpp,
        y_um=prediction.spots.y_px[rows] * prediction.mpp,
        measured=measured.values[both],
        predicted=some(prediction.mean),
        samples=None
        if samples is None
        else np.asarray(samples[rows][:, :, columns], np.float32).clip(0),
        band=(some(prediction.q05), some(prediction.q95)),
        baselines=baselines,
        trained_on=dict.fromkeys(_training_slides(prediction), ""),
        ranked_genes=_ranked(table),
        file_names=(slide, measured.name),
        notes=measured.doubts,
    )


def _ranked(table: pd.DataFrame) -> tuple[str, ...]:
    """Genes by their held-out correlation, the best first."""
    if "held_out_pcc" not in table:
        return ()
    known = table["held_out_pcc"].dropna().sort_values(ascending=False, kind="stable")
    return tuple(str(symbol) for symbol in known.index)


def _training_slides(prediction: Prediction) -> list[str]:
    """Names of the sections the model was trained on, as far as the run record tells."""
    model = prediction.run.get("model")
    try:
        found = json.loads(model["training_slides"]) if isinstance(model, dict) else []
    except (KeyError, TypeError, ValueError):
        return []
    return [str(name) for name in found] if isinstance(found, list) else []
