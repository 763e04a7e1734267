"""`stem train` from a recipe of the paper to a model that predicts, on a tiny made HEST folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from app.cli import main
from tests.training.sections import MPP, made_counts, write_picture
from tests.training.tiny_training import HER2ST, STEPS, options, training_slides, write_her2st
from zoo.loader import load_model
from zoo.publish import publish


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_her2st(tmp_path_factory.mktemp("hest"))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEM_HOME", str(tmp_path / "home"))


@pytest.fixture
def no_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the drawings of the report out: a third of the time of a tiny training."""
    monkeypatch.setattr("stem_core.evaluation.report.section_charts", lambda *_, **__: [])


def run(data: Path, out: Path, *more: str, **changes: str) -> int:
    return main(
        ["train", str(HER2ST), "--data", str(data), "--out", str(out), *more, *options(**changes)]
    )


def last_checkpoint(out: Path) -> bytes:
    folder = out.with_name(f"{out.name}.training") / "final/checkpoints" / f"step-{STEPS:09d}"
    return (folder / "tensors.safetensors").read_bytes()


def fold(out: Path) -> dict[str, object]:
    held_out = json.loads((out / "config.json").read_text())["held_out"]
    assert len(held_out["folds"]) == 1
    found: dict[str, object] = held_out["folds"][0]
    return found


def test_the_paper_protocol_makes_a_model_that_predicts(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model"
    assert run(data, out) == 0
    printed = capfd.readouterr()
    assert f"step {STEPS} of {STEPS}, loss" in printed.out and "left" in printed.out
    assert training_slides(out) == ["SPA123", "SPA142", "SPA147"]
    assert fold(out)["held_out"] == "SPA148"
    assert {b["name"] for b in fold(out)["baselines"]} >= {"mean", "ridge", "kNN"}  # type: ignore[attr-defined]
    model = load_model(out)
    assert model.generator.target == "published"
    assert model.manifest.condition_width == model.manifest.denoiser.condition_width == 141
    assert model.manifest.condition.patch_mode == "paper"
    assert model.manifest.condition.side_um == 448  # 224 px of 2 µm, as those slides were
    assert "chosen from all sections" in model.manifest.held_out.protocol
    assert publish(out, "someone/tiny", dry_run=True).files
    assert (tmp_path / "model.training/report/report.html").is_file()
    image = str(data / "wsis/SPA148.tif")
    where = ["--spots", str(data / "st/SPA148.h5ad"), "--out", str(tmp_path / "result")]
    assert main(["predict", image, "--model", "hest-her2st", *where]) == 2  # not yet in the zoo
    shutil.copytree(out, tmp_path / "home/models/hest-her2st")
    assert main(["predict", image, "--model", "hest-her2st", *where]) == 0
    assert (tmp_path / "result/prediction.h5ad").is_file()
    # A folder that holds a model, or a training, is not written over.
    capfd.readouterr()
    assert run(data, out) == 2
    assert "there already" in capfd.readouterr().err
    shutil.rmtree(out)
    assert run(data, out) == 2
    assert "holds a training already" in capfd.readouterr().err
    assert run(data, out, "--resume") == 0
    assert (out / "model.safetensors").is_file()


@pytest.mark.usefixtures("no_charts")
def test_strict_never_looks_at_held_out_patients(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Their files are poisoned: not one bit of what is learned changes."""
    assert run(data, tmp_path / "clean", protocol="strict") == 0
    assert training_slides(tmp_path / "clean") == ["SPA123", "SPA142"]
    poisoned = tmp_path / "data"
    shutil.copytree(data, poisoned)
    for name in ("SPA148", "SPA147"):  # the held-out section, and another one of its patient
        (poisoned / f"st/{name}.h5ad").write_bytes(b"no counts at all")
        (poisoned / f"wsis/{name}.tif").write_bytes(b"no image either")
    capfd.readouterr()
    assert run(poisoned, tmp_path / "poisoned", protocol="strict") == 2
    told = capfd.readouterr()
    assert "measuring" in told.out  # so far it had no need of them
    assert "SPA148" in told.err and told.err.count("\n") == 1
    assert last_checkpoint(tmp_path / "poisoned") == last_checkpoint(tmp_path / "clean")
    # The section put back, it goes on from the finished weights.
    for folder in ("st", "wsis"):
        found = next((data / folder).glob("SPA148.*"))
        shutil.copyfile(found, poisoned / folder / found.name)
    assert run(poisoned, tmp_path / "poisoned", "--resume", protocol="strict") == 0
    assert fold(tmp_path / "poisoned") == fold(tmp_path / "clean")
    for name in ("model.safetensors", "reference.safetensors", "genes.csv"):
        a, b = ((tmp_path / which / name).read_bytes() for which in ("clean", "poisoned"))
        assert a == b


@pytest.mark.usefixtures("no_charts")
def test_folds_views_and_validation_go_together(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    changes = {
        "held_out": "[]", "folds": "[SPA123]", "validation": "[SPA142]", "encoders": "[compact-he]",
        "augment.dihedral": "true", "training.denoiser.validate_every": "10",
    }  # fmt: skip
    assert run(data, out, **{k.replace(".", "__"): v for k, v in changes.items()}) == 0
    assert training_slides(out) == ["SPA123", "SPA147", "SPA148"]  # all but what is only watched
    assert len({path.stat().st_mode for path in out.iterdir()}) == 1  # whoever reads one reads all
    assert fold(out)["trained_on"] == ["SPA147", "SPA148"]
    rows = (tmp_path / "model.training/SPA123/log.csv").read_text().splitlines()
    assert len(rows) == 1 + STEPS // 5
    assert [bool(row.split(",")[5]) for row in rows[1:]] == [False, True, False, True]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--set", "held_out=[SPA999]"], "held_out names 'SPA999'"),
        (["--set", "training.depht=3"], "unknown key 'training.depht'"),
        (["--set", "encoders=[uni]"], "UNI"),
        (["--set", "encoders=[nonesuch]"], "nonesuch"),
        (["--set", "data.select.exclude=[SPA123, SPA142, SPA147]"], "no section to train on"),
        (["--set", "panel.genes=60"], "genes pass the panel rule"),
        (["--resume", "--device", "cuda:7"], "no device 'cuda:7'"),
    ],
)
def test_what_cannot_be_trained_is_told_in_one_line(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], more: list[str], words: str
) -> None:
    code = main(
        ["train", str(HER2ST), "--data", str(data), "--out", str(tmp_path / "m"), *options(), *more]
    )
    said = capfd.readouterr().err
    assert (code, said.count("\n")) == (2, 1)
    assert words in said


def test_a_missing_section_is_told(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    less = tmp_path / "data"
    shutil.copytree(data, less)
    (less / "st/SPA142.h5ad").unlink()
    assert run(less, tmp_path / "m") == 2
    assert "SPA142" in capfd.readouterr().err
    assert main(["train", str(HER2ST), "--check", "--data", str(less)]) == 2
    assert "1 of the 4 sections are not in" in capfd.readouterr().err
    assert main(["train", str(HER2ST), "--data", str(tmp_path / "none")]) == 2
    assert main(["train", str(HER2ST)]) == 2
    assert "--data" in capfd.readouterr().err


@pytest.mark.usefixtures("no_charts")
def test_resuming_measures_again_what_changed_and_goes_on_with_nothing_else(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    own, out = tmp_path / "data", tmp_path / "model"
    shutil.copytree(data, own)
    folds = {"held_out": "[]", "folds": "[SPA148]", "protocol": "strict"}
    assert run(own, out, **folds) == 0
    before = fold(out)
    # Nothing changed: the fold is taken as it was measured.
    shutil.rmtree(out)
    capfd.readouterr()
    assert run(own, out, "--resume", **folds) == 0
    assert "SPA148 (1 of 2): done before" in capfd.readouterr().out
    assert fold(out) == before
    # Another held-out section of the same name: only that is tested again, on the same weights.
    made_counts(77).write_h5ad(own / "st/SPA148.h5ad")
    shutil.rmtree(out)
    shutil.rmtree(tmp_path / "model.training/final")
    assert run(own, out, "--resume", **folds) == 0
    assert "SPA148 (1 of 2): measuring" in capfd.readouterr().out
    assert fold(out)["metrics"] != before["metrics"]
    # Another picture of a section that was trained on: its checkpoints are not gone on from.
    shutil.rmtree(out)
    image = own / "wsis/SPA123.tif"
    write_picture(image, MPP, seed=5)
    assert run(own, out, "--resume", **folds) == 2
    assert "other data" in capfd.readouterr().err


def test_a_model_folder_says_how_it_was_trained(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    assert run(data, out, protocol="strict") == 0
    config = json.loads((out / "config.json").read_text())
    assert config["settings"]["training"]["denoiser"]["steps"] == STEPS
    assert config["settings"]["protocol"] == "strict"
    card = (out / "README.md").read_text()
    assert "--set protocol=strict" in card and f"--set training.denoiser.steps={STEPS}" in card
    report = (tmp_path / "model.training/report/report.html").read_text()
    assert "--set protocol=strict" in report
