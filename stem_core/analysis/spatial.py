"""Spatial pattern of genes: neighbours, Moran's I, and genes that vary together."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.spatial import cKDTree

__all__ = ["correlated_genes", "morans_i", "neighbour_weights"]

Floats = NDArray[np.float64]

_REACH = 1.6  # pitches: beyond a square grid's diagonal (1.41), short of a hexagon's √3
_CONSTANT = 1e-8
_MIN_SPOTS = 3  # two spots have an I of -1 and correlate by 1 or -1, whatever their values
_TOGETHER = 32  # genes, to keep copies of a large map small


def neighbour_weights(x_um: Floats, y_um: Floats, pitch_um: float | None) -> csr_array:
    """Weigh the neighbours of every spot alike.

    Neighbours are the spots within 1.6 pitches: 6 in a hexagonal pattern, 8 in a square one.

    Parameters
    ----------
    x_um, y_um
        Positions of the N spots, (N,), in microns.
    pitch_um
        Distance between neighbouring spots; None where there is none.

    Returns
    -------
    csr_array, shape (N,N)
        Each row sums to 1, or to 0 where a spot has no neighbour.
    """
    n = len(x_um)
    if n < 2 or pitch_um is None:
        return csr_array((n, n), dtype=np.float64)
    tree = cKDTree(np.column_stack([x_um, y_um]))
    pairs = tree.query_pairs(_REACH * pitch_um, output_type="ndarray")
    one, other = np.concatenate([pairs, pairs[:, ::-1]]).T
    number = np.bincount(one, minlength=n)
    return csr_array((1.0 / number[one], (one, other)), shape=(n, n))


def morans_i(values: NDArray[np.floating[Any]], weights: csr_array) -> Floats:
    """Moran's I of every gene (Moran 1950; Cliff & Ord 1981).

    Parameters
    ----------
    values
        (N,G).
    weights
        (N,N), such as from `neighbour_weights`.

    Returns
    -------
    float64 array, shape (G,)
        About 0 for values that are scattered, up to 1 for smooth ones, negative where neighbours
        differ; NaN for a constant gene, if no spot has a neighbour, and with fewer than 3 spots.
    """
    n, genes = values.shape
    out = np.full(genes, np.nan)
    total = float(weights.sum())
    if total == 0 or n < _MIN_SPOTS:
        return out
    for start in range(0, genes, _TOGETHER):
        part = values[:, start : start + _TOGETHER].astype(np.float64)
        z = part - part.mean(0)
        squares = (z**2).sum(0)
        product = (z * (weights @ z)).sum(0) * n / total
        varies = squares > _CONSTANT**2 * n
        np.divide(product, squares, out=out[start : start + _TOGETHER], where=varies)
    return out


def correlated_genes(values: NDArray[np.floating[Any]], column: int) -> Floats:
    """Pearson correlation over spots of every gene with one.

    Parameters
    ----------
    values
        (N,G).
    column
        The one gene.

    Returns
    -------
    float64 array, shape (G,)
        1 for the gene itself; NaN where a gene is constant, and with fewer than 3 spots.
    """
    if len(values) < _MIN_SPOTS:
        return np.full(values.shape[1], np.nan)
    z = values.astype(np.float64) - values.mean(0, dtype=np.float64)
    norm = np.linalg.norm(z, axis=0)
    size = norm * norm[column]
    out = np.full(z.shape[1], np.nan)
    varies = (norm > _CONSTANT * np.sqrt(len(z))) & (norm[column] > _CONSTANT * np.sqrt(len(z)))
    np.divide(z.T @ z[:, column], size, out=out, where=varies)
    return np.clip(out, -1.0, 1.0)
