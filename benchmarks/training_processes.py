"""How much faster two processes train than one, on one CPU core each.

    python benchmarks/training_processes.py [--steps 12]

A denoiser of width 128 and depth 4 on 200 genes, 64 spots a batch, gloo. Both runs make the same
steps. Efficiency is seconds of one process / (2 × seconds of two); on a machine with other work
the processors' own seconds say more than the clock's.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time

import numpy as np
import torch

from stem_core.diffusion.denoiser import Denoiser
from stem_core.diffusion.schedule import Schedule
from stem_core.model.config import DenoiserConfig
from stem_core.training.batches import TrainingPairs
from stem_core.training.distributed import joined_ranks
from stem_core.training.settings import DenoiserTraining
from stem_core.training.trainer import TrainingRun, train_denoiser
from stem_core.training.training_log import TrainingProgress

WARM_UP = 4


def train(steps: int) -> None:
    """Be one of the processes; the first one prints its seconds."""
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    condition = random.normal(size=(500, 256)).astype(np.float32)
    target = random.normal(size=(500, 200)).astype(np.float32)
    settings = DenoiserTraining(steps=WARM_UP + max(steps, 20), batch=64, noises=1, log_every=1)
    at: dict[int, tuple[float, float]] = {}

    def tell(progress: TrainingProgress) -> None:
        at[progress.step] = time.perf_counter(), time.process_time()

    with joined_ranks("cpu") as ranks:
        torch.manual_seed(0)
        denoiser = Denoiser(
            DenoiserConfig(genes=200, condition_width=256, depth=4, width=128, heads=4)
        )
        run = TrainingRun(ranks=ranks, progress=tell)
        train_denoiser(denoiser, Schedule(), TrainingPairs(target, condition), settings, run)
    if ranks.first:
        made = max(at) - WARM_UP
        seconds = [(b - a) / made for a, b in zip(at[WARM_UP], at[max(at)], strict=True)]
        print(json.dumps({"elapsed_s": seconds[0], "processor_s": seconds[1]}, allow_nan=False))


def measure(processes: int, steps: int) -> dict[str, float]:
    """Run the same training in so many processes; seconds a step."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    command = [sys.executable, __file__, "--steps", str(steps), "--be-one"]
    running = [
        subprocess.Popen(
            command, env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, text=True,
        )
        for rank in range(processes)
    ]  # fmt: skip
    said = [process.communicate()[0] for process in running]
    found: dict[str, float] = json.loads(said[0])
    return found


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--be-one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.be_one:
        train(args.steps)
        return
    one, two = measure(1, args.steps), measure(2, args.steps)
    print("| processes | s per step, clock | s per step, of each processor |\n|---|---|---|")
    for name, found in (("1", one), ("2", two)):
        print(f"| {name} | {found['elapsed_s']:.3f} | {found['processor_s']:.3f} |")
    for key, what in (("elapsed_s", "clock"), ("processor_s", "processors")):
        print(f"efficiency by the {what}: {one[key] / (2 * two[key]):.0%}")
    print(f"load of the machine (1 min): {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")


if __name__ == "__main__":
    main()
