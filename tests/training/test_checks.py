"""What cannot be trained or tested is told by `--check`, or before hours are spent on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from anndata import AnnData

from app.cli import main
from stem_core.encoders.condition import condition_groups
from stem_core.errors import SettingsError, TrainingError
from stem_core.model.config import ConditionConfig
from stem_core.training.conditional_mean import TrainingSection
from stem_core.training.fit import FitSettings, fit
from stem_core.training.settings import DenoiserTraining
from stem_core.training.trainer import TrainingRun
from tests.training.sections import made_counts
from tests.training.tiny_training import HER2ST, PATIENTS, STEPS, options, write_her2st


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEM_HOME", str(tmp_path / "home"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_her2st(tmp_path / "data")


Said = Callable[..., str]


@pytest.fixture
def refused(data: Path, capfd: pytest.CaptureFixture[str]) -> Said:
    """Run `stem train`, which is to fail with one sentence, and return that."""

    def run(*more: str | Path, recipe: Path = HER2ST, **changes: str) -> str:
        command = ["train", str(recipe), "--data", str(data), *map(str, more), *options(**changes)]
        assert main(command) == 2
        said = capfd.readouterr().err
        assert said.count("\n") == 1
        return said

    return run


def by_id(data: Path, *names: str) -> None:
    for seed, name in enumerate(names):
        table = made_counts(seed)
        table.var_names = [f"ENSG{i:011d}" for i in range(table.n_vars)]
        table.write_h5ad(data / "st" / f"{name}.h5ad")


def written(data: Path, name: str, change: Callable[[AnnData], None]) -> None:
    table = made_counts(3)
    change(table)
    table.write_h5ad(data / "st" / f"{name}.h5ad")


def logarithms(table: AnnData) -> None:
    table.X = np.log1p(table.X)


def test_check_tells_sections_by_ensembl_id(
    data: Path, refused: Said, capfd: pytest.CaptureFixture[str]
) -> None:
    by_id(data, "SPA148")
    said = refused("--check", protocol="strict")
    assert "SPA148 measured none of the 40 genes of the panel" in said
    assert "by Ensembl id, the panel by symbol: write the symbols into" in said
    said = refused("--check")
    assert "Section SPA148 names its genes by Ensembl id" in said and "SPA123 by symbol" in said
    by_id(data, *PATIENTS)
    for protocol in ("strict", "paper"):
        said = refused("--check", protocol=protocol)
        assert "name their genes by Ensembl id" in said and "panel is of symbols" in said
    assert "panel is of symbols" in refused("--out", data / "model", protocol="strict")
    assert main(["sections", "check", str(data)]) == 0  # a warning: they may be of other use
    told = capfd.readouterr().out.splitlines()
    assert [("Ensembl id" in line) for line in told] == [True] * 4 + [False]
    assert told[-1].startswith("TENX1: patient not known, ")


def test_check_tells_panels_that_cannot_be_had(data: Path, tmp_path: Path, refused: Said) -> None:
    assert "Only 40 genes pass the panel rule, 300 are wanted" in refused(
        "--check", panel__genes="300"
    )
    assert "5000 are wanted" in refused("--check", panel__genes="5000", protocol="strict")
    text = HER2ST.read_text().replace("rule: hmhvg, genes: 300", "rule: file, file: genes.txt")
    (tmp_path / "own.yaml").write_text(text)
    for listed, words in (
        ("GENE001\nNOPE\n", "1 of the 2 genes of genes.txt are not measured in all sections (NOPE"),
        ("ENSG00000000001\n", "genes.txt names genes by Ensembl id"),
    ):
        (tmp_path / "genes.txt").write_text(listed)
        assert words in refused("--check", recipe=tmp_path / "own.yaml", panel__genes="2")


def test_check_opens_what_is_held_out(data: Path, refused: Said) -> None:
    written(data, "SPA148", logarithms)
    assert "SPA148 have values that are not whole numbers" in refused("--check", protocol="strict")


def test_check_tells_a_projection_that_the_spots_do_not_allow(data: Path, refused: Said) -> None:
    said = refused("--check", training__projected_width="75")
    assert "projected_width is 75, but the condition of 75 training spots" in said
    assert "no more than 74" in said


def test_check_says_the_patients_that_training_takes(
    data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (data / "metadata/SPA142.json").write_text('{"dataset_title": "Spatial deconvolution of a"}')
    patients = "{SPA123: X}"
    assert main(["train", str(HER2ST), "--data", str(data), "--check",
                 *options(data__patients=patients)]) == 0  # fmt: skip
    said = capfd.readouterr().out
    for line in ("SPA123: patient X, 25", "SPA142: patient not known, 25", "SPA147: patient B, 25"):
        assert line in said
    assert "Recipe and data are sound" in said


@pytest.mark.parametrize(
    ("file", "what"), [("st/SPA148.h5ad", "no counts"), ("wsis/SPA148.tif", "no image")]
)
def test_a_held_out_section_that_is_missing_is_told_before_training(
    data: Path, tmp_path: Path, refused: Said, file: str, what: str
) -> None:
    (data / file).unlink()
    for more in (["--out", tmp_path / "model"], ["--check"]):
        said = refused(*more, protocol="strict")
        assert (
            f"1 of the 4 sections are not in {data} with counts and image (SPA148: {what})" in said
        )
        assert f"stem sections download --to {data} SPA148" in said
    assert not (tmp_path / "model.training").exists()


def test_a_held_out_section_with_two_images_is_told_before_training(
    data: Path, tmp_path: Path, refused: Said
) -> None:
    (data / "wsis/SPA148.png").write_bytes(b"another one")
    said = refused("--out", tmp_path / "model", protocol="strict")
    assert "The section SPA148 has 2 images (SPA148.png, …)" in said
    assert not (tmp_path / "model.training").exists()


def test_imported_embeddings_that_are_missing_are_told_before_training(
    data: Path, tmp_path: Path, refused: Said
) -> None:
    for name in ("SPA123", "SPA142", "SPA147"):
        (data / "made").mkdir(exist_ok=True)
        (data / f"made/{name}.h5").write_bytes(b"not opened")
    changes = {"data__embeddings": "{compact-he: made}", "data__embeddings_patch_um": "448"}
    said = refused("--out", tmp_path / "model", **changes)
    assert "The embeddings of section SPA148 by compact-he are missing" in said
    assert not (tmp_path / "model.training").exists()


def test_a_held_out_section_that_does_not_serve_costs_no_training(
    data: Path, tmp_path: Path, refused: Said, capfd: pytest.CaptureFixture[str]
) -> None:
    """Strict may not look at it before the weights are final; they are kept."""
    out, good = tmp_path / "model", (data / "st/SPA148.h5ad").read_bytes()
    by_id(data, "SPA148")
    strict = {"protocol": "strict"}
    assert "SPA148 measured none of the 12 genes of the panel" in refused("--out", out, **strict)
    written(data, "SPA148", logarithms)
    assert "not whole numbers" in refused("--out", out, "--resume", **strict)
    weights = tmp_path / f"model.training/final/checkpoints/step-{STEPS:09d}/tensors.safetensors"
    kept = weights.stat()
    (data / "st/SPA148.h5ad").write_bytes(good)
    command = ["train", str(HER2ST), "--data", str(data), "--out", str(out), "--resume"]
    assert main([*command, *options(**strict)]) == 0
    printed = capfd.readouterr().out
    assert "measuring" in printed and " step " not in printed
    assert weights.stat() == kept
    assert (out / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("out", "work"),
    [("m", "m"), ("m", "m/work"), ("m", "m/a/b"), ("m", "../here/m"), ("m/final", "m"),
     ("m/embeddings/x", "m")],
)  # fmt: skip
def test_folders_in_each_others_way_are_refused(
    tmp_path: Path, refused: Said, monkeypatch: pytest.MonkeyPatch, out: str, work: str
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert "in each other's way" in refused("--out", out, "--work", work)
    assert not list(Path.cwd().iterdir())


GROUPS = condition_groups(
    ConditionConfig(side_um=100.0, size_px=64, survey_pitch_um=100.0, context_um=(100.0,)), 4
)
WIDTH = GROUPS["geometry"].start + 5


def sections(spots: int) -> list[TrainingSection]:
    rng = np.random.default_rng(0)
    conditions = [rng.normal(size=(spots, WIDTH)).astype(np.float32) for _ in range(2)]
    return [TrainingSection(c, c[:4], np.abs(c[:, :6])) for c in conditions]


SETTINGS = FitSettings(
    target="published", projected_width=4, width=16,
    denoiser=DenoiserTraining(steps=20, batch=4, noises=1, log_every=1),
)  # fmt: skip


def test_a_projection_that_the_spots_do_not_allow_is_told_when_training_starts() -> None:
    wide = replace(SETTINGS, projected_width=10)
    with pytest.raises(SettingsError, match=r"condition of 10 training spots, 21 wide, .* than 9 "):
        fit(sections(5), GROUPS, 4, wide)
    fit(sections(6), GROUPS, 4, wide)


def test_too_little_memory_is_told_in_one_sentence() -> None:
    def full(_: object) -> None:
        msg = "CUDA out of memory."
        raise torch.OutOfMemoryError(msg)

    with pytest.raises(TrainingError, match=r"memory of the GPU .*accumulate, now 1.*--resume"):
        fit(sections(6), GROUPS, 4, SETTINGS, TrainingRun(progress=full))
