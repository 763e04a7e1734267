"""What the browser tests share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunningApp:
    """A running app: its address, its home, and the model to choose in it."""

    address: str
    home: Path
    model: str
