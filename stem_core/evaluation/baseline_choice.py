"""Choose the settings of baselines, and how sure they are, on the training sections alone.

Each training section is predicted from the others; the settings with the lowest mean squared error
are taken, and the errors that are left tell how far a baseline's value is from the truth. So no
held-out section has a say in what the model is held against.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stem_core.evaluation.baselines import (
    BASELINES,
    KERNEL_SPOTS,
    BaselineSettings,
    evenly_taken,
    predict_baseline,
)

__all__ = ["ChosenBaselines", "choose_baselines"]

Array = NDArray[np.float32]

CANDIDATES: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "mean": ({},),
    "ridge": tuple({"ridge_penalty": p} for p in (30.0, 100.0, 300.0, 1000.0, 3000.0)),
    "kernel ridge": tuple(
        {"kernel_penalty": p, "kernel_gamma": g}
        for p in (0.3, 1.0, 3.0)
        for g in (0.05, 0.1, 0.2, 0.5)
    ),
    "kNN": tuple({"neighbours": k} for k in (5, 10, 20, 35, 50)),
}
_SPOTS = 3_000  # to choose by; with more, kernel ridge would take minutes
_FEWEST_SPOTS = 40
_MOST_PARTS = 6
_HALVINGS = 2  # of a single section, into contiguous quarters


@dataclass(frozen=True)
class ChosenBaselines:
    """Settings of the baselines, and their spread.

    Attributes
    ----------
    settings
        The chosen ones.
    spreads
        Name -> (G,): root mean square error of that baseline on spots it was not fitted on, each
        part counting alike; empty where there are too few spots to tell.
    n_spots
        Training spots.
    how
        In words.
    """

    settings: BaselineSettings
    spreads: Mapping[str, Array]
    n_spots: int
    how: str

    @property
    def by_name(self) -> dict[str, dict[str, float]]:
        """Settings of each baseline that has some, as a report shows them."""
        s = self.settings
        return {
            "ridge": {"penalty": s.ridge_penalty},
            "kernel ridge": {
                "penalty": s.kernel_penalty,
                "γ × columns": s.kernel_gamma,
                "training spots": min(self.n_spots, KERNEL_SPOTS),
            },
            "kNN": {"neighbours": min(s.neighbours, self.n_spots)},
        }


def choose_baselines(
    conditions: Sequence[Array],
    targets: Sequence[Array],
    positions: Sequence[NDArray[np.floating[Any]]],
    names: Sequence[str] = BASELINES,
) -> ChosenBaselines:
    """Choose the settings of baselines by predicting training sections from each other.

    With more than six sections, groups of sections are left out; of a single section, contiguous
    quarters. Of more than 3,000 spots so many are taken evenly. With fewer than 40 spots the
    settings are the default ones, and nothing is known of the spread.

    Parameters
    ----------
    conditions, targets
        (n,C) and (n,G) of each training section, log2(1 + count).
    positions
        (n,2) of each, in any unit.
    names
        Which baselines.
    """
    condition, target = np.concatenate(conditions), np.concatenate(targets)
    count = len(condition)
    if count < _FEWEST_SPOTS:
        how = f"Fixed settings: {count} training spots are too few to choose by."
        return ChosenBaselines(BaselineSettings(), {}, count, how)
    part, said = _parts(positions)
    how = f"Chosen on the training data alone: the lowest mean squared error {said}"
    if count > _SPOTS:
        rows = evenly_taken(count, _SPOTS)
        condition, target, part = condition[rows], target[rows], part[rows]
        how += f", on {_SPOTS:,} of {count:,} training spots, evenly taken"
    settings, spreads = BaselineSettings(), {}
    for name in names:
        found = [
            _inner_errors(name, condition, target, part, replace(settings, **candidate))
            for candidate in CANDIDATES[name]
        ]
        best = int(np.argmin([errors.mean() for errors in found]))
        settings = replace(settings, **CANDIDATES[name][best])
        spreads[name] = np.sqrt(found[best]).astype(np.float32)
    return ChosenBaselines(settings, spreads, count, f"{how}.")


def _inner_errors(
    name: str, condition: Array, target: Array, part: NDArray[np.int64], settings: BaselineSettings
) -> NDArray[np.float64]:
    """Mean squared error per gene of parts predicted from the others, (G,)."""
    errors = []
    for left_out in np.unique(part):
        test = part == left_out
        predicted = predict_baseline(
            name, condition[~test], target[~test], condition[test], settings
        ).clip(0)
        errors.append(((predicted - target[test]) ** 2).mean(0, dtype=np.float64))
    return np.asarray(np.mean(errors, axis=0))


def _parts(positions: Sequence[NDArray[np.floating[Any]]]) -> tuple[NDArray[np.int64], str]:
    """Return which part each spot is left out with, and what the parts are, in words."""
    sections = len(positions)
    if sections == 1:
        rows = _halved(positions[0], np.arange(len(positions[0])), _HALVINGS)
        part = np.empty(len(positions[0]), dtype=np.int64)
        for number, some in enumerate(rows):
            part[some] = number
        return part, "with a quarter of the training section predicted from the rest"
    groups = min(sections, _MOST_PARTS)
    part = np.concatenate(
        [np.full(len(p), i * groups // sections) for i, p in enumerate(positions)]
    )
    if groups == sections:
        return part, "with each training section predicted from the others"
    return part, f"with each of {groups} groups of training sections predicted from the others"


def _halved(
    positions: NDArray[np.floating[Any]], rows: NDArray[np.int64], times: int
) -> list[NDArray[np.int64]]:
    """Cut spots into contiguous halves across their longer side, again and again."""
    if times == 0:
        return [rows]
    here = positions[rows]
    order = rows[np.argsort(here[:, np.ptp(here, axis=0).argmax()], kind="stable")]
    middle = len(order) // 2
    return [
        half
        for some in (order[:middle], order[middle:])
        for half in _halved(positions, some, times - 1)
    ]
