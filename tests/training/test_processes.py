"""Several processes that train together: the same losses as one, and what happens when one dies."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from tests.training.process_training import train
from tests.training.tiny_training import HER2ST, ROOT, options, write_her2st

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def losses(folder: Path) -> list[float]:
    with (folder / "log.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    """`torchrun`, gloo on the CPU, the same batch; three parts of unequal size among them."""
    train(tmp_path / "one")
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         "-m", "tests.training.process_training", str(tmp_path / "two")],
        cwd=ROOT, env=ENVIRONMENT, check=True, capture_output=True, timeout=500,
    )  # fmt: skip
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
        sys.executable, "-m", "app.cli", "train", str(HER2ST), "--data", str(data),
        "--out", str(tmp_path / "model"), "--processes", "2",
        *options(training__denoiser__steps="100000", training__denoiser__schedule="constant"),
    ]  # fmt: skip
    checkpoints = tmp_path / "model.training/final/checkpoints"
    home = {"STEM_HOME": str(tmp_path / "home")}
    with subprocess.Popen(
        command, cwd=ROOT, env=ENVIRONMENT | home, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    ) as running:  # fmt: skip
        try:
            until = time.monotonic() + 400
            while not list(checkpoints.glob("step-*")):
                assert running.poll() is None and time.monotonic() < until
                time.sleep(0.2)
            os.kill(ranks_below(running.pid)[1], signal.SIGKILL)
            _, said = running.communicate(timeout=100)
        finally:
            running.terminate()
    assert running.returncode == 2
    assert said.count("\n") == 1
    assert "Process 2 of the 2 that trained together was killed by SIGKILL" in said
    assert "--resume" in said
    newest = max(int(p.name[5:]) for p in checkpoints.glob("step-*"))
    # Alone, it goes on from there and ends with a model.
    again = [part for part in command if part not in ("--processes", "2")]
    again[again.index("training.denoiser.steps=100000")] = f"training.denoiser.steps={newest + 10}"
    done = subprocess.run(
        [*again, "--resume"], cwd=ROOT, env=ENVIRONMENT | home, capture_output=True, text=True,
        timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"step {newest + 10:,} of {newest + 10:,}" in done.stdout
    assert f"step {newest - 5:,} of" not in done.stdout
    assert (tmp_path / "model/model.safetensors").is_file()


def test_a_mistake_is_told_as_what_it_is(tmp_path: Path) -> None:
    """All processes meet it, and whichever leaves first, the one that says it is heard."""
    command = [
        sys.executable, "-m", "app.cli", "train", str(HER2ST), "--data", str(tmp_path),
        "--processes", "2", "--set", "training.depht=3",
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=ROOT, env=ENVIRONMENT | {"STEM_HOME": str(tmp_path)}, capture_output=True,
        text=True, timeout=200,
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "unknown key 'training.depht'" in done.stderr
