"""The denoiser's training: resuming, checkpoints, accumulation, early stopping, views."""

from __future__ import annotations

import csv
import hashlib
import json
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stem_core.diffusion.denoiser import Denoiser
from stem_core.diffusion.schedule import Schedule
from stem_core.errors import ModelFileError, OutputError, SettingsError, TrainingError
from stem_core.model.config import DenoiserConfig
from stem_core.training.batches import TrainingPairs
from stem_core.training.settings import DenoiserTraining
from stem_core.training.trainer import TrainingRun, train_denoiser
from stem_core.training.training_log import TrainingProgress
from stem_core.training.views import dihedral, restain

GENES, WIDTH = 12, 8
SETTINGS = DenoiserTraining(steps=30, batch=8, noises=2, log_every=4, checkpoint_every=10)


def train(
    run: TrainingRun | None = None,
    settings: DenoiserTraining = SETTINGS,
    validate: object = None,
    views: int = 1,
) -> dict[str, torch.Tensor]:
    random = np.random.default_rng(0)
    condition = random.normal(size=(views, 40, WIDTH)).astype(np.float32)
    target = random.normal(size=(40, GENES)).astype(np.float32)
    torch.manual_seed(0)
    denoiser = Denoiser(
        DenoiserConfig(
            genes=GENES, condition_width=WIDTH, depth=1, width=16, heads=2, symmetric=True
        )
    )
    made = train_denoiser(
        denoiser, Schedule(), TrainingPairs(target, condition if views > 1 else condition[0]),
        settings, run, validate,  # type: ignore[arg-type]
    )  # fmt: skip
    return made.state_dict()


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def log(folder: Path) -> list[tuple[str, ...]]:
    with (folder / "log.csv").open(newline="") as file:
        return [(r["step"], r["loss"], r["learning_rate"]) for r in csv.DictReader(file)]


class Stopped(Exception):
    pass


def stop_at(step: int) -> object:
    def tell(progress: TrainingProgress) -> None:
        if progress.step >= step:
            raise Stopped

    return tell


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file can become larger: what a full disk does to a large write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("schedule", ["one-cycle", "constant"])
def test_resuming_is_never_having_stopped(tmp_path: Path, schedule: str) -> None:
    settings = replace(SETTINGS, schedule=schedule)
    whole = train(TrainingRun(tmp_path / "whole"), settings)
    with pytest.raises(Stopped):
        train(TrainingRun(tmp_path / "cut", progress=stop_at(16)), settings)  # type: ignore[arg-type]
    assert sorted(p.name for p in (tmp_path / "cut/checkpoints").iterdir()) == ["step-000000010"]
    assert equal(train(TrainingRun(tmp_path / "cut"), settings), whole)
    assert log(tmp_path / "cut") == log(tmp_path / "whole")
    assert equal(train(None, settings), whole)  # nor do checkpoints change anything
    # All done: nothing more is learned.
    assert equal(train(TrainingRun(tmp_path / "cut"), settings), whole)


def test_tensorboard_has_the_lines_of_the_csv_file_once(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with pytest.raises(Stopped):
        train(TrainingRun(tmp_path, progress=stop_at(16)))  # type: ignore[arg-type]
    time.sleep(1.0)  # TensorBoard orders files by second and process, and both are of this one
    train(TrainingRun(tmp_path))  # goes on from step 10: the lines after it are made again
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    for place, name in ((1, "loss"), (2, "learning_rate")):
        told = [(event.step, event.value) for event in board.Scalars(name)]
        kept = [(int(row[0]), float(row[place])) for row in log(tmp_path)]
        assert len(kept) > 3
        assert [step for step, _ in told] == [step for step, _ in kept]
        np.testing.assert_allclose([v for _, v in told], [v for _, v in kept], rtol=1e-6)


def test_a_damaged_checkpoint_falls_back_on_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = train(TrainingRun(tmp_path))
    newest, before = (tmp_path / f"checkpoints/step-0000000{n}" for n in (30, 20))
    tensors = newest / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-7])
    assert equal(train(TrainingRun(tmp_path)), whole)
    told = [r.getMessage() for r in caplog.records if "damaged" in r.getMessage()]
    assert len(told) == 1 and "step 30" in told[0]
    said = json.loads((before / "state.json").read_text())
    (before / "state.json").write_text(json.dumps({**said, "facts": "{}"}))
    (newest / "state.json").write_text("{")
    with pytest.raises(ModelFileError, match=r"Every checkpoint in .* is damaged"):
        train(TrainingRun(tmp_path))


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    settings = replace(SETTINGS, steps=20, schedule="constant")
    train(TrainingRun(tmp_path, "x"), settings)
    good = (tmp_path / "checkpoints/step-000000020/tensors.safetensors").read_bytes()
    longer = replace(settings, steps=30)
    with largest_file(len(good) // 2), pytest.raises(OutputError) as caught:
        train(TrainingRun(tmp_path, "x"), longer)
    said = str(caught.value)
    assert "step-000000030 cannot be written" in said and "step 20 is whole" in said
    assert "--resume" in said and "\n" not in said
    names = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-000000010", "step-000000020"]
    assert (tmp_path / f"checkpoints/{names[1]}/tensors.safetensors").read_bytes() == good
    assert equal(train(TrainingRun(tmp_path, "x"), longer), train(None, longer))


def test_what_a_killed_save_left_is_removed(tmp_path: Path) -> None:
    for left in (".step-000000010.partial", ".step-000000007.4711"):
        (tmp_path / "checkpoints" / left).mkdir(parents=True)
    train(TrainingRun(tmp_path))
    names = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-000000020", "step-000000030"]


def test_a_damaged_log_is_begun_anew(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        train(TrainingRun(tmp_path, progress=stop_at(16)))  # type: ignore[arg-type]
    (tmp_path / "log.csv").write_bytes(b"step,loss\n\xff\xfe\x00")
    train(TrainingRun(tmp_path))
    assert [row[0] for row in log(tmp_path)] == ["12", "16", "20", "24", "28", "30"]


def test_no_fewer_steps_than_were_made(tmp_path: Path) -> None:
    train(TrainingRun(tmp_path), replace(SETTINGS, schedule="constant"))
    with pytest.raises(SettingsError, match="30 steps behind it"):
        train(TrainingRun(tmp_path), replace(SETTINGS, schedule="constant", steps=20))


def test_checkpoints_of_another_training_are_refused(tmp_path: Path) -> None:
    train(TrainingRun(tmp_path, "one"))
    with pytest.raises(SettingsError, match="another recipe"):
        train(TrainingRun(tmp_path, "two"))


def test_parts_of_a_batch_add_up() -> None:
    whole, parts = train(), train(settings=replace(SETTINGS, accumulate=3))
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, atol=1e-4, rtol=1e-3)
    with pytest.raises(SettingsError, match="accumulate"):
        replace(SETTINGS, accumulate=17)


def test_bf16_learns_about_the_same() -> None:
    whole, half = train(), train(settings=replace(SETTINGS, precision="bf16"))
    assert not equal(whole, half)
    assert all(v.dtype == torch.float32 for v in half.values())
    for name, value in whole.items():
        torch.testing.assert_close(half[name], value, atol=2e-2, rtol=0.2)


def test_it_stops_early_and_keeps_the_best(tmp_path: Path) -> None:
    seen: list[dict[str, torch.Tensor]] = []

    def validate(denoiser: Denoiser) -> dict[str, float]:
        seen.append({k: v.clone() for k, v in denoiser.state_dict().items()})
        return {"pcc_all": 0.0, "mse": 1.0, "crps": [3.0, 1.0, 2.0, 2.0, 0.5][len(seen) - 1]}

    settings = replace(SETTINGS, validate_every=4, patience=2)
    told: list[TrainingProgress] = []
    kept = train(TrainingRun(tmp_path, progress=told.append), settings, validate)
    assert [(p.step, p.kept_step) for p in told if p.kept_step is not None] == [(16, 8)]
    assert told[-1].left_s == 0
    assert len(seen) == 4  # two looks without a better one
    assert equal(kept, seen[1])
    assert equal(train(TrainingRun(tmp_path), settings, validate), kept)  # and stays stopped


def test_a_diverged_training_says_so_and_writes_nothing_over(tmp_path: Path) -> None:
    wild = replace(SETTINGS, learning_rate=100.0, weight_decay=1.0, clip=None, schedule="constant")
    with pytest.raises(TrainingError, match="diverged"):
        train(settings=wild)
    calm = replace(SETTINGS, steps=20, schedule="constant")
    train(TrainingRun(tmp_path), calm)
    kept = {p: p.read_bytes() for p in (tmp_path / "checkpoints").rglob("*") if p.is_file()}
    # Gone wrong after step 20, long before the next look at the loss.
    state = tmp_path / "checkpoints/step-000000020/state.json"
    said = json.loads(state.read_text())
    facts = json.loads(said["facts"])
    facts["groups"][0]["lr"] = 1e30
    said["facts"] = json.dumps(facts)
    said["facts_sha256"] = hashlib.sha256(said["facts"].encode()).hexdigest()
    state.write_text(json.dumps(said))
    kept[state] = state.read_bytes()
    with pytest.raises(TrainingError, match="diverged"):
        train(TrainingRun(tmp_path), replace(calm, steps=400, log_every=400))
    assert {p: p.read_bytes() for p in kept} == kept
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2


def test_views_are_chosen_among() -> None:
    one, several = train(), train(views=3)
    assert not equal(one, several)
    assert equal(several, train(views=3))


def test_views_of_a_patch() -> None:
    random = np.random.default_rng(0)
    patches = random.integers(40, 220, (2, 3, 8, 8), dtype=np.uint8)
    seen = {dihedral(patches, turn).tobytes() for turn in range(8)}
    assert len(seen) == 8
    assert np.array_equal(dihedral(patches, 0), patches)
    stained = restain(patches, np.random.default_rng(1))
    change = np.abs(stained.astype(int) - patches)
    assert stained.shape == patches.shape
    assert 1 < change.mean() < 40
    # The same change for every patch, whatever stands beside it.
    assert np.array_equal(stained[1:], restain(patches[1:], np.random.default_rng(1)))
