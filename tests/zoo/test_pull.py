"""`stem zoo pull`, verify and remove against the loopback Hub, with the real client."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.forked import run_forked
from tests.hub.server import LoopbackHub
from tests.zoo.world import Machine, contents, hub_entry, named_copy, one_line
from zoo.entries import FileEntry, describe_files
from zoo.hub_access import TRIES

REPO, NAME = "lab/tiny", "tiny-hub"
BIG = "README.md"  # made large, to have something to break off


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    with LoopbackHub() as hub:
        yield hub


@pytest.fixture(scope="module")
def folder(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model on the Hub; its card is 6 MB long."""
    out = named_copy(tiny_model, tmp_path_factory.mktemp("hub") / "model", NAME)
    (out / BIG).write_bytes(os.urandom(3_000_000).hex().encode())
    return out


@pytest.fixture
def machine(hub: LoopbackHub, folder: Path, tmp_path: Path) -> Machine:
    """A machine whose registry pins the model as it is on the Hub."""
    machine = Machine(hub, tmp_path)
    hub.add_repo(REPO)
    machine.write_registry(hub_entry(folder, REPO, hub.commit(REPO, contents(folder))))
    return machine


def asked_anything(hub: LoopbackHub) -> bool:
    return bool(hub.requests)


def downloads(hub: LoopbackHub) -> list[str | None]:
    """The Range of every download of the large file."""
    return [r.range for r in hub.requests if r.side == "cdn" and BIG in r.path]


def test_pull_verify_use_offline_remove(machine: Machine, folder: Path) -> None:
    assert machine.states()[NAME] == "available"
    done = machine.stem("zoo", "pull", NAME)
    assert done.returncode == 0, done.stderr
    assert "every file checked" in done.stdout
    assert "Licences: code" in done.stdout
    installed = json.loads(machine.stem("zoo", "info", NAME, "--json").stdout)
    assert installed["state"] == "installed"
    assert contents(Path(installed["folder"])) == contents(folder)
    assert str(machine.home / "zoo" / "models") in installed["folder"]

    machine.hub.clear()
    assert machine.stem("zoo", "pull", NAME).returncode == 0
    assert "loads" in machine.stem("zoo", "verify", NAME).stdout
    machine.more = {"HF_HUB_OFFLINE": "1"}
    assert machine.stem("zoo", "pull", NAME).returncode == 0
    assert machine.usable(NAME)
    assert not asked_anything(machine.hub), machine.hub.requests

    machine.more = {}
    (Path(installed["folder"]) / "genes.csv").resolve().write_text("x")
    damaged = machine.stem("zoo", "verify", NAME)
    assert damaged.returncode == 2
    assert "changed or missing: genes.csv" in damaged.stdout
    removed = machine.stem("zoo", "remove", NAME)
    assert removed.returncode == 0, removed.stderr
    assert "MB are free again" in removed.stdout
    assert machine.states()[NAME] == "available"
    assert not [p for p in (machine.home / "zoo").rglob("*") if p.is_file() and p.suffix != ".lock"]
    assert "was not pulled" in one_line(machine.stem("zoo", "remove", NAME))
    assert "comes with the program" in one_line(machine.stem("zoo", "remove", "her2st-breast"))


def test_cached_files_install_without_network(machine: Machine) -> None:
    assert machine.stem("zoo", "pull", NAME).returncode == 0
    (machine.home / "zoo" / "installed" / "models" / f"{NAME}.json").unlink()
    machine.hub.clear()
    machine.more = {"HF_HUB_OFFLINE": "1"}
    done = machine.stem("zoo", "pull", NAME)
    assert done.returncode == 0, done.stderr
    assert not asked_anything(machine.hub)


@pytest.mark.parametrize("how", ["forbidden", "unreachable"])
def test_offline_without_cache_names_files_and_place(machine: Machine, how: str) -> None:
    machine.more = (
        {"HF_HUB_OFFLINE": "1"} if how == "forbidden" else {"HF_ENDPOINT": "http://127.0.0.1:9"}
    )
    said = one_line(machine.stem("zoo", "pull", NAME))
    assert ("HF_HUB_OFFLINE is set" if how == "forbidden" else "cannot be reached") in said
    assert "config.json, model.safetensors, genes.csv" in said
    place = machine.home / "models" / NAME
    assert str(place) in said
    # What the sentence says to do works.
    place.parent.mkdir(parents=True)
    folder = next(p for p in [Path(machine.root / "by-hand")])
    folder.mkdir()
    for path, content in machine.hub.files(REPO).items():
        (folder / path).write_bytes(content)
    folder.rename(place)
    assert machine.usable(NAME)


def test_a_broken_connection_is_gone_on_with(machine: Machine) -> None:
    machine.hub.cut(BIG, after_bytes=2_500_000)
    done = machine.stem("zoo", "pull", NAME)
    assert done.returncode == 0, done.stderr
    first, second = downloads(machine.hub)
    assert first is None
    assert second is not None
    start = int(second.removeprefix("bytes=").removesuffix("-"))
    assert 2_000_000 <= start <= 2_500_000
    assert machine.usable(NAME)


def test_a_server_without_ranges_starts_anew(machine: Machine) -> None:
    machine.hub.cut(BIG, after_bytes=2_500_000, reset=True)
    machine.hub.fail("/cdn/", 503, times=1)
    done = machine.stem("zoo", "pull", NAME)
    assert done.returncode == 0, done.stderr
    assert machine.usable(NAME)


def test_a_killed_pull_leaves_nothing_that_loads_and_is_gone_on_with(
    machine: Machine, folder: Path
) -> None:
    big = (folder / BIG).read_bytes()
    machine.hub.slow(BIG, bytes_per_s=1_500_000)
    process = machine.start("zoo", "pull", NAME)
    end = time.monotonic() + 60
    while machine.partial_bytes(big) < 1_500_000 and time.monotonic() < end:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=20)
    kept = machine.partial_bytes(big)
    assert kept >= 1_500_000
    assert machine.states()[NAME] == "available"
    refused = machine.stem("predict", "no.tif", "--model", NAME, "--out", machine.root / "out")
    assert f"run stem zoo pull {NAME}" in one_line(refused)
    machine.hub.heal()
    machine.hub.clear()
    assert machine.stem("zoo", "pull", NAME).returncode == 0
    assert downloads(machine.hub) == [f"bytes={kept}-"]
    assert "loads" in machine.stem("zoo", "verify", NAME).stdout
    assert machine.partial_bytes(big) == 0


def test_two_pulls_at_once_end_with_one_good_copy(machine: Machine, folder: Path) -> None:
    machine.hub.slow(BIG, bytes_per_s=3_000_000)
    both = [machine.start("zoo", "pull", NAME) for _ in range(2)]
    for process in both:
        _, said = process.communicate(timeout=90)
        assert process.returncode == 0, said
    assert len(downloads(machine.hub)) == 1
    assert "loads" in machine.stem("zoo", "verify", NAME).stdout
    blobs = list((machine.home / "zoo" / "blobs").iterdir())
    assert {p.name for p in blobs} == {f.sha256 for f in describe_files(folder)}
    assert not list((machine.home / "zoo" / "partial").iterdir())


def test_a_damaged_download_is_refused(machine: Machine) -> None:
    machine.hub.corrupt("model.safetensors")
    said = one_line(machine.stem("zoo", "pull", NAME))
    assert "model.safetensors" in said
    assert "damaged" in said
    assert machine.states()[NAME] == "available"
    done = machine.stem("zoo", "pull", NAME)  # the damaged piece is not kept
    assert done.returncode == 0, done.stderr


def test_a_damaged_small_file_is_refused(machine: Machine) -> None:
    machine.hub.corrupt("genes.csv")
    assert "genes.csv" in one_line(machine.stem("zoo", "pull", NAME))
    assert machine.states()[NAME] == "available"
    assert machine.stem("zoo", "pull", NAME).returncode == 0


def test_another_hash_than_the_registrys_is_refused(machine: Machine, folder: Path) -> None:
    entry = hub_entry(folder, REPO, machine.hub.head(REPO))
    assert entry.hub is not None
    files = tuple(
        FileEntry(path=f.path, size=f.size, sha256="0" * 64) if f.path == "genes.csv" else f
        for f in entry.hub.files
    )
    hub_part = entry.hub.model_copy(update={"files": files})
    machine.write_registry(entry.model_copy(update={"hub": hub_part}))
    said = one_line(machine.stem("zoo", "pull", NAME))
    assert "genes.csv" in said
    assert "not the one that was recorded" in said
    assert machine.states()[NAME] == "available"


def test_gated_private_and_granted(machine: Machine, folder: Path) -> None:
    machine.hub.add_repo("lab/closed", gated=True)
    commit = machine.hub.commit("lab/closed", contents(folder))
    machine.write_registry(hub_entry(folder, "lab/closed", commit))
    said = one_line(machine.stem("zoo", "pull", NAME))
    assert "lab/closed is gated" in said
    assert f"ask for access at {machine.hub.endpoint}/lab/closed" in said
    assert "HF_TOKEN" in said
    machine.token = machine.hub.token
    said = one_line(machine.stem("zoo", "pull", NAME))
    assert "token in HF_TOKEN was not let in" in said
    assert machine.hub.token not in said
    machine.hub.grant("lab/closed")
    done = machine.stem("zoo", "pull", NAME)
    assert done.returncode == 0, done.stderr
    told = done.stdout + done.stderr
    told += "".join(
        p.read_text(encoding="utf-8", errors="replace")
        for p in machine.home.rglob("*") if p.is_file()
    )  # fmt: skip
    assert machine.hub.token not in told  # neither shown nor logged nor kept


def test_missing_repository_revision_and_file(machine: Machine, folder: Path) -> None:
    machine.write_registry(hub_entry(folder, "lab/nowhere", "a" * 40))
    assert "does not exist or is private" in one_line(machine.stem("zoo", "pull", NAME))
    machine.token = machine.hub.token
    assert "has no repository lab/nowhere" in one_line(machine.stem("zoo", "pull", NAME))
    machine.write_registry(hub_entry(folder, REPO, "b" * 40))
    assert "has no revision bbbb" in one_line(machine.stem("zoo", "pull", NAME))
    machine.hub.add_repo("lab/half")
    half = {n: c for n, c in contents(folder).items() if n != "genes.csv"}
    machine.write_registry(hub_entry(folder, "lab/half", machine.hub.commit("lab/half", half)))
    assert "does not have genes.csv" in one_line(machine.stem("zoo", "pull", NAME))
    other = contents(folder) | {"config.json": b'{"schema_version": 99}'}
    machine.hub.add_repo("lab/new")
    commit = machine.hub.commit("lab/new", other)
    entry = hub_entry(folder, "lab/new", commit)
    assert entry.hub is not None
    bare = entry.hub.model_copy(update={"files": ()})
    machine.write_registry(entry.model_copy(update={"hub": bare}))
    assert "manifest version 99" in one_line(machine.stem("zoo", "pull", NAME))
    assert machine.states()[NAME] == "available"


@pytest.mark.parametrize(
    ("match", "status", "headers"),
    [
        ("/api/models", 429, {"Retry-After": "1"}),
        ("/cdn/", 429, {"Retry-After": "1"}),
        ("/api/models", 503, {}),
        ("/cdn/", 500, {}),
        ("/cdn/", 403, {}),
    ],
)
def test_what_passes_is_waited_for(
    machine: Machine, match: str, status: int, headers: dict[str, str]
) -> None:
    fault = machine.hub.fail(match, status, times=2 if status != 403 else None, headers=headers)
    done = machine.stem("zoo", "pull", NAME)
    assert fault.hits >= 1
    if status == 403:
        assert "refused this" in one_line(done)
        assert machine.states()[NAME] == "available"
        return
    assert done.returncode == 0, done.stderr
    assert machine.usable(NAME)


def test_a_hub_that_stays_down_is_given_up(machine: Machine) -> None:
    """Tried as often as ever, with shorter pauses; what passes is waited for above."""
    machine.hub.fail("/cdn/", 500, times=None)
    program = """
import sys, zoo.hub_access
from app.cli import main
zoo.hub_access._PAUSE_S = 0.05
sys.exit(main())
"""
    given = (program, "zoo", "pull", NAME)
    done = run_forked("tests.forked:execute", given, machine.environment, machine.root, 120)
    said = one_line(done)
    asked = [r for r in machine.hub.requests if r.side == "cdn" and r.method == "GET"]
    assert len(asked) >= TRIES
    assert "is not well (error 500)" in said
    assert "what came is kept" in said


def test_an_unpinned_model_is_pinned_by_its_first_pull(machine: Machine, folder: Path) -> None:
    first = machine.hub.head(REPO)
    machine.write_registry(hub_entry(folder, REPO, "unpinned"))
    assert machine.stem("zoo", "pull", NAME).returncode == 0
    pins = json.loads((machine.home / "zoo" / "pins.json").read_text())
    assert pins[NAME]["revision"] == first
    assert {f["path"] for f in pins[NAME]["files"]} == set(contents(folder))
    second = machine.hub.commit(REPO, {BIG: b"a new card"})
    assert machine.stem("zoo", "remove", NAME).returncode == 0
    assert first in machine.stem("zoo", "pull", NAME).stdout  # the recorded one, not the newest
    assert second in machine.stem("zoo", "pull", NAME, "--update").stdout
    pins = json.loads((machine.home / "zoo" / "pins.json").read_text())
    assert pins[NAME]["revision"] == second
    machine.stem("zoo", "remove", NAME)
    machine.hub.forget_commit(REPO, second)
    assert f"has no revision {second}" in one_line(machine.stem("zoo", "pull", NAME))


def test_a_newer_revision_in_the_registry_is_an_update(
    machine: Machine, folder: Path, tmp_path: Path
) -> None:
    assert machine.stem("zoo", "pull", NAME).returncode == 0
    newer = named_copy(folder, tmp_path / "newer", NAME)
    (newer / BIG).write_text("a newer card")
    commit = machine.hub.commit(REPO, contents(newer))
    machine.write_registry(hub_entry(newer, REPO, commit))
    assert machine.states()[NAME] == "update"
    done = machine.stem("zoo", "pull", NAME)
    assert commit in done.stdout, done.stderr
    assert machine.usable(NAME)


def test_registry_on_the_hub(machine: Machine, folder: Path) -> None:
    text = machine.registry.read_bytes()
    machine.registry.unlink()
    machine.hub.add_repo("lab/lists", repo_type="dataset")
    machine.hub.commit("lab/lists", {"registry.json": text}, repo_type="dataset")
    machine.more = {"STEM_REGISTRY": "datasets/lab/lists/registry.json"}
    listed = json.loads(machine.stem("zoo", "list", "--json").stdout)
    ours = next(row for row in listed if row["name"] == NAME)
    assert ours["listed_in"] == "datasets/lab/lists/registry.json"
    machine.more["HF_HUB_OFFLINE"] = "1"
    assert NAME in machine.states()  # from the cache
    machine.more = {"STEM_REGISTRY": f"datasets/lab/none/registry.json;{machine.root}/no.json"}
    listed_again = machine.stem("zoo", "list")
    assert listed_again.returncode == 0
    assert "her2st-breast" in listed_again.stdout
    assert listed_again.stderr.count("Warning:") == 2


def test_doctor_asks_about_gated_encoders(machine: Machine) -> None:
    machine.hub.add_repo("MahmoodLab/UNI", gated=True)
    machine.hub.add_repo("owkin/phikon-v2")
    found = json.loads(machine.stem("doctor", "--gated", "--json").stdout)["encoders"]
    assert "is gated" in found["uni"]
    assert "CC BY-NC-ND 4.0" in found["uni"]
    assert found["phikon-v2"].startswith("open to you")
    assert not [r for r in machine.hub.requests if "/resolve/" in r.path]  # nothing downloaded
