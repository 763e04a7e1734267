"""The store of artifacts: contents once, records last, removal of what nobody has."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from stem_core.errors import ModelFileError
from zoo.entries import FileEntry
from zoo.places import zoo_dir
from zoo.store import (
    Artifact,
    blob_path,
    faulty_files,
    find_installed,
    install,
    installed,
    remove,
)

REVISION = "a" * 40


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def add(name: str, revision: str = REVISION, **files: bytes) -> Artifact:
    def make(folder: Path) -> tuple[FileEntry, ...]:
        for path, content in files.items():
            (folder / path).write_bytes(content)
        return ()

    return install("model", name, repo="lab/x", revision=revision, make=make)


def blobs() -> set[str]:
    return {path.name for path in zoo_dir("blobs").iterdir()}


def test_a_content_that_two_have_is_kept_once() -> None:
    one, two = add("one", own=b"1", shared=b"s" * 1000), add("two", shared=b"s" * 1000)
    assert installed("model") == {"one": one, "two": two}
    assert installed("encoder") == {}
    assert len(blobs()) == 2
    assert (one.path / "shared").samefile(two.path / "shared")
    assert remove("model", "one") == 1  # byte: the other has the rest
    assert (two.path / "shared").read_bytes() == b"s" * 1000
    assert not faulty_files(two.path, two.files)
    assert remove("model", "two") == 1000
    assert not blobs() and not list(zoo_dir("models").iterdir())
    with pytest.raises(ModelFileError, match="model two was not pulled"):
        remove("model", "two")


def test_a_new_revision_replaces_the_old_one() -> None:
    old = add("one", file=b"old", same=b"same")
    new = add("one", "b" * 40, file=b"new", same=b"same")
    assert find_installed("model", "one") == new
    assert not old.path.exists()
    assert blobs() == {file.sha256 for file in new.files}


def test_what_cannot_be_made_leaves_what_was() -> None:
    old = add("one", file=b"old")

    def fail(folder: Path) -> tuple[FileEntry, ...]:
        (folder / "file").write_bytes(b"half")
        msg = "it does not load"
        raise ModelFileError(msg)

    with pytest.raises(ModelFileError, match="does not load"):
        install("model", "one", repo="lab/x", revision=REVISION, make=fail)
    assert find_installed("model", "one") == old
    assert (old.path / "file").read_bytes() == b"old"
    assert blobs() == {old.files[0].sha256}


def test_a_damaged_content_is_not_given_to_the_next() -> None:
    one = add("one", file=b"right")
    blob = blob_path(str(one.files[0].sha256))
    blob.chmod(0o600)
    blob.write_bytes(b"wrong")
    assert faulty_files(one.path, one.files) == ["file"]
    again = add("one", "b" * 40, file=b"right")
    assert not faulty_files(again.path, again.files)
    assert blob.read_bytes() == b"right"


def test_a_record_without_its_files_counts_for_nothing(home: Path) -> None:
    one = add("one", file=b"1")
    (one.path / "file").unlink()
    assert find_installed("model", "one") is None
    place = home / "zoo" / "installed" / "models" / "two.json"
    place.write_text('{"kind": "model"}')
    assert installed("model") == {}


@pytest.mark.parametrize(("days", "kept"), [(6.9, True), (7.1, False)])
def test_what_broken_pulls_left_is_dropped_after_a_week(days: float, kept: bool) -> None:
    left = [zoo_dir("blobs") / ("c" * 64), zoo_dir("partial") / ("d" * 64)]
    for path in left:
        path.write_bytes(b"x")
        os.utime(path, 2 * (time.time() - days * 86_400,))
    one = add("one", file=b"1")
    os.utime(blob_path(str(one.files[0].sha256)), (0, 0))  # old, but in use
    add("two", file=b"2")
    assert [path.exists() for path in left] == [kept, kept]
    assert not faulty_files(one.path, one.files)


def test_where_files_cannot_be_linked_they_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(source: Path, target: Path) -> None:
        raise OSError

    monkeypatch.setattr(os, "link", no_links)
    one, two = add("one", shared=b"s"), add("two", shared=b"s")
    assert not (one.path / "shared").samefile(two.path / "shared")
    assert remove("model", "one") == 0
    assert not faulty_files(two.path, two.files)


def test_contents_cannot_be_written_by_mistake() -> None:
    one = add("one", file=b"1")
    assert (one.path / "file").stat().st_mode & 0o777 == 0o400
    assert (one.path.parent.stat().st_mode & 0o077) == 0
