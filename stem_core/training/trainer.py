"""Train the denoiser: AdamW, an average of weights with a warmed-up decay, and what keeps it going.

Alone or in several processes, broken off and resumed or not, it makes the same steps.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stem_core.diffusion.denoiser import Denoiser
from stem_core.diffusion.schedule import Schedule
from stem_core.errors import SettingsError, TrainingError
from stem_core.training.batches import Batch, BatchStream, TrainingPairs
from stem_core.training.checkpoints import Checkpoint, CheckpointFolder
from stem_core.training.distributed import DistributedContext
from stem_core.training.loss import DiffusionLoss
from stem_core.training.settings import DenoiserTraining
from stem_core.training.training_log import TrainingLog, TrainingProgress

__all__ = ["TrainingRun", "Validate", "train_denoiser"]

Validate = Callable[[Denoiser], Mapping[str, float]]


@dataclass(frozen=True)
class TrainingRun:
    """How a training runs, which does not change what it learns.

    Attributes
    ----------
    folder
        For checkpoints and the log; None: neither.
    identity
        Of recipe and data; a checkpoint of another one is refused.
    ranks
        The processes that share the work.
    progress
        Is told of each line of the log.
    """

    folder: Path | None = None
    identity: str = ""
    ranks: DistributedContext = field(default_factory=DistributedContext)
    progress: Callable[[TrainingProgress], None] | None = None


def train_denoiser(
    denoiser: Denoiser,
    schedule: Schedule,
    pairs: TrainingPairs,
    settings: DenoiserTraining,
    run: TrainingRun | None = None,
    validate: Validate | None = None,
) -> Denoiser:
    """Train in place and return the average of weights, on the CPU.

    With a folder it goes on from the newest checkpoint there, to the same weights as if it had
    never stopped (bit for bit on one CPU in fp32).

    Parameters
    ----------
    denoiser
        Network with its first weights.
    schedule
        Noise schedule.
    pairs
        Spots to learn from.
    settings, run
        What to do, and where.
    validate
        Figures of the average of weights on validation sections; `crps` decides on stopping early.

    Raises
    ------
    TrainingError
        The loss is not a number any more, or another process ended.
    OutputError
        A checkpoint or the log cannot be written.
    ModelFileError
        No checkpoint is sound.
    SettingsError
        The checkpoints are of another training, or further than this one goes.
    """
    run = TrainingRun() if run is None else run
    ranks, device = run.ranks, run.ranks.device
    least = ranks.world * settings.accumulate
    if settings.batch * settings.noises < least:
        msg = (
            f"A batch of {settings.batch} × {settings.noises} cannot be shared by {ranks.world} "
            f"processes in {settings.accumulate} parts each; choose a larger batch."
        )
        raise SettingsError(msg)
    state = _State(denoiser.to(device), settings)
    stream = BatchStream(pairs, schedule.steps, denoiser.config.symmetric, settings)
    store = None
    if run.folder is not None:
        store = CheckpointFolder(run.folder / "checkpoints", run.identity)
        if ranks.first:
            store.clear()
        if (found := store.newest()) is not None:
            _require_shorter(found.step, settings.steps)
            state.restore(found, stream)
            state.running = state.running if ranks.first else 0.0
    journal = TrainingLog(
        run.folder if ranks.first else None,
        settings.steps,
        state.step,
        state.elapsed_s,
        run.progress if ranks.first else None,
    )
    model = ranks.wrap(DiffusionLoss(denoiser, schedule))
    denoiser.train()
    while state.step < settings.steps and not state.finished:
        rate = float(state.optimiser.param_groups[0]["lr"])
        state.running += _learn(model, stream.draw(), state, ranks, settings)
        state.step += 1
        state.since_line += 1
        last = state.step == settings.steps
        looks = validate is not None and (last or state.step % settings.validate_every == 0)
        if looks or last or state.step % settings.log_every == 0:
            loss = ranks.total(state.running) / state.since_line
            _require_finite(loss, state)
            figures = dict(validate(state.average)) if validate is not None and looks else {}
            if figures:
                state.judge(ranks.from_first(figures["crps"]), settings.patience)
            over = last or state.finished
            journal.line(state.step, loss, rate, figures, state.best_step if over else None)
            state.running, state.since_line = 0.0, 0
        if last or state.finished or state.step % settings.checkpoint_every == 0:
            # The others' part of the running loss goes into the first one's checkpoint.
            running = ranks.total(state.running)
            _require_finite(running, state)
            if store is not None and ranks.first:
                store.save(state.checkpoint(stream, journal.elapsed_s, running))
            state.running = running if ranks.first else 0.0
    return state.result().to(torch.device("cpu")).eval()


def _require_shorter(done: int, steps: int) -> None:
    if done > steps:
        msg = (
            f"The training has {done:,} steps behind it, and the recipe asks for {steps:,}; ask "
            "for no fewer, or start again in another folder (--work)."
        )
        raise SettingsError(msg)


def _require_finite(loss: float, state: _State) -> None:
    """Stop a training that has diverged, before anything sound is written over."""
    if math.isfinite(loss) and all(bool(p.isfinite().all()) for p in state.denoiser.parameters()):
        return
    what = "weights are" if math.isfinite(loss) else "loss is"
    msg = (
        f"The {what} no number any more by step {state.step:,}: the training has diverged; choose "
        "a smaller training.denoiser.learning_rate, or precision fp32."
    )
    raise TrainingError(msg)


def _learn(
    model: nn.Module,
    batch: Batch,
    state: _State,
    ranks: DistributedContext,
    settings: DenoiserTraining,
) -> float:
    """Make one step on this process's share of a batch; return its share of the loss."""
    parts = np.array_split(np.arange(len(batch)), ranks.world * settings.accumulate)
    mine = parts[ranks.rank * settings.accumulate : (ranks.rank + 1) * settings.accumulate]
    state.optimiser.zero_grad(set_to_none=True)
    total = 0.0
    for index, rows in enumerate(mine):
        # Gradients are averaged over processes, so each one's counts by its share of the batch.
        weight = len(rows) / len(batch)
        share = batch.share(slice(int(rows[0]), int(rows[-1]) + 1), ranks.device)
        with _quiet(model, index + 1 < len(mine)):
            with _autocast(ranks.device, settings.precision):
                loss = model(share)
            torch.autograd.backward(loss * (weight * ranks.world))
        total += weight * loss.item()
    if settings.clip is not None:
        torch.nn.utils.clip_grad_norm_(state.denoiser.parameters(), settings.clip)
    state.optimiser.step()
    if state.rates is not None:
        state.rates.step()
    decay = min(settings.ema, (1 + state.step) / (10 + state.step))
    with torch.no_grad():
        for a, b in zip(state.average.parameters(), state.denoiser.parameters(), strict=True):
            a.lerp_(b, 1 - decay)
    return total


@contextlib.contextmanager
def _quiet(model: nn.Module, more: bool) -> Iterator[None]:
    """Share gradients with the other processes at the last part of a batch alone."""
    if more and isinstance(model, nn.parallel.DistributedDataParallel):
        with model.no_sync():
            yield
    else:
        yield


def _autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


class _State:
    """All that changes while training."""

    def __init__(self, denoiser: Denoiser, settings: DenoiserTraining) -> None:
        self.denoiser = denoiser
        self.average = copy.deepcopy(denoiser).requires_grad_(False)
        self.optimiser = torch.optim.AdamW(
            denoiser.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.rates: torch.optim.lr_scheduler.OneCycleLR | None = None
        if settings.schedule == "one-cycle":
            self.rates = torch.optim.lr_scheduler.OneCycleLR(
                self.optimiser, settings.learning_rate, total_steps=settings.steps, pct_start=0.1
            )
        self.step = 0
        self.running, self.since_line = 0.0, 0  # loss since the last line of the log
        self.elapsed_s = 0.0
        self.best: dict[str, Tensor] = {}
        self.best_crps, self.worse, self.finished = math.inf, 0, False
        self.best_step: int | None = None

    def judge(self, crps: float, patience: int) -> None:
        """Keep the best average, and stop when it has long been the best."""
        if patience == 0:
            return
        self.worse = 0 if crps < self.best_crps else self.worse + 1
        if self.worse == 0:
            self.best_crps, self.best_step = crps, self.step
            self.best = {k: v.clone() for k, v in self.average.state_dict().items()}
        self.finished = self.worse >= patience

    def result(self) -> Denoiser:
        """Return the average, the best one where that was looked for."""
        if self.best:
            self.average.load_state_dict(self.best)
        return self.average

    def checkpoint(self, stream: BatchStream, elapsed_s: float, running: float) -> Checkpoint:
        numbers, generator = stream.state()
        optimiser = self.optimiser.state_dict()
        tensors = {
            **{f"weights.{k}": v for k, v in self.denoiser.state_dict().items()},
            **{f"average.{k}": v for k, v in self.average.state_dict().items()},
            **{f"best.{k}": v for k, v in self.best.items()},
            **{
                f"optimiser.{index}.{name}": value
                for index, values in optimiser["state"].items()
                for name, value in values.items()
            },
            "random.torch": generator,
        }
        facts = {
            "random.numpy": numbers,
            "groups": optimiser["param_groups"],
            "rates": None if self.rates is None else self.rates.last_epoch,
            "running": running,
            "since_line": self.since_line,
            "elapsed_s": elapsed_s,
            "best_crps": self.best_crps if self.best else None,
            "best_step": self.best_step,
            "worse": self.worse,
            "finished": self.finished,
        }
        return Checkpoint(self.step, tensors, facts)

    def restore(self, found: Checkpoint, stream: BatchStream) -> None:
        facts = found.facts
        parts: dict[str, dict[str, Tensor]] = {}
        for name, value in found.tensors.items():
            kind, _, rest = name.partition(".")
            parts.setdefault(kind, {})[rest] = value
        self.denoiser.load_state_dict(parts["weights"])
        self.average.load_state_dict(parts["average"])
        states: dict[int, dict[str, Tensor]] = {}
        for name, value in parts["optimiser"].items():
            index, _, what = name.partition(".")
            states.setdefault(int(index), {})[what] = value
        groups = [{**group, "betas": tuple(group["betas"])} for group in facts["groups"]]
        self.optimiser.load_state_dict({"state": states, "param_groups": groups})
        if self.rates is not None:
            self.rates.last_epoch = facts["rates"]
        stream.restore(facts["random.numpy"], parts["random"]["torch"])
        self.step, self.elapsed_s = found.step, facts["elapsed_s"]
        self.running, self.since_line = facts["running"], facts["since_line"]
        self.best = parts.get("best", {})
        self.best_crps = math.inf if facts["best_crps"] is None else facts["best_crps"]
        self.best_step, self.worse = facts["best_step"], facts["worse"]
        self.finished = facts["finished"]
