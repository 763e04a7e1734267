"""How a command ends: 0 done, 1 a fault of ours, 2 bad input or usage, 130 interrupted."""

from __future__ import annotations

__all__ = ["BAD_INPUT", "DONE", "FAULT", "INTERRUPTED"]

DONE, FAULT, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
