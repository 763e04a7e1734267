"""Bring a measured section into the order of a prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse
from scipy.spatial import cKDTree

from stem_core.analysis.gene_sets import gene_key
from stem_core.analysis.variogram import Floats
from stem_core.errors import EvaluationError
from stem_core.prediction.result import Prediction

__all__ = ["Measured", "match_measured"]


@dataclass(frozen=True)
class Measured:
    """Measured expression in the order of a prediction's spots and genes.

    Attributes
    ----------
    values
        float32 (N,G), log2(1 + raw count); NaN for spots and genes that were not measured.
    spots, genes
        bool (N,) and (G,): those that were measured.
    matched_by
        "name" or "position".
    """

    values: NDArray[np.float32]
    spots: NDArray[np.bool_]
    genes: NDArray[np.bool_]
    matched_by: str


def match_measured(
    prediction: Prediction,
    ids: Sequence[str],
    x_px: Floats | None,
    y_px: Floats | None,
    gene_names: Sequence[str],
    gene_ids: Sequence[str] | None,
    counts: NDArray[Any] | csr_array,
    source: str = "The measured section",
) -> Measured:
    """Bring a measured section into the order of a prediction.

    Spots are matched by name if at least half of the measured or of the predicted ones share one,
    else by position: the nearest measured spot within half a pitch, each used once. Genes are
    matched by symbol or Ensembl id; of a gene that the section names twice the first counts.

    Parameters
    ----------
    prediction
        Of the same slide.
    ids
        Names of the M measured spots.
    x_px, y_px
        Their level-0 pixels, (M,); None where they are not known.
    gene_names, gene_ids
        Symbols and, if known, Ensembl ids of the H measured genes.
    counts
        Raw counts (M,H), dense or sparse.
    source
        What errors call the section.

    Raises
    ------
    EvaluationError
        Fewer than half of the spots match, no gene is shared, or the counts are none.
    """
    found, way = _match_spots(prediction, ids, x_px, y_px, source)
    accessions = [""] * len(gene_names) if gene_ids is None else list(gene_ids)
    columns = _match_columns(prediction, gene_names, accessions)
    if not (columns >= 0).any():
        msg = (
            f"{source} and the prediction have no gene in common; check that both are one species "
            "and that genes are named by symbol or Ensembl id."
        )
        raise EvaluationError(msg)
    spots, genes = found >= 0, columns >= 0
    # rows first: slices of a compressed table are cheap that way round
    table: Any = csr_array(counts) if issparse(counts) else np.asarray(counts)
    table = table[found[spots]][:, columns[genes]]
    dense = np.asarray(table.toarray() if issparse(table) else table, dtype=np.float64)
    if not np.isfinite(dense).all() or (dense < 0).any():
        msg = (
            f"{source} holds values below 0 or not finite, so they are no counts; give raw counts."
        )
        raise EvaluationError(msg)
    values = np.full(prediction.mean.shape, np.nan, dtype=np.float32)
    values[np.ix_(spots, genes)] = np.log2(1 + dense)
    return Measured(values, spots, genes, way)


def _match_spots(
    prediction: Prediction,
    ids: Sequence[str],
    x_px: Floats | None,
    y_px: Floats | None,
    source: str,
) -> tuple[NDArray[np.int64], str]:
    """Row of the measured section for every predicted spot, -1 for none; and how it was found."""
    spots = prediction.spots
    fewer = min(len(spots), len(ids))
    rows: dict[str, int] = {}
    for row, name in enumerate(ids):
        rows.setdefault(name, row)
    by_name = np.array([rows.get(name, -1) for name in spots.ids], dtype=np.int64)
    shared = int((by_name >= 0).sum())
    if fewer and shared >= fewer / 2:
        return by_name, "name"
    number = shared
    if x_px is not None and y_px is not None and len(x_px):
        pitch_px = spots.pitch_um / prediction.mpp
        if not np.isfinite(pitch_px):
            pitch_px = spots.diameter_um / prediction.mpp
        by_place = _nearest(spots.x_px, spots.y_px, x_px, y_px, pitch_px / 2)
        number = int((by_place >= 0).sum())
        if number >= fewer / 2:
            return by_place, "position"
    msg = (
        f"{source} and the prediction share {number:,} of {fewer:,} spots, by name or within half "
        "a pitch; is it another section? If it is this one, predict at its measured spots (give "
        "the file as the spots)."
    )
    raise EvaluationError(msg)


def _nearest(
    x: Floats, y: Floats, other_x: Floats, other_y: Floats, reach: float
) -> NDArray[np.int64]:
    """Nearest other point of each point within reach, each used once by its nearest; else -1."""
    tree = cKDTree(np.column_stack([other_x, other_y]))
    distance, index = tree.query(np.column_stack([x, y]), distance_upper_bound=reach)
    out = np.full(len(x), -1, dtype=np.int64)
    order = np.argsort(distance, kind="stable")
    order = order[np.isfinite(distance[order])]
    taken, first = np.unique(index[order], return_index=True)
    out[order[first]] = taken
    return out


def _match_columns(
    prediction: Prediction, names: Sequence[str], accessions: Sequence[str]
) -> NDArray[np.int64]:
    """Column of the measured section for every predicted gene, -1 for none."""
    exact: dict[str, int] = {}
    places: dict[str, int] = {}
    for column, (name, accession) in enumerate(zip(names, accessions, strict=True)):
        exact.setdefault(name, column)
        for known in filter(None, (name, accession)):
            places.setdefault(gene_key(known), column)
    out = []
    for symbol, accession in zip(prediction.symbols, prediction.ensembl, strict=True):
        found = exact.get(symbol)
        if found is None:
            found = places.get(gene_key(symbol))
        if found is None and accession:
            found = places.get(gene_key(accession))
        out.append(-1 if found is None else found)
    return np.array(out, dtype=np.int64)
