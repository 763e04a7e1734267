"""What is learned of residuals beside the network: covariance, bands, and the training domain."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stem_core.model.stem_model import Bands, DomainReference
from stem_core.prediction.sampling import spread
from stem_core.prediction.settings import SamplingSettings

__all__ = ["calibrate_bands", "domain_reference", "match_variance", "whiten", "within_sections"]

Array = NDArray[np.float32]


def within_sections(values: Array, section: NDArray[np.int64]) -> Array:
    """Take values (N,G) relative to the average of their section (N,)."""
    out = values.copy()
    for s in np.unique(section):
        out[section == s] -= values[section == s].mean(0)
    return out


def whiten(residual: Array) -> tuple[Array, Array]:
    """Find the symmetric root of the residuals' covariance, (G,G), and the whitened residuals.

    The correlation is shrunk (Ledoit & Wolf 2004), since there are few more spots than genes. The
    symmetric root keeps every whitened variable as close to its own gene as can be.
    """
    from sklearn.covariance import ledoit_wolf

    std = residual.std(0) + 1e-3
    scaled = (residual / std).astype(np.float64)
    correlation, _ = ledoit_wolf(scaled, assume_centered=True)
    values, vectors = np.linalg.eigh(correlation)
    root = (vectors * np.sqrt(values)) @ vectors.T
    white = scaled @ ((vectors / np.sqrt(values)) @ vectors.T)
    return (std[:, None] * root).astype(np.float32), white.astype(np.float32)


def domain_reference(
    embeddings: Array, section: NDArray[np.int64], components: int
) -> DomainReference:
    """Learn where the training spots lie: (N,W) embeddings, whitened by their main components."""
    mean, std = embeddings.mean(0), embeddings.std(0) + 1e-6
    _, s, v = np.linalg.svd((embeddings - mean) / std, full_matrices=False)
    projection = (v[:components].T / (s[:components] / np.sqrt(len(embeddings)))) / std[:, None]
    reference = DomainReference(mean, projection.astype(np.float32), 1.0)
    return replace(reference, unit=float(np.quantile(reference.distance(embeddings), 0.95)))


def match_variance(
    draws: Array, expected: Array, target: Array, section: NDArray[np.int64]
) -> Array:
    """Per gene, the factor on residual draws that makes single draws vary as the tissue does.

    Over a section; the median over sections, drawn halfway to the median over genes.
    """
    factors = []
    for s in np.unique(section):
        here = section == s
        missing = target[here].var(0) - expected[here].var(0)
        drawn = draws[here].var(0).mean(0)
        factors.append(missing / np.maximum(drawn, 1e-6))
    squared = np.median(np.stack(factors), 0).clip(0.1, 3.0)
    shrunk = (0.5 * squared + 0.5 * np.median(squared)).clip(0.2, 2.5)
    out: Array = np.sqrt(shrunk).astype(np.float32)
    return out


def calibrate_bands(
    draws: Array,
    residual: Array,
    section: NDArray[np.int64],
    doubts: Array | None,
    settings: SamplingSettings,
) -> Bands:
    """Fit the band to the errors of sections left out: within them per gene, of their level once.

    A section's misjudged level is one error, not one a spot, so it is kept apart; without doubts
    about it there is none.
    """
    error = residual - draws.mean(1)
    std = spread(draws, settings)
    typical = np.sqrt((std**2).mean(0))
    relative = within_sections(error, section) / np.sqrt((std**2 + typical**2) / 2)
    low, high = np.quantile(relative, (0.05, 0.95), axis=0)
    per_doubt = [
        (error[section == s].mean(0) ** 2).mean() / max(doubt, 1e-3) ** 2
        for s, doubt in enumerate([] if doubts is None else doubts)
    ]
    return Bands(
        typical.astype(np.float32),
        (-low).clip(0).astype(np.float32),
        high.clip(0).astype(np.float32),
        float(np.sqrt(np.mean(per_doubt))) if per_doubt else 0.0,
    )
