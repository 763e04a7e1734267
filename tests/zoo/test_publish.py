"""`stem zoo push` to the loopback Hub, and back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.hub.server import LoopbackHub
from tests.zoo.world import Machine, contents, hub_entry, named_copy, one_line
from zoo.entries import Registry

NAME = "tiny-pushed"


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with LoopbackHub() as hub:
        yield Machine(hub, tmp_path, hub.token)


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    out = named_copy(tiny_model, tmp_path / "mine", NAME)
    (out / "patients.csv").write_text("not part of a model")
    (out / "old.pkl").write_bytes(b"not part of a model")
    return out


def test_push_then_pull_is_byte_equal(machine: Machine, folder: Path) -> None:
    pushed = machine.stem("zoo", "push", folder, "lab/pushed")
    assert pushed.returncode == 0, pushed.stderr
    entry = json.loads(pushed.stdout[pushed.stdout.index("{\n") :])
    assert entry["hub"]["revision"] == machine.hub.head("lab/pushed")
    there = machine.hub.files("lab/pushed")
    there.pop(".gitattributes", None)
    assert there == contents(folder)  # and no patients.csv, no pickle
    registry = Registry.model_validate({"schema_version": 1, "models": [entry]})
    machine.write_registry(*registry.models)
    machine.token = None
    pulled = machine.stem("zoo", "pull", NAME)
    assert pulled.returncode == 0, pulled.stderr
    info = json.loads(machine.stem("zoo", "info", NAME, "--json").stdout)
    assert contents(Path(info["folder"])) == contents(folder)


def test_the_card_is_one_the_hub_reads(machine: Machine, folder: Path) -> None:
    assert machine.stem("zoo", "push", folder, "lab/pushed", "--private").returncode == 0
    card = machine.hub.files("lab/pushed")["README.md"].decode()
    header = yaml.safe_load(card.split("---")[1])
    assert header["license"] == "mit"
    assert header["library_name"] == "stem-in-a-browser"
    assert "spatial-transcriptomics" in header["tags"]
    results = header["model-index"][0]["results"]
    assert {m["type"] for m in results[0]["metrics"]} >= {"pearsonr", "mse"}
    for words in ("Intended use", "Not for diagnosis", "trained on", "log2(1 + count)", "Limits"):
        assert words in card
    machine.write_registry(hub_entry(folder, "lab/pushed", machine.hub.head("lab/pushed")))
    machine.token = None
    assert "does not exist or is private" in one_line(machine.stem("zoo", "pull", NAME))


def test_dry_run_sends_nothing(machine: Machine, folder: Path) -> None:
    before = contents(folder)
    machine.token = None
    done = machine.stem("zoo", "push", folder, "lab/pushed", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "Nothing was sent" in done.stdout
    assert "model.safetensors" in done.stdout
    assert "patients" not in done.stdout
    assert not machine.hub.requests
    assert contents(folder) == before


def test_what_cannot_be_pushed(machine: Machine, folder: Path, tmp_path: Path) -> None:
    assert "cannot be a repository" in one_line(machine.stem("zoo", "push", folder, "no slash"))
    assert "not a model folder" in one_line(machine.stem("zoo", "push", tmp_path, "lab/x"))
    broken = Path(shutil.copytree(folder, tmp_path / "broken"))
    (broken / "model.safetensors").write_bytes(b"\0" * 100)
    assert "cannot be read" in one_line(machine.stem("zoo", "push", broken, "lab/x"))
    machine.token = None
    assert "HF_TOKEN" in one_line(machine.stem("zoo", "push", folder, "lab/x"))
    machine.token = machine.hub.read_token
    said = one_line(machine.stem("zoo", "push", folder, "loopback/x"))
    assert machine.hub.read_token not in said
    assert "HF_TOKEN" in said
