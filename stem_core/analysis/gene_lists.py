"""Lists of a panel's genes by one figure: how much they vary, how structured, how alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stem_core.analysis.spatial import correlated_genes, morans_i, neighbour_weights
from stem_core.analysis.variogram import median_pitch

__all__ = ["gene_figure", "ranked_genes"]

Floats = NDArray[np.float64]


def gene_figure(
    kind: str,
    values: NDArray[np.floating[Any]],
    x_um: Floats,
    y_um: Floats,
    column: int = 0,
) -> Floats:
    """Return a figure of every gene.

    Parameters
    ----------
    kind
        `variance`: over spots, in the square of the values' unit, with N - 1 below; `structure`:
        Moran's I over neighbouring spots; `correlation`: Pearson's, with the gene of a column.
    values
        (N,G).
    x_um, y_um
        Positions of the spots, (N,), in microns.
    column
        The gene that others are correlated with.

    Returns
    -------
    float64 array, shape (G,)
        NaN where a gene has no such figure, as a constant one has no correlation.

    Raises
    ------
    ValueError
        There is no figure of that kind.
    """
    if kind == "variance":
        if len(values) < 2:
            return np.full(values.shape[1], np.nan)
        found: Floats = values.var(axis=0, ddof=1, dtype=np.float64)
        return found
    if kind == "structure":
        # The distance that the spots have, not the one a file says: a wrong one joins all to all.
        return morans_i(values, neighbour_weights(x_um, y_um, median_pitch(x_um, y_um)))
    if kind == "correlation":
        return correlated_genes(values, column)
    msg = f"There is no figure {kind!r} of a gene; it is variance, structure or correlation."
    raise ValueError(msg)


def ranked_genes(
    symbols: Sequence[str], figures: Floats, *, lowest_first: bool = False
) -> pd.Series:
    """Return the genes in the order of a figure; those without one are left out.

    Parameters
    ----------
    symbols
        The G genes.
    figures
        (G,).
    lowest_first
        Else the highest comes first. Genes of one figure stay in the order given.

    Returns
    -------
    Series
        Figures by symbol.
    """
    found = pd.Series(figures, index=list(symbols), dtype=np.float64).dropna()
    found.index.name = "gene"
    return found.sort_values(ascending=lowest_first, kind="stable")
