"""Checkpoints of a training: safetensors and JSON, whole or not there, the one before kept.

    <folder>/step-000001000/tensors.safetensors    weights, average, optimiser, random numbers
                            state.json             step, figures, sha256 of the tensors

A checkpoint is written aside and renamed, so a killed process leaves none that is half written.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from stem_core.errors import ModelFileError, SettingsError
from stem_core.files import atomic_directory

__all__ = ["Checkpoint", "CheckpointFolder"]

log = logging.getLogger(__name__)

_NAME = re.compile(r"step-(\d{9})")
_KEPT = 2
_VERSION = 2


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training after `step` steps: tensors, and all else as plain values."""

    step: int
    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class CheckpointFolder:
    """The checkpoints of one training.

    Attributes
    ----------
    folder
        Theirs alone.
    identity
        What the training is: recipe, data, settings. A checkpoint of another one is refused.
    """

    folder: Path
    identity: str

    def steps(self) -> list[int]:
        """Return the steps there are checkpoints of, in order."""
        found = self.folder.iterdir() if self.folder.is_dir() else ()
        return sorted(int(m[1]) for p in found if (m := _NAME.fullmatch(p.name)))

    def clear(self) -> None:
        """Remove what a process that was killed while it saved has left."""
        for path in self.folder.glob(".step-*"):
            shutil.rmtree(path, ignore_errors=True)

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, and remove all but the newest two.

        Raises
        ------
        OutputError
            It cannot be written; those before are as they were.
        """
        final = self._path(checkpoint.step)
        facts = json.dumps(checkpoint.facts, sort_keys=True, allow_nan=False)
        before = self.steps()
        kept = f"The checkpoint of step {before[-1]:,} is whole. " if before else ""
        advice = f"{kept}Free space there and continue with --resume."
        with atomic_directory(final, advice=advice, replace=True) as temporary:
            data = save({name: t.cpu().contiguous() for name, t in checkpoint.tensors.items()})
            state = {
                "version": _VERSION,
                "identity": self.identity,
                "step": checkpoint.step,
                "sha256": hashlib.sha256(data).hexdigest(),
                "facts": facts,
                "facts_sha256": hashlib.sha256(facts.encode()).hexdigest(),
            }
            _write(temporary / "tensors.safetensors", data)
            text = json.dumps(state, indent=1, allow_nan=False)
            _write(temporary / "state.json", text.encode())
        for step in self.steps()[:-_KEPT]:
            shutil.rmtree(self._path(step), ignore_errors=True)

    def newest(self) -> Checkpoint | None:
        """Read the newest sound checkpoint; report and skip damaged ones.

        Returns
        -------
        Checkpoint or None
            None where there are no checkpoints at all.

        Raises
        ------
        ModelFileError
            All there are, are damaged.
        SettingsError
            They are of another training.
        """
        steps, fault = self.steps(), ""
        for step in reversed(steps):
            try:
                return self._read(step)
            except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
                if isinstance(error, SettingsError):
                    raise
                fault = " ".join(str(error).split())[:200] or type(error).__name__
                log.warning(
                    "The checkpoint of step %s in %s is damaged (%s) and is left aside.",
                    f"{step:,}",
                    self.folder,
                    fault,
                )
        if not steps:
            return None
        msg = (
            f"Every checkpoint in {self.folder} is damaged ({fault}); remove that folder and "
            "start again."
        )
        raise ModelFileError(msg)

    def _read(self, step: int) -> Checkpoint:
        path = self._path(step)
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        if state["version"] != _VERSION or state["step"] != step:
            msg = "its state.json is of another step or version"
            raise ValueError(msg)
        data = (path / "tensors.safetensors").read_bytes()
        if hashlib.sha256(data).hexdigest() != state["sha256"]:
            msg = "its tensors are not those that were written"
            raise ValueError(msg)
        facts = str(state["facts"])
        if hashlib.sha256(facts.encode()).hexdigest() != state["facts_sha256"]:
            msg = "its state is not the one that was written"
            raise ValueError(msg)
        if state["identity"] != self.identity:
            msg = (
                f"The training in {self.folder} was begun with another recipe, other settings or "
                "other data; take those again, or remove that folder to start again."
            )
            raise SettingsError(msg)
        return Checkpoint(step, load(data), json.loads(facts))

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:09d}"


def _write(path: Path, data: bytes) -> None:
    """Write a file and wait until the disk has it."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
