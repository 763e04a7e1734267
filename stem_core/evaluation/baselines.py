"""Baselines on the same condition: what the diffusion model has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stem_core.evaluation.metrics import pearson_by_gene
from stem_core.model.stem_model import RidgeBaseline

__all__ = [
    "BASELINES",
    "KERNEL_SPOTS",
    "BaselineSettings",
    "evenly_taken",
    "fit_ridge",
    "predict_baseline",
    "rank_genes",
]

BASELINES = ("mean", "ridge", "kernel ridge", "kNN")
KERNEL_SPOTS = 12_000  # over more spots kernel ridge would need more memory than there is


@dataclass(frozen=True)
class BaselineSettings:
    """Settings of the baselines.

    Attributes
    ----------
    ridge_penalty, kernel_penalty
        Added to the squared singular values, and to the kernel's diagonal.
    kernel_gamma
        γ of the RBF kernel, times the number of columns.
    neighbours
        Of kNN; all training spots where they are fewer.
    """

    ridge_penalty: float = 300.0
    kernel_penalty: float = 1.0
    kernel_gamma: float = 0.2
    neighbours: int = 20


DEFAULT = BaselineSettings()


def fit_ridge(
    condition: NDArray[np.float32],
    target: NDArray[np.float32],
    penalty: float = DEFAULT.ridge_penalty,
) -> RidgeBaseline:
    """Fit the ridge baseline, which model folders keep.

    Parameters
    ----------
    condition
        (N,C).
    target
        (N,G), log2(1 + count).
    penalty
        On scaled columns, see `stem_core.evaluation.baseline_choice.choose_baselines`.
    """
    from sklearn.linear_model import Ridge

    mean, std = condition.mean(0), condition.std(0) + np.float32(1e-6)
    fitted = Ridge(alpha=penalty).fit(np.clip((condition - mean) / std, -5, 5), target)
    return RidgeBaseline(
        mean, std, fitted.coef_.T.astype(np.float32), fitted.intercept_.astype(np.float32)
    )


def predict_baseline(
    name: str,
    condition: NDArray[np.float32],
    target: NDArray[np.float32],
    test: NDArray[np.float32],
    settings: BaselineSettings = DEFAULT,
) -> NDArray[np.float32]:
    """Fit a baseline on training spots and predict test spots.

    All see every column of the condition, scaled by the training spots to unit variance and clipped
    to ±5, and every training spot; kernel ridge at most `KERNEL_SPOTS` of them, evenly taken.

    Parameters
    ----------
    name
        One of `BASELINES`.
    condition, test
        (N,C) and (M,C).
    target
        (N,G), log2(1 + count).
    settings
        As chosen by `stem_core.evaluation.baseline_choice.choose_baselines`.

    Returns
    -------
    float32 array, shape (M,G)
    """
    from sklearn.kernel_ridge import KernelRidge
    from sklearn.neighbors import KNeighborsRegressor

    if name == "kernel ridge":
        chosen = evenly_taken(len(condition), KERNEL_SPOTS)
        condition, target = condition[chosen], target[chosen]
    mean, std = condition.mean(0), condition.std(0) + np.float32(1e-6)
    level = target.mean(0)
    if name == "mean":
        out = np.broadcast_to(level, (len(test), target.shape[1]))
    elif name == "ridge":
        out = fit_ridge(condition, target, settings.ridge_penalty).predict(test)
    elif name in BASELINES:
        a, b = (np.clip((x - mean) / std, -5, 5) for x in (condition, test))
        if name == "kNN":
            near = KNeighborsRegressor(min(settings.neighbours, len(a)), weights="distance")
            out = near.fit(a, target).predict(b)
        else:
            gamma = settings.kernel_gamma / a.shape[1]
            kernel = KernelRidge(alpha=settings.kernel_penalty, kernel="rbf", gamma=gamma)
            out = kernel.fit(a, target - level).predict(b) + level
    else:
        msg = f"unknown baseline {name!r}"
        raise ValueError(msg)
    return np.asarray(out, dtype=np.float32)


def evenly_taken(count: int, most: int) -> NDArray[np.int64]:
    """Return places of at most so many of `count` spots, evenly taken."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)


def rank_genes(
    conditions: Sequence[NDArray[np.float32]],
    targets: Sequence[NDArray[np.float32]],
    symbols: Sequence[str],
    penalty: float = DEFAULT.ridge_penalty,
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
    penalty
        Of the ridge regression.

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
            penalty,
        )
        found.append(np.nan_to_num(pearson_by_gene(ridge.predict(condition), target)))
    order = np.argsort(-np.mean(found, axis=0), kind="stable")
    return tuple(symbols[i] for i in order)
