"""Several processes that train together: the same losses as one, and what happens when one dies."""

from __future__ import annotations

import csv
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from tests.forked import Forked, run_forked, run_stem
from tests.training.process_training import train
from tests.training.tiny_training import HER2ST, ROOT, options, write_her2st

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def losses(folder: Path) -> list[float]:
    with (folder / "log.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    """`torchrun`, gloo on the CPU, the same batch; three parts of unequal size among them."""
    train(tmp_path / "one")
    command = ["--standalone", "--nproc-per-node", "2", "-m", "tests.training.process_training"]
    done = run_forked(
        "torch.distributed.run:main", [*command, tmp_path / "two"], ENVIRONMENT, ROOT, 500
    )
    assert done.returncode == 0, done.stderr
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == 20
    np.testing.assert_allclose(two, one, atol=1e-4)
    kept = [
        load_file(tmp_path / which / "checkpoints/step-000000020/tensors.safetensors")
        for which in ("one", "two")
    ]
    for name, value in kept[0].items():
        if name.startswith("average."):
            np.testing.assert_allclose(kept[1][name], value, atol=1e-4)


def ranks_below(launcher: int) -> dict[int, int]:
    """Return rank -> process id of what a process started."""
    found = {}
    for task in Path(f"/proc/{launcher}/task").iterdir():
        for child in (task / "children").read_text().split():
            try:
                said = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
            except OSError:
                continue
            rank = next((e for e in said if e.startswith(b"RANK=")), None)
            if rank is not None:
                found[int(rank[5:])] = int(child)
    return found


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the processes in /proc")
def test_a_killed_process_ends_the_training_with_one_sentence(tmp_path: Path) -> None:
    data = write_her2st(tmp_path / "data")
    command = [
        "train", str(HER2ST), "--data", str(data), "--out", str(tmp_path / "model"),
        "--processes", "2",
        *options(training__denoiser__steps="100000", training__denoiser__schedule="constant"),
    ]  # fmt: skip
    checkpoints = tmp_path / "model.training/final/checkpoints"
    environment = ENVIRONMENT | {"STEM_HOME": str(tmp_path / "home")}
    err = tmp_path / "err"
    running = Forked("app.cli:main", command, environment, ROOT, tmp_path / "out", err)
    try:
        until = time.monotonic() + 400
        while not list(checkpoints.glob("step-*")):
            assert running.poll() is None and time.monotonic() < until, err.read_text()
            time.sleep(0.2)
        os.kill(ranks_below(running.pid)[1], signal.SIGKILL)
        assert running.wait(100) == 2
    finally:
        running.terminate()
    said = err.read_text()
    assert said.count("\n") == 1
    assert "Process 2 of the 2 that trained together was killed by SIGKILL" in said
    assert "--resume" in said
    newest = max(int(p.name[5:]) for p in checkpoints.glob("step-*"))
    # Alone, it goes on from there and ends with a model.
    again = [part for part in command if part not in ("--processes", "2")]
    again[again.index("training.denoiser.steps=100000")] = f"training.denoiser.steps={newest + 10}"
    done = run_stem([*again, "--resume"], environment, ROOT, 500)
    assert done.returncode == 0, done.stderr
    assert f"step {newest + 10:,} of {newest + 10:,}" in done.stdout
    assert f"step {newest - 5:,} of" not in done.stdout
    assert (tmp_path / "model/model.safetensors").is_file()


def test_a_mistake_is_told_as_what_it_is(tmp_path: Path) -> None:
    """All processes meet it, and whichever leaves first, the one that says it is heard."""
    command = [
        "train", str(HER2ST), "--data", str(tmp_path), "--processes", "2",
        "--set", "training.depht=3",
    ]  # fmt: skip
    done = run_stem(command, ENVIRONMENT | {"STEM_HOME": str(tmp_path)}, ROOT, 200)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "unknown key 'training.depht'" in done.stderr
