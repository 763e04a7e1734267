"""Encoders pulled from the loopback Hub, at tiny size: checked, recorded, run on sections."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from stem_core.encoders.catalogue import CATALOGUE
from stem_core.errors import (
    EncoderMissingError,
    HashError,
    ModelFileError,
    OutputError,
    SettingsError,
)
from tests.encoders.published import State, tiny_facts, tiny_state
from tests.forked import run_forked
from tests.hub.server import LoopbackHub
from tests.zoo.published import write_whole_model
from tests.zoo.world import Machine, one_line
from zoo.convert import ModelFacts, convert_checkpoint
from zoo.loader import find_encoder, load_model
from zoo.places import zoo_dir
from zoo.pull import install_encoder_file
from zoo.registry import missing_encoders
from zoo.store import Artifact, blob_path, find_installed

NAMES = ("uni", "conch", "h-optimus-0", "midnight-12k")
PICKLED = ("uni", "conch")  # as published


def published_file(name: str, state: State) -> dict[str, bytes]:
    if name not in PICKLED:
        return {"model.safetensors": save({k: v.contiguous() for k, v in state.items()})}
    held = io.BytesIO()
    torch.save(state, held)
    return {"pytorch_model.bin": held.getvalue()}


@pytest.fixture(scope="module")
def files() -> dict[str, dict[str, bytes]]:
    return {name: published_file(name, tiny_state(name)) for name in NAMES}


@pytest.fixture
def machine(tmp_path: Path, files: dict[str, dict[str, bytes]]) -> Iterator[Machine]:
    """A machine let into the gated repositories of all four."""
    with LoopbackHub() as hub:
        for name, content in files.items():
            hub.add_repo(f"lab/tiny-{name}", gated=name in PICKLED)
            hub.commit(f"lab/tiny-{name}", content)
            hub.grant(f"lab/tiny-{name}")
        yield Machine(hub, tmp_path, token=hub.token)


def tiny(machine: Machine, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `tests.zoo.tiny_encoders` on a machine."""
    return run_forked(
        "tests.zoo.tiny_encoders:run", arguments, machine.environment, machine.root, 120
    )


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> None:
    """This process knows the tiny encoders as well, and lives on the machine."""
    for name in NAMES:
        monkeypatch.setitem(CATALOGUE, f"tiny-{name}", tiny_facts(name))
    monkeypatch.setenv("STEM_HOME", str(machine.home))


def weights_of(record: Artifact) -> Path:
    """The one file of an encoder."""
    return record.path / record.files[0].path


def sections() -> list[Path]:
    """Real sections, where they are."""
    value = os.environ.get("STEM_TEST_DATA")
    return [] if not value else sorted(Path(value).glob("her2st/wsis/*.tif"))[:1]


def test_four_encoders_are_pulled_embed_and_predict(
    machine: Machine, known: None, files: dict[str, dict[str, bytes]], tmp_path: Path,
    sample_piece: Path,
) -> None:  # fmt: skip
    # A model of the pair that the publication used.
    write_whole_model(tmp_path / "a.pt", genes=12, condition_width=48, depth=1, width=32, heads=2)
    (tmp_path / "genes.txt").write_text("\n".join(f"GENE{i}" for i in range(12)) + "\n")
    model = machine.home / "models" / "mine"
    facts = ModelFacts(name="mine", encoders=("tiny-uni", "tiny-conch"))
    convert_checkpoint(tmp_path / "a.pt", tmp_path / "genes.txt", model, facts)
    with pytest.raises(EncoderMissingError, match=r"needs UNI .*, gated; .* and CONCH .*, gated;"):
        load_model(model)

    slides = [sample_piece, *sections()]
    names = [f"tiny-{name}" for name in NAMES]
    done = tiny(machine, "embed", ",".join(map(str, slides)), *names)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["name"] == "+".join(names)
    assert found["shape"] == [len(slides), 20, 32 + 16 + 32 + 64]
    assert found["finite"]
    assert min(found["differing"]) > 0
    # Known by the published files, whatever they were converted to; pinned to them.
    shas = [hashlib.sha256(next(iter(files[name].values()))).hexdigest() for name in NAMES]
    assert found["sha256"] == hashlib.sha256("".join(shas).encode()).hexdigest()
    pins = json.loads((machine.home / "zoo" / "pins.json").read_text())
    assert pins["encoder:tiny-uni"]["revision"] == machine.hub.head("lab/tiny-uni")
    assert [f["sha256"] for f in pins["encoder:tiny-uni"]["files"]] == shas[:1]

    # The model runs with them, without a network and without a request.
    machine.hub.clear()
    machine.more = {"HF_HUB_OFFLINE": "1"}
    predicted = tiny(
        machine, "stem", "predict", sample_piece, "--model", "mine", "--out", tmp_path / "result",
        "--layout", "grid", "--pitch-um", "300", "--steps", "2", "--samples", "2",
    )  # fmt: skip
    assert predicted.returncode == 0, predicted.stderr
    run = json.loads((tmp_path / "result" / "run.json").read_text())
    assert run["model"]["encoder"] == "tiny-uni+tiny-conch"
    assert not machine.hub.requests
    # Weights that changed on the disk are not used.
    record = find_installed("encoder", "tiny-uni")
    assert record is not None
    with weights_of(record).open("ab") as file:
        file.write(b"x")
    with pytest.raises(HashError, match="run stem zoo pull-encoder tiny-uni again"):
        load_model(model)


def test_gated_weights_say_where_to_ask(machine: Machine) -> None:
    machine.token = None
    said = one_line(tiny(machine, "stem", "zoo", "pull-encoder", "tiny-uni"))
    assert "lab/tiny-uni is gated; ask for access" in said
    assert not (machine.home / "zoo" / "installed").exists()


def test_a_file_brought_by_hand_is_checked(
    known: None, files: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    state = tiny_state("uni")
    renamed = {("norm.wieght" if k == "norm.weight" else k): v for k, v in state.items()}
    path = tmp_path / "got.bin"
    path.write_bytes(published_file("uni", renamed)["pytorch_model.bin"])
    with pytest.raises(ModelFileError, match=r"lacking norm.weight, with norm.wieght"):
        install_encoder_file("tiny-uni", path)
    assert find_installed("encoder", "tiny-uni") is None
    assert not list(zoo_dir("encoders").iterdir())  # nothing of it is kept
    path.write_bytes(files["uni"]["pytorch_model.bin"])
    record = install_encoder_file("tiny-uni", path)
    assert record == find_installed("encoder", "tiny-uni")
    assert record.revision == "by hand"
    assert find_encoder(["tiny-uni"]).width == 32
    with pytest.raises(SettingsError, match="comes with the program; those that can be pulled are"):
        install_encoder_file("compact-he", path)


def test_a_file_brought_by_hand_is_kept_and_pinned(
    machine: Machine, known: None, files: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    name, path = "tiny-h-optimus-0", tmp_path / "got.safetensors"
    first = files["h-optimus-0"]["model.safetensors"]
    other = published_file("h-optimus-0", tiny_state("h-optimus-0", seed=1))["model.safetensors"]

    def given(content: bytes) -> None:
        path.write_bytes(content)
        install_encoder_file(name, path)

    def used() -> str:
        return find_encoder([name]).sha256

    given(first)
    path.unlink()
    assert used() == hashlib.sha256(first).hexdigest()
    with pytest.raises(HashError, match="not the one that was installed first for H-optimus-0"):
        given(other)
    assert used() == hashlib.sha256(first).hexdigest()
    given(first)  # the same one again
    path.write_bytes(other)
    command = ("stem", "zoo", "pull-encoder", name)
    assert tiny(machine, *command, "--file", path, "--update").returncode == 0
    assert used() == hashlib.sha256(other).hexdigest()

    # The Hub has another one than was brought; with --update, its own.
    record = find_installed("encoder", name)
    assert record is not None
    weights_of(record).unlink()
    blob_path(str(record.files[0].sha256)).unlink()
    assert "is not the one that was recorded" in one_line(tiny(machine, *command))
    assert tiny(machine, *command, "--update").returncode == 0
    assert used() == hashlib.sha256(first).hexdigest()
    pins = json.loads((machine.home / "zoo" / "pins.json").read_text())
    assert pins[f"encoder:{name}"]["revision"] == machine.hub.head(f"lab/{name}")
    # By hand, it may be the pulled one alone.
    with pytest.raises(HashError, match="installed first"):
        given(other)
    given(first)
    assert json.loads((machine.home / "zoo" / "pins.json").read_text()) == pins


def test_what_the_hub_has_may_be_what_was_brought(
    machine: Machine, known: None, files: dict[str, dict[str, bytes]], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    name, path = "tiny-h-optimus-0", tmp_path / "got.safetensors"
    path.write_bytes(files["h-optimus-0"]["model.safetensors"])
    record = install_encoder_file(name, path)
    weights_of(record).unlink()
    blob_path(str(record.files[0].sha256)).unlink()
    assert tiny(machine, "stem", "zoo", "pull-encoder", name).returncode == 0
    again = find_installed("encoder", name)
    assert again is not None
    assert again.revision == machine.hub.head(f"lab/{name}")
    assert "it loads" in tiny(machine, "stem", "zoo", "verify", name).stdout
    weights_of(again).chmod(0o600)
    weights_of(again).write_bytes(b"x")
    damaged = tiny(machine, "stem", "zoo", "verify", name)
    assert damaged.returncode == 2
    assert "not what they were when they were pulled" in damaged.stdout
    removed = tiny(machine, "stem", "zoo", "remove", name)
    assert f"Removed the encoder {name}" in removed.stdout, removed.stderr
    assert find_installed("encoder", name) is None


def test_a_copy_that_cannot_be_made_leaves_nothing(
    known: None, files: dict[str, dict[str, bytes]], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    path = tmp_path / "got.safetensors"
    path.write_bytes(files["h-optimus-0"]["model.safetensors"])

    def full(source: Path, target: Path) -> None:
        Path(target).write_bytes(Path(source).read_bytes()[:1000])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OutputError, match=r"cannot be written .*\. Free space"):
        install_encoder_file("tiny-h-optimus-0", path)
    assert find_installed("encoder", "tiny-h-optimus-0") is None
    assert not list(zoo_dir("encoders").iterdir())


def test_who_asks_is_told_how_to_get_them() -> None:
    said = missing_encoders("The model kidney", ["uni", "conch"])
    assert "MahmoodLab/UNI, gated" in said
    assert said.endswith(
        "which are not on this machine; run stem zoo pull-encoder uni and stem zoo pull-encoder "
        "conch, once its owner gave you access."
    )
    assert "does not know" in missing_encoders("The model kidney", ["magic"])
    assert missing_encoders("The model breast", ["compact-he"]) == ""
    assert find_encoder(["compact-he"]).width == 141
