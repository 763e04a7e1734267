"""The processes that train together: who is who, and what happens when one of them dies.

`torchrun` starts them and says by environment variables who they are. On CPUs they talk by gloo, on
GPUs by NCCL.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from types import FrameType
from typing import NoReturn

import torch
from torch import nn

from stem_core.errors import SettingsError, TrainingError

__all__ = ["DistributedContext", "joined_ranks", "lost_rank"]

# While the first process evaluates a fold, the others wait for it.
_PATIENCE = timedelta(hours=24)
_GONE = ("connection", "broken pipe", "peer", "remote process", "nccl", "socket", "closed")
_ADVICE = "start the same command again with --resume to go on from the last checkpoint."


@dataclass(frozen=True)
class DistributedContext:
    """One process among those that train together; by default it is alone.

    Attributes
    ----------
    rank, world
        Which of how many.
    device
        Where this process trains.
    """

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.rank == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """Make the processes share their gradients."""
        if self.world == 1:
            return module
        ids = [self.device.index] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(module, device_ids=ids)

    def total(self, value: float) -> float:
        """Sum a number over the processes."""
        if self.world == 1:
            return value
        summed = torch.tensor(value, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(summed)
        return float(summed)

    def from_first(self, value: float) -> float:
        """Give every process the first one's number."""
        if self.world == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64, device=self.device)
        torch.distributed.broadcast(shared, 0)
        return float(shared)

    def wait(self) -> None:
        """Wait for the others."""
        self.total(0.0)


@contextlib.contextmanager
def joined_ranks(device: str) -> Iterator[DistributedContext]:
    """Join the other processes, if there are others, until the work is done.

    Parameters
    ----------
    device
        `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises
    ------
    TrainingError
        Another process ended, or cannot be reached.
    SettingsError
        The device is not there.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    rank, local = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    here = _device(device, local)
    if world == 1:
        yield DistributedContext(device=here)
        return
    before = signal.signal(signal.SIGTERM, _told_to_end)
    try:
        if here.type == "cuda":
            torch.cuda.set_device(here)
        torch.distributed.init_process_group(
            "nccl" if here.type == "cuda" else "gloo", timeout=_PATIENCE
        )
        yield DistributedContext(rank, world, here)
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
    except RuntimeError as error:
        if isinstance(error, TrainingError) or not lost_rank(error):
            raise
        msg = f"Another of the {world} training processes ended; {_ADVICE}"
        raise TrainingError(msg) from error
    finally:
        signal.signal(signal.SIGTERM, before)


def lost_rank(error: BaseException) -> bool:
    """Tell whether an error says that another process is gone."""
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(word in text for word in _GONE)


def _told_to_end(number: int, frame: FrameType | None) -> NoReturn:
    """`torchrun` ends the others when one has died."""
    msg = f"The training was asked to end, mostly since another of its processes did; {_ADVICE}"
    raise TrainingError(msg)


def _device(name: str, local: int) -> torch.device:
    available = torch.cuda.is_available()
    if name == "auto":
        name = "cuda" if available else "cpu"
    if name == "cpu":
        return torch.device("cpu")
    index = int(name.partition(":")[2] or local)
    if not available or index >= torch.cuda.device_count():
        msg = f"There is no device '{name}' for process {local} here; choose cpu, or auto."
        raise SettingsError(msg)
    return torch.device("cuda", index)
