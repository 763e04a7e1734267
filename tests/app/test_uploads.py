"""Uploads on a real disk: names, limits, removal, and the server's own slide folder."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import time
from pathlib import Path

import pytest

from app import paths, uploads
from stem_core.errors import JobError, OutputError, SlideOpenError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home %41?#"
    monkeypatch.setenv("STEM_HOME", str(home))
    monkeypatch.delenv("STEM_SLIDE_DIR", raising=False)
    return home


def test_an_upload_lies_under_a_name_of_ours_and_nobody_else_may_read_it() -> None:
    content = os.urandom(3_000_000)
    upload = uploads.store_upload(io.BytesIO(content), "../../Smith, John.SVS")
    assert upload.path == paths.uploads_dir() / upload.id / "file.svs"
    assert upload.path.read_bytes() == content
    assert upload.size_bytes == len(content)
    assert upload.sha256 == hashlib.sha256(content).hexdigest()
    assert uploads.upload_path(upload.id) == upload.path
    for folder in (upload.path.parent, paths.uploads_dir()):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_bytes_and_pieces_are_taken_as_well() -> None:
    assert uploads.store_upload(b"a,b\n", "spots.csv").path.read_bytes() == b"a,b\n"
    pieces = uploads.store_upload((bytes([i]) * 10 for i in range(3)), "x.h5ad")
    assert pieces.size_bytes == 30


@pytest.mark.parametrize("name", ["slide", "slide.exe", "slide.svs.html", "", "x.zip", ".csv/"])
def test_other_file_types_are_refused_with_the_list_of_those_that_are_taken(name: str) -> None:
    with pytest.raises(SlideOpenError, match=r"cannot be uploaded; choose one of: \.svs .*\.csv"):
        uploads.store_upload(b"abc", name)
    assert list(paths.uploads_dir().iterdir()) == []


def test_an_empty_file_and_one_above_the_limit_leave_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(SlideOpenError, match="is empty"):
        uploads.store_upload(b"", "x.png")
    monkeypatch.setenv("STEM_MAX_UPLOAD_GB", "0.000001")
    with pytest.raises(SlideOpenError, match="larger than the 1e-06 GB"):
        uploads.store_upload(b"x" * 1001, "x.png")
    assert list(paths.uploads_dir().iterdir()) == []
    monkeypatch.setenv("STEM_MAX_UPLOAD_GB", "many")
    with pytest.raises(OutputError, match="STEM_MAX_UPLOAD_GB must be"):
        uploads.store_upload(b"x", "x.png")


def test_an_upload_that_breaks_off_leaves_nothing() -> None:
    def broken():
        yield b"some"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        uploads.store_upload(broken(), "x.tif")
    assert list(paths.uploads_dir().iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said() -> None:
    with uploads.UploadWriter("x.tif") as writer:
        writer._file.close()
        writer._file = open("/dev/full", "wb", buffering=0)  # noqa: PTH123
        with pytest.raises(OutputError, match="disk is full"):
            writer.write(b"x" * 100)


@pytest.mark.parametrize("bad", ["", "..", "../x", "a" * 32 + "\n", "A" * 32, "g" * 32, None, 3])
def test_only_ids_of_ours_become_paths(bad: object) -> None:
    with pytest.raises(JobError):
        uploads.upload_path(bad)  # type: ignore[arg-type]


def test_an_upload_that_was_removed_is_asked_for_again() -> None:
    upload = uploads.store_upload(b"abc", "x.jpg")
    uploads.remove_upload(upload.id)
    with pytest.raises(JobError, match="upload it again"):
        uploads.upload_path(upload.id)


def test_unused_uploads_go_after_a_day_and_used_ones_stay() -> None:
    used, unused, young = (uploads.store_upload(b"abc", "x.jpg") for _ in range(3))
    two_days_ago_s = time.time() - 2 * 86400
    for upload in (used, unused):
        os.utime(upload.path.parent, (two_days_ago_s, two_days_ago_s))
    assert uploads.remove_unused(lambda: {used.id}) == 1
    assert used.path.exists() and young.path.exists() and not unused.path.exists()


def test_server_slides_are_confined_to_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "slides"
    (root / "case 1").mkdir(parents=True)
    (root / "case 1" / "a.svs").write_bytes(b"slide")
    (root / "notes.txt").write_bytes(b"text")
    (root / ".hidden.svs").write_bytes(b"slide")
    outside = tmp_path / "secret.svs"
    outside.write_bytes(b"secret")
    (root / "way-out.svs").symlink_to(outside)
    assert uploads.list_server_slides() == []
    monkeypatch.setenv("STEM_SLIDE_DIR", str(root))
    assert uploads.list_server_slides() == ["case 1/a.svs"]
    upload = uploads.register_server_slide("case 1/a.svs")
    assert uploads.upload_path(upload.id) == root / "case 1" / "a.svs"
    for place in ("../secret.svs", str(outside), "way-out.svs", "notes.txt", "case 1", "none.svs"):
        with pytest.raises(JobError, match="not in the server's slide folder"):
            uploads.register_server_slide(place)
    uploads.remove_upload(upload.id)
    assert (root / "case 1" / "a.svs").exists()
    monkeypatch.delenv("STEM_SLIDE_DIR")
    with pytest.raises(JobError):
        uploads.register_server_slide("case 1/a.svs")


def test_a_home_that_cannot_be_made_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("STEM_HOME", str(tmp_path / "file"))
    with pytest.raises(OutputError, match=r"cannot be made .* set STEM_HOME"):
        uploads.store_upload(b"abc", "x.jpg")


def test_nothing_is_made_by_asking_where_home_is(home: Path) -> None:
    assert paths.home() == home
    assert not home.exists()
