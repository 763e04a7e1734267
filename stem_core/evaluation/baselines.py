"""Baselines on the same condition: what the diffusion model has to beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stem_core.evaluation.metrics import pearson_by_gene
from stem_core.prediction.model import RidgeBaseline

__all__ = ["BASELINES", "fit_ridge", "predict_baseline", "rank_genes"]

BASELINES = ("mean", "ridge", "kernel ridge", "kNN")
_RIDGE_PENALTY = 300.0


def fit_ridge(condition: NDArray[np.float32], target: NDArray[np.float32]) -> RidgeBaseline:
    """Fit the ridge baseline, which model folders keep.

    Parameters
    ----------
    condition
        (N,C).
    target
        (N,G), log2(1 + count).
    """
    from sklearn.linear_model import Ridge

    mean, std = condition.mean(0), condition.std(0) + np.float32(1e-6)
    fitted = Ridge(alpha=_RIDGE_PENALTY).fit(np.clip((condition - mean) / std, -5, 5), target)
    return RidgeBaseline(
        mean, std, fitted.coef_.T.astype(np.float32), fitted.intercept_.astype(np.float32)
    )


def predict_baseline(
    name: str,
    condition: NDArray[np.float32],
    target: NDArray[np.float32],
    test: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Fit a baseline on training spots and predict test spots.

    All see every column of the condition, scaled by the training spots to unit variance and clipped
    to ±5. Penalties as in the strict-protocol trial that set the bars: ridge 300, RBF kernel ridge
    1 with γ = 0.2 / columns, 20 neighbours.

    Parameters
    ----------
    name
        One of `BASELINES`.
    condition, test
        (N,C) and (M,C).
    target
        (N,G), log2(1 + count).

    Returns
    -------
    float32 array, shape (M,G)
    """
    from sklearn.kernel_ridge import KernelRidge
    from sklearn.neighbors import KNeighborsRegressor

    mean, std = condition.mean(0), condition.std(0) + 1e-6
    a, b = (np.clip((x - mean) / std, -5, 5) for x in (condition, test))
    level = target.mean(0)
    if name == "mean":
        out = np.broadcast_to(level, (len(test), target.shape[1]))
    elif name == "ridge":
        out = fit_ridge(condition, target).predict(test)
    elif name == "kernel ridge":
        model = KernelRidge(alpha=1.0, kernel="rbf", gamma=0.2 / a.shape[1])
        out = model.fit(a, target - level).predict(b) + level
    elif name == "kNN":
        out = KNeighborsRegressor(20, weights="distance").fit(a, target).predict(b)
    else:
        msg = f"unknown baseline {name!r}"
        raise ValueError(msg)
    return np.asarray(out, dtype=np.float32)


def rank_genes(
    conditions: Sequence[NDArray[np.float32]],
    targets: Sequence[NDArray[np.float32]],
    symbols: Sequence[str],
) -> tuple[str, ...]:
    """Rank genes by how well a tissue's training sections predict each other.

    Each training section is predicted by ridge regression on the others; a gene's rank is that of
    its mean Pearson correlation. So a list of best genes is fixed before the test section is seen.

    Parameters
    ----------
    conditions, targets
        (N,C) and (N,G) of each training section.
    symbols
        The G genes.

    Returns
    -------
    tuple of str
        The genes, best first; empty for a single training section.
    """
    if len(targets) < 2:
        return ()
    found = []
    for held_out, (condition, target) in enumerate(zip(conditions, targets, strict=True)):
        others = [i for i in range(len(targets)) if i != held_out]
        ridge = fit_ridge(
            np.concatenate([conditions[i] for i in others]),
            np.concatenate([targets[i] for i in others]),
        )
        found.append(np.nan_to_num(pearson_by_gene(ridge.predict(condition), target)))
    order = np.argsort(-np.mean(found, axis=0), kind="stable")
    return tuple(symbols[i] for i in order)
