"""Training draws from torch's global random state; whoever calls it gets that state back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["random_state_kept"]


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Restore torch's random state, of the CPU and of all GPUs, when the block or function ends."""
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        yield
