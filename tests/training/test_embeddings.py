"""Embeddings in training: made once and kept, or taken from the files of other tools."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from app.cli import main
from stem_core.encoders.embedding import Encoder
from stem_core.encoders.preparation import Prepared
from stem_core.training.hest import read_section
from stem_core.training.recipe import Recipe
from stem_core.training.recipe_file import read_recipe
from stem_core.training.section_store import SectionCondition, section_condition
from stem_core.training.train import train_model
from stem_core.training.training_order import TrainingOrder
from tests.training.sections import MPP, positions
from tests.training.tiny_training import HER2ST, options, training_slides, write_her2st
from zoo.loader import find_encoder, load_model, recipe_encoder
from zoo.publish import publish

SECTIONS = ["SPA123", "SPA142"]
SIDE_PX = 224  # in patch mode `paper`
FINAL_ONLY = {"held_out": "[]", "data__select__exclude": "[SPA147, SPA148]"}


class Counted:
    """The compact encoder, counting the patches it embeds."""

    def __init__(self) -> None:
        self.encoder: Encoder = find_encoder(["compact-he"])
        self.name, self.width = self.encoder.name, self.encoder.width
        self.sha256, self.arithmetic = self.encoder.sha256, self.encoder.arithmetic
        self.preparation = self.encoder.preparation
        self.patches = 0

    def encode(self, patches: NDArray[np.uint8], *, batch: int = 64) -> NDArray[np.float32]:
        self.patches += len(patches)
        return self.encoder.encode(patches, batch=batch)

    def encode_prepared(self, prepared: Prepared) -> NDArray[np.float32]:
        assert isinstance(prepared, np.ndarray)
        return self.encode(prepared)

    def to(self, device: torch.device) -> None:
        self.encoder.to(device)


def tiny(**changes: str) -> Recipe:
    return read_recipe(HER2ST, options(**FINAL_ONLY, **changes)[1::2])


def weights(model: Path) -> dict[str, torch.Tensor]:
    return load_file(model / "model.safetensors")


def same(a: SectionCondition, b: SectionCondition) -> bool:
    return all(
        getattr(a, n).tobytes() == getattr(b, n).tobytes() for n in ("spots", "lattice", "views")
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_her2st(tmp_path_factory.mktemp("hest"))


def trained(data: Path, out: Path, encoder: Encoder) -> Path:
    order = TrainingOrder(tiny(), HER2ST, data, out, out.with_name(f"{out.name}.training"))
    assert train_model(order, encoder) is not None
    return out


@pytest.fixture(scope="module")
def direct(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of embeddings that were made for it."""
    encoder = Counted()
    out = trained(data, tmp_path_factory.mktemp("direct") / "model", encoder)
    assert encoder.patches == 25  # both sections have the same picture and places
    return out


def write_h5(path: Path, values: NDArray[np.float32], *, barcodes: bool) -> None:
    """Write as HEST (in another order than the section's) or as TRIDENT."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = np.random.default_rng(3).permutation(len(values))
    corners = positions()[rows] - SIDE_PX / 2
    with h5py.File(path, "w") as file:
        file["coords"] = corners.astype(np.int64)
        if barcodes:
            file["embeddings"] = values[rows]
            file["barcodes"] = np.array([f"s{row}" for row in rows], "S")[:, None]
        else:
            file["features"] = values[None, rows]
            said = {"patch_size": SIDE_PX, "patch_size_level0": SIDE_PX, "level0_mpp": MPP}
            file["coords"].attrs.update(said)


def random_embeddings(seed: int, width: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(25, width)).astype(np.float32)


def test_a_second_training_embeds_nothing(data: Path, direct: Path, tmp_path: Path) -> None:
    kept = direct.with_name("model.training") / "embeddings"
    assert len(list(kept.iterdir())) == 1
    shutil.copytree(kept, tmp_path / "again.training/embeddings")
    encoder = Counted()
    again = trained(data, tmp_path / "again", encoder)
    assert encoder.patches == 0
    first, second = weights(direct), weights(again)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_places_and_views_are_kept_each_for_itself(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A change embeds what it concerns; a damaged entry is made again."""
    changes = {
        "condition__survey_pitch_um": "200", "condition__context_um": "[400]",
        "condition__patch_mode": "physical", "condition__size_px": "48",
    }  # fmt: skip
    recipe = tiny(**changes, augment__dihedral="true")
    section, encoder, told = read_section(data, "SPA123"), Counted(), []

    def made(recipe: Recipe, *, augmented: bool = False) -> tuple[SectionCondition, int]:
        before = encoder.patches
        found = section_condition(
            section, encoder, recipe, tmp_path, told.append, augmented=augmented
        )
        return found, encoder.patches - before

    plain, patches = made(recipe)
    lattice = len(plain.lattice)
    assert patches == 25 + lattice
    assert told == [f"SPA123: embedding {n} patches with compact-he" for n in (lattice, 25)]
    first, patches = made(recipe, augmented=True)
    assert patches == 7 * 25  # the other views of the spots
    assert len({view.tobytes() for view in first.views}) == 8
    second, patches = made(recipe, augmented=True)
    assert patches == 0
    assert same(first, second)
    _, patches = made(tiny(**changes | {"condition__context_um": "[300, 900]"}))
    assert patches == 0  # another context, of the same embeddings
    stained = tiny(**changes, augment__stains="1")
    assert made(stained, augmented=True)[1] == 25
    assert made(stained.model_copy(update={"augment": recipe.augment}), augmented=True)[1] == 0

    for entry in tmp_path.iterdir():
        entry.write_bytes(entry.read_bytes()[:-1] + b"\0\0")
    repaired, patches = made(recipe, augmented=True)
    assert patches == 8 * 25 + lattice
    assert same(first, repaired)
    assert "damaged" in caplog.text


def test_tridents_files_train_the_same_model(
    data: Path, direct: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in SECTIONS:
        kept = direct.with_name("model.training") / "embeddings"
        section = read_section(data, name)
        own = section_condition(section, find_encoder(["compact-he"]), tiny(), kept).spots
        write_h5(data / f"trident/{name}.h5", own, barcodes=False)
    changes = {"data__embeddings": "{compact-he: trident}"}
    out = tmp_path / "model"
    command = ["train", str(HER2ST), "--data", str(data), *options(**FINAL_ONLY, **changes)]
    assert main([*command, "--check"]) == 0
    assert main([*command, "--out", str(out)]) == 0
    assert training_slides(out) == SECTIONS
    first, imported = weights(direct), weights(out)
    assert all(torch.equal(first[name], imported[name]) for name in first)
    assert not (tmp_path / "model.training/embeddings").exists()
    [described] = json.loads((out / "config.json").read_text())["encoders"]
    sums = {
        f"{name}.h5": hashlib.sha256((data / f"trident/{name}.h5").read_bytes()).hexdigest()
        for name in SECTIONS
    }
    assert described == {
        "name": "compact-he", "revision": "unpinned", "width": 141, "sha256": "",
        "imported_from": sums,
    }  # fmt: skip
    card = (out / "README.md").read_text()
    assert "were imported" in card
    assert all(f"| compact-he | {file} | {sha256} |" in card for file, sha256 in sums.items())
    assert load_model(out).manifest.encoder_width == 141
    assert publish(out, "someone/tiny", dry_run=True).files

    # Other embeddings under the same name are not gone on with.
    write_h5(data / "trident/SPA123.h5", random_embeddings(0, 141), barcodes=False)
    shutil.rmtree(out)
    assert main([*command, "--out", str(out), "--resume"]) == 2
    assert "other data; take those again" in capfd.readouterr().err


def test_hests_files_stand_for_encoders_that_are_not_here(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEM_HOME", str(tmp_path / "home"))
    for seed, name in enumerate(SECTIONS):
        for encoder, width in (("uni", 1024), ("conch", 512)):
            values = random_embeddings(seed, width)
            write_h5(data / f"made/{encoder}/{name}.h5", values, barcodes=True)
    changes = {
        "encoders": "[uni, conch]", "data__embeddings": "{conch: made/conch, uni: made/uni}",
        "data__embeddings_patch_um": "450",
    }  # fmt: skip
    command = ["train", str(HER2ST), "--data", str(data), *options(**FINAL_ONLY, **changes)]
    assert main([*command, "--out", str(tmp_path / "model")]) == 0
    config = json.loads((tmp_path / "model/config.json").read_text())
    assert [(e["name"], e["width"], e["revision"]) for e in config["encoders"]] == [
        ("uni", 1024, "unpinned"), ("conch", 512, "unpinned"),
    ]  # fmt: skip
    assert config["condition_width"] == 1536
    recipe = tiny(**changes)
    found = section_condition(
        read_section(data, "SPA142"), recipe_encoder(recipe, data), recipe, tmp_path / "none"
    )
    expected = [random_embeddings(1, 1024), random_embeddings(1, 512)]
    np.testing.assert_array_equal(found.spots, np.concatenate(expected, 1))
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data__embeddings_patch_um": "475"}, "patches 475 µm wide, but 448 µm are needed"),
        ({}, "do not say how many microns wide"),
        ({"data__embeddings": "{compact-he: none}"}, "section SPA123 by compact-he are missing"),
        ({"encoders": "[phikon-v2]", "data__embeddings": "{phikon-v2: e}",
          "data__embeddings_patch_um": "448"}, "have 141 values a patch, but phikon-v2 gives 1024"),
        ({"condition__survey_pitch_um": "200", "condition__context_um": "[400]"},
         "set condition.survey_pitch_um: null"),
        ({"augment__stains": "2"}, "nothing can be augmented"),
        ({"data__embeddings": "{uni: e}"}, "name a folder for each"),
        ({"data__embeddings": "{compact-he: ../e}"}, "below the data folder"),
        ({"data__embeddings": "{}", "data__embeddings_patch_um": "448"}, "name their folders"),
    ],
)  # fmt: skip
def test_embeddings_that_do_not_serve_are_told_in_one_sentence(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], changes: dict[str, str],
    words: str,
) -> None:  # fmt: skip
    for name in SECTIONS:
        write_h5(data / f"e/{name}.h5", random_embeddings(0, 141), barcodes=True)
    given = options(**FINAL_ONLY, **{"data__embeddings": "{compact-he: e}"} | changes)
    command = ["train", str(HER2ST), "--data", str(data), *given]
    for more in (["--out", str(tmp_path / "model")], ["--check"]):
        assert main([*command, *more]) == 2
        said = capfd.readouterr().err
        assert words in said
        assert said.count("\n") == 1
    assert not (tmp_path / "model").exists()
