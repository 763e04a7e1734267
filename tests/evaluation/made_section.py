"""A small made section with a pattern, its prediction, draws, band and baselines."""

from __future__ import annotations

from typing import Any

import numpy as np

from stem_core.evaluation.records import EvaluationInput

SIDE, GENES, DRAWS = 12, 24, 9


def made_input(seed: int = 0, **changes: Any) -> EvaluationInput:
    random = np.random.default_rng(seed)
    y, x = (a.ravel().astype(float) for a in np.mgrid[:SIDE, :SIDE])
    waves = np.stack(
        [np.sin(x * f / 4 + p) + np.cos(y * f / 5) for f, p in random.uniform(0.3, 2, (GENES, 2))],
        axis=1,
    )
    level = random.uniform(1, 3, GENES)
    noise = random.uniform(0.3, 1.2, GENES)
    signal = level + waves

    def drawn() -> np.ndarray:
        value = signal + noise * random.normal(size=signal.shape)
        return np.log2(1 + np.round(np.exp2(value.clip(0)) - 1)).astype(np.float32)

    given: dict[str, Any] = {
        "section": "A1",
        "symbols": tuple(f"GENE{g}" for g in range(GENES)),
        "x_um": 100 * x,
        "y_um": 100 * y,
        "measured": drawn(),
        "predicted": signal.clip(0).astype(np.float32),
        "samples": np.stack([drawn() for _ in range(DRAWS)], axis=1),
        "band": (
            (signal - 1.645 * noise).clip(0).astype(np.float32),
            (signal + 1.645 * noise).clip(0).astype(np.float32),
        ),
        "baselines": {
            "mean": np.tile(level, (len(x), 1)).astype(np.float32),
            "ridge": (signal + random.normal(size=signal.shape)).astype(np.float32),
        },
        "patient": "A",
        "trained_on": {"B1": "B", "C1": "C"},
        "protocol": "strict",
        "ranked_genes": tuple(f"GENE{g}" for g in reversed(range(GENES))),
    }
    return EvaluationInput(**given | changes)
