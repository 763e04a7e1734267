"""The log of a training: a CSV file, TensorBoard where it is installed, and the time left."""

from __future__ import annotations

import csv
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stem_core.errors import missing_extra
from stem_core.files import atomic_write, unwritable_as

__all__ = ["TrainingLog", "TrainingProgress"]

log = logging.getLogger(__name__)

_ADVICE = "Free space there and continue with --resume."
_COLUMNS = ("step", "loss", "learning_rate", "pcc_all", "mse", "crps", "elapsed_s", "left_s")


@dataclass(frozen=True)
class TrainingProgress:
    """How far a training is.

    Attributes
    ----------
    step, steps
        Done, and in all.
    loss
        Mean since the line before.
    left_s
        Seconds left at the pace so far.
    figures
        Of the validation sections, where they were looked at.
    kept_step
        Whose weights are kept, once the training is over and the best were looked for.
    """

    step: int
    steps: int
    loss: float
    left_s: float
    figures: Mapping[str, float] = field(default_factory=dict)
    kept_step: int | None = None


class TrainingLog:
    """Writes the log of one training.

    Parameters
    ----------
    folder
        Where `log.csv` and `tensorboard/` go; None: nowhere.
    steps
        In all.
    begun_at
        Step the training goes on from; later lines of a broken-off one are removed.
    before_s
        Seconds it took until then.
    progress
        Is told of each line.
    """

    def __init__(
        self,
        folder: Path | None,
        steps: int,
        begun_at: int = 0,
        before_s: float = 0.0,
        progress: Callable[[TrainingProgress], None] | None = None,
    ) -> None:
        self._steps, self._begun_at, self._before_s = steps, begun_at, before_s
        self._started = time.monotonic()
        self._progress = progress
        self._path = None if folder is None else folder / "log.csv"
        self._board: Any = None
        if self._path is None:
            return
        with unwritable_as(self._path, _ADVICE):
            kept = _rows_until(self._path, begun_at)
            with (
                atomic_write(self._path, advice=_ADVICE, parents=True) as temporary,
                temporary.open("w", newline="", encoding="utf-8") as file,
            ):
                writer = csv.DictWriter(file, _COLUMNS)
                writer.writeheader()
                writer.writerows(kept)
            self._board = _tensorboard(self._path.parent / "tensorboard", begun_at)

    @property
    def elapsed_s(self) -> float:
        """Seconds of training, over all its parts."""
        return self._before_s + time.monotonic() - self._started

    def line(
        self,
        step: int,
        loss: float,
        learning_rate: float,
        figures: Mapping[str, float],
        kept_step: int | None = None,
    ) -> None:
        """Write a line; with `kept_step` (see `TrainingProgress`) it is the last one.

        Raises
        ------
        OutputError
            It cannot be written.
        """
        spent = time.monotonic() - self._started
        left_s = spent / max(1, step - self._begun_at) * (self._steps - step)
        if kept_step is not None:
            left_s = 0.0
        values = {"loss": loss, "learning_rate": learning_rate, **figures}
        log.info("step %d of %d: loss %.4f, %.0f s left", step, self._steps, loss, left_s)
        if self._progress is not None:
            self._progress(TrainingProgress(step, self._steps, loss, left_s, figures, kept_step))
        if self._path is not None:
            row = {
                "step": step,
                **{name: f"{value:.8g}" for name, value in values.items()},
                "elapsed_s": f"{self.elapsed_s:.1f}",
                "left_s": f"{left_s:.0f}",
            }
            with (
                unwritable_as(self._path, _ADVICE),
                self._path.open("a", newline="", encoding="utf-8") as file,
            ):
                csv.DictWriter(file, _COLUMNS).writerow(row)
        if self._path is not None and self._board is not None:
            with unwritable_as(self._path.parent / "tensorboard", _ADVICE):
                for name, value in values.items():
                    self._board.add_scalar(name, value, step)
                self._board.flush()


def _rows_until(path: Path, step: int) -> list[dict[str, str]]:
    if step == 0 or not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (ValueError, csv.Error) as error:
        log.warning("The log %s is damaged (%s); a new one is started.", path, error)
        return []
    return [
        {name: row.get(name) or "" for name in _COLUMNS}
        for row in rows
        if (row.get("step") or "").isdigit() and int(row["step"]) <= step
    ]


def _tensorboard(folder: Path, begun_at: int) -> Any:
    """Open TensorBoard's log, if it is installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        log.info("%s", missing_extra("A log for TensorBoard", "tensorboard", "training"))
        return None
    return SummaryWriter(str(folder), purge_step=begun_at + 1)
