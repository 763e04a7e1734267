"""Noise that is a pure function of (seed, spot id, sample index).

Philox 4x32-10 (Salmon et al. 2011) keyed by a hash of seed and spot id; sample, step and gene form
the counter. So a spot gets bit-equal noise in any batch, chunk, process or device count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["gaussian_noise"]

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def _keys(seed: int, spot_ids: Sequence[str]) -> NDArray[np.uint64]:
    digests = b"".join(hashlib.sha256(f"{seed}\n{spot}".encode()).digest()[:8] for spot in spot_ids)
    return np.frombuffer(digests, dtype="<u4").reshape(-1, 2).astype(np.uint64)


def _philox(
    counter: list[NDArray[np.uint64]], key: list[NDArray[np.uint64]]
) -> list[NDArray[np.uint64]]:
    """Ten rounds on 32-bit words held in uint64 arrays."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = _M0 * c0, _M1 * c2
        c0, c1, c2, c3 = (p1 >> _SHIFT) ^ c1 ^ k0, p1 & _LOW, (p0 >> _SHIFT) ^ c3 ^ k1, p0 & _LOW
        k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    return [c0, c1, c2, c3]


def gaussian_noise(
    seed: int, spot_ids: Sequence[str], samples: Sequence[int], genes: int, *, step: int = 0
) -> NDArray[np.float32]:
    """Draw standard normal noise.

    Parameters
    ----------
    seed
        Of the whole run.
    spot_ids
        Names of N spots.
    samples
        Indices of the K samples wanted.
    genes
        G.
    step
        0 for the starting noise; 1, 2, … for the noise added in ancestral steps.

    Returns
    -------
    float32 array, shape (N, K, G)
    """
    key = _keys(seed, spot_ids)
    quads = -(-genes // 4)
    shape = (len(key), len(samples), quads)

    def spread(values: NDArray[np.uint64], axis: int) -> NDArray[np.uint64]:
        view = [1, 1, 1]
        view[axis] = -1
        return np.broadcast_to(values.reshape(view), shape)

    counter = [
        spread(np.arange(quads, dtype=np.uint64), 2),
        spread(np.asarray(samples, dtype=np.uint64), 1),
        np.full(shape, step, dtype=np.uint64),
        np.zeros(shape, dtype=np.uint64),
    ]
    words = np.stack(_philox(counter, [spread(key[:, 0], 0), spread(key[:, 1], 0)]), axis=-1)
    uniform = (words.astype(np.float64) + 0.5) * 2.0**-32
    # Box-Muller: two uniforms make two normals.
    radius = np.sqrt(-2.0 * np.log(uniform[..., 0::2]))
    angle = 2.0 * np.pi * uniform[..., 1::2]
    normal = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    return normal.reshape(*shape[:2], -1)[..., :genes].astype(np.float32)
