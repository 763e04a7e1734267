"""One small training, alone or as a process of several: FOLDER is where its log goes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from stem_core.diffusion.denoiser import Denoiser
from stem_core.diffusion.schedule import Schedule
from stem_core.model.config import DenoiserConfig
from stem_core.training.batches import TrainingPairs
from stem_core.training.distributed import joined_ranks
from stem_core.training.settings import DenoiserTraining
from stem_core.training.trainer import TrainingRun, train_denoiser


def train(folder: Path) -> None:
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    condition = random.normal(size=(30, 8)).astype(np.float32)
    target = random.normal(size=(30, 12)).astype(np.float32)
    settings = DenoiserTraining(
        steps=20, batch=6, noises=1, accumulate=2, log_every=1, checkpoint_every=20
    )
    with joined_ranks("cpu") as ranks:
        torch.manual_seed(0)
        denoiser = Denoiser(DenoiserConfig(genes=12, condition_width=8, depth=1, width=16, heads=2))
        run = TrainingRun(folder, ranks=ranks)
        train_denoiser(denoiser, Schedule(), TrainingPairs(target, condition), settings, run)


if __name__ == "__main__":
    train(Path(sys.argv[1]))
