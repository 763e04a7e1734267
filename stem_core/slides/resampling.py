"""Area-averaged resampling of a part of an image, exact for boxes that begin between two pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

__all__ = ["axis_weights", "resample", "to_uint8"]


def axis_weights(start: float, stop: float, out: int, size: int) -> sparse.csr_array:
    """Weights that resample one axis of an image.

    Output cell i covers the interval [start + i·s, start + (i+1)·s] with s = (stop - start) / out.
    For s ≥ 1 its weights are the shares of that interval that the pixels cover (area average); for
    s < 1 the two pixels around the middle of the cell are interpolated linearly.

    Parameters
    ----------
    start, stop
        The interval in pixels of the image axis; it may reach outside [0, size].
    out
        Number of output cells.
    size
        Number of pixels on the axis.

    Returns
    -------
    scipy.sparse.csr_array, shape (out, size), float32
        A row sums to 1 inside the image and to less where its cell lies partly outside.
    """
    step = (stop - start) / out
    if step < 1.0:
        middle = start + (np.arange(out) + 0.5) * step
        left = np.floor(middle - 0.5).astype(np.int64)
        share = middle - 0.5 - left
        rows = np.repeat(np.arange(out), 2)
        columns = np.stack([left, left + 1], axis=1).ravel()
        weights = np.stack([1.0 - share, share], axis=1).ravel()
        # a cell whose middle is on the image uses its edge pixel instead of the white beyond it
        on_image = np.repeat((middle >= 0) & (middle <= size), 2)
        columns = np.where(on_image, columns.clip(0, size - 1), columns)
    else:
        edges = start + np.arange(out + 1) * step
        first = np.floor(edges[:-1]).astype(np.int64)
        width = int(np.ceil(step)) + 1
        columns = first[:, None] + np.arange(width)
        weights = np.minimum(columns + 1, edges[1:, None]) - np.maximum(columns, edges[:-1, None])
        weights = weights.clip(0.0).ravel() / step
        columns = columns.ravel()
        rows = np.repeat(np.arange(out), width)
    inside = (columns >= 0) & (columns < size) & (weights > 0)
    return sparse.csr_array(
        (weights[inside].astype(np.float32), (rows[inside], columns[inside])), shape=(out, size)
    )


def resample(
    image: NDArray[np.uint8], rows: sparse.csr_array, columns: sparse.csr_array
) -> NDArray[np.float32]:
    """Resample an RGB image; what the weights leave uncovered is white.

    Parameters
    ----------
    image
        uint8, shape (h, w, 3).
    rows, columns
        Weights from `axis_weights`, shapes (out_h, h) and (out_w, w).

    Returns
    -------
    float32, shape (out_h, out_w, 3), 0 to 255
    """
    height, width, _ = image.shape
    out_height, out_width = rows.shape[0], columns.shape[0]
    tall = rows @ image.reshape(height, width * 3).astype(np.float32)
    tall = tall.reshape(out_height, width, 3).transpose(1, 0, 2).reshape(width, out_height * 3)
    wide = (columns @ tall).reshape(out_width, out_height, 3).transpose(1, 0, 2)
    covered = np.outer(rows.sum(axis=1), columns.sum(axis=1))[:, :, None]
    return np.asarray(wide + 255.0 * (1.0 - covered), dtype=np.float32)


def to_uint8(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Round to whole pixel values."""
    rounded: NDArray[np.uint8] = np.clip(values + 0.5, 0, 255).astype(np.uint8)
    return rounded
