"""What tests of reading ahead hand to other processes, and such a process's parent."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stem_core.encoders.preparation import Prepared
from stem_core.encoders.reading_ahead import ReadingWorkers, embed_places
from stem_core.errors import SlideOpenError
from stem_core.slides.reading import Slide, open_slide

if TYPE_CHECKING:  # the processes that read do without it
    import torch


@dataclass(frozen=True)
class Where:
    """Instead of patches, the process that read them; in all but one it may fail."""

    fails_outside: int = 0

    def __call__(self, patches: NDArray[np.uint8]) -> Prepared:
        if self.fails_outside and os.getpid() != self.fails_outside:
            msg = f"{len(patches)} patches cannot be read there; look."
            raise SlideOpenError(msg)
        return np.frombuffer(os.getpid().to_bytes(8, "little"), np.uint8)


class Places:
    """An encoder of nothing; it waits until others read, and is told by whom."""

    name, width, sha256, arithmetic = "places", 1, "0" * 64, "fp32 cpu"
    preparation = Where()

    def __init__(self) -> None:
        self.readers: list[int] = []

    def encode(self, patches: NDArray[np.uint8], *, batch: int = 64) -> NDArray[np.float32]:
        return np.zeros((len(patches), 1), np.float32)

    def encode_prepared(self, prepared: Prepared) -> NDArray[np.float32]:
        time.sleep(0.02)
        self.readers.append(read_by(prepared))
        if self.elsewhere:
            self.found(self.elsewhere)
        return np.zeros((1, 1), np.float32)

    @property
    def elsewhere(self) -> list[int]:
        return sorted({pid for pid in self.readers if pid != os.getpid()})

    def found(self, pids: list[int]) -> None:
        """Readers of other processes."""

    def to(self, device: torch.device) -> None:
        """Nothing to move."""


class Spoken(Places):
    """Says once who reads."""

    said = False

    def found(self, pids: list[int]) -> None:
        if len(pids) == 2 and not self.said:
            self.said = True
            print(*pids, flush=True)


def read_by(prepared: Prepared) -> int:
    assert isinstance(prepared, np.ndarray)
    return int.from_bytes(prepared.tobytes(), "little")


def embed_long(slide: Slide, encoder: Places) -> None:
    """Embed more places than there is time for."""
    many = np.full(64 * 5000, 300.0)
    workers = ReadingWorkers(2, processes=True)
    embed_places(slide, many, many, encoder, side_um=8.0, size_px=2, workers=workers)


def embed_until_stopped() -> None:
    """Embed the slide of the command line with two processes, and say who they are."""
    with open_slide(sys.argv[1]) as opened:
        embed_long(opened, Spoken())
