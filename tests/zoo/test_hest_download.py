"""`stem sections download` against the loopback Hub, and `check` on what came."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.server import LoopbackHub
from tests.training.sections import write_section
from tests.zoo.world import Machine

DATASET = "MahmoodLab/hest"


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A machine before a Hub with three gated sections and a file nobody asked for."""
    source = tmp_path / "made"
    for name in ("N1", "N2", "N3"):
        write_section(source, name, metadata={"patient": name, "dataset_title": f"Study {name}"})
    files = {
        str(path.relative_to(source)): path.read_bytes()
        for path in source.rglob("*")
        if path.is_file()
    }
    with LoopbackHub() as hub:
        hub.add_repo(DATASET, "dataset", gated="manual")
        hub.commit(DATASET, files | {"patches/N1.h5": b"large"}, repo_type="dataset")
        hub.grant(DATASET, "dataset")
        (tmp_path / "here").mkdir()
        yield Machine(hub, tmp_path / "here", token=hub.read_token)


def test_named_sections_come_and_pass_the_check(machine: Machine) -> None:
    to = machine.root / "data"
    done = machine.stem("sections", "download", "N1", "N3", "--to", to)
    assert done.returncode == 0, done.stderr
    came = {
        str(p.relative_to(to)) for p in to.rglob("*") if p.is_file() and ".cache" not in p.parts
    }
    assert came == {
        f"{kind}/{name}.{end}"
        for name in ("N1", "N3")
        for kind, end in (("st", "h5ad"), ("wsis", "tif"), ("metadata", "json"))
    }
    checked = machine.stem("sections", "check", to)
    assert checked.returncode == 0, checked.stderr
    assert [line.split(":")[0] for line in checked.stdout.splitlines()] == ["N1", "N3"]
    # Another time nothing is fetched again.
    machine.hub.clear()
    assert machine.stem("sections", "download", "N1", "--to", to).returncode == 0
    assert not [r for r in machine.hub.requests if r.method == "GET" and "resolve" in r.path]


def test_metadata_alone_and_unknown_ids(machine: Machine) -> None:
    to = machine.root / "data"
    done = machine.stem("sections", "download", "--to", to)
    assert "Metadata of 3 sections" in done.stdout
    assert not (to / "wsis").exists()
    wrong = machine.stem("sections", "download", "N9", "../N1", "--to", to)
    assert wrong.returncode == 2 and "'../N1' is not a HEST id" in wrong.stderr
    wrong = machine.stem("sections", "download", "N9", "--to", to)
    assert wrong.returncode == 2 and "has no section N9" in wrong.stderr
    assert len(wrong.stderr.strip().splitlines()) == 1


def test_without_access_it_says_what_to_do(machine: Machine) -> None:
    machine.token = None
    done = machine.stem("sections", "download", "N1", "--to", machine.root / "data")
    assert done.returncode == 2
    assert "is gated" in done.stderr and "HF_TOKEN" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_without_network_it_says_so(machine: Machine) -> None:
    machine.more = {"HF_HUB_OFFLINE": "1"}
    done = machine.stem("sections", "download", "N1", "--to", machine.root / "data")
    assert done.returncode == 2
    assert "the network is forbidden (HF_HUB_OFFLINE is set)" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_faulty_section_is_told_among_good_ones(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from app.cli import main

    write_section(tmp_path, "A", metadata={})
    write_section(tmp_path, "B", mpp=2.5, metadata={})
    assert main(["sections", "check", str(tmp_path)]) == 2
    shown = capfd.readouterr()
    assert [line[:1] for line in shown.out.splitlines()] == ["A", "B"]
    assert shown.err.startswith("stem: 1 of 2 sections cannot be trained on: B (")
    assert len(shown.err.splitlines()) == 1
    assert main(["sections", "check", str(tmp_path), "A"]) == 0
