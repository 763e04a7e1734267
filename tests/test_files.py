"""Files and folders are complete or absent."""

import errno
import os
from pathlib import Path
from threading import Barrier, Thread

import pytest

from stem_core.errors import OutputError
from stem_core.files import atomic_directory, atomic_write


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for only_writer in (False, True):
        path.write_text("before")
        with pytest.raises(ValueError, match="half"):
            with atomic_write(path, only_writer=only_writer) as temporary:
                temporary.write_text("aft")
                msg = "half"
                raise ValueError(msg)
        assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.txt", "before")]
        with atomic_write(path, only_writer=only_writer) as temporary:
            temporary.write_text("after")
            assert path.read_text() == "before"
        assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.txt", "after")]


def test_two_writers_do_not_mix(tmp_path: Path) -> None:
    path, together = tmp_path / "a.txt", Barrier(2)

    def write(letter: str) -> None:
        with atomic_write(path) as temporary, temporary.open("w") as file:
            together.wait()
            for _ in range(1000):
                file.write(letter)
            file.flush()
            together.wait()

    writers = [Thread(target=write, args=(letter,)) for letter in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert path.read_text() in ("a" * 1000, "b" * 1000)
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_is_written_over(tmp_path: Path) -> None:
    (tmp_path / ".a.txt.partial").write_text("left by a killed process, and longer")
    with atomic_write(tmp_path / "a.txt", only_writer=True) as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a.txt").read_text() == "new"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_becomes_one_sentence_that_keeps_its_number(tmp_path: Path) -> None:
    with pytest.raises(
        OutputError, match=r"a\.txt cannot be written \(No space left.*\)\. Buy"
    ) as caught:
        with atomic_write(tmp_path / "a.txt", advice="Buy a disk."):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.errno == errno.ENOSPC
    assert not list(tmp_path.iterdir())


def test_a_folder_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "folder"
    with atomic_directory(path) as temporary:
        (temporary / "old").touch()
        assert not path.exists()
    with pytest.raises(OutputError, match="exists already"), atomic_directory(path):
        pass
    with pytest.raises(ValueError, match="half"), atomic_directory(path, replace=True):
        msg = "half"
        raise ValueError(msg)
    assert [p.name for p in path.iterdir()] == ["old"]
    with atomic_directory(path, replace=True) as temporary:
        (temporary / "new").touch()
    assert [p.name for p in path.iterdir()] == ["new"]
    assert [p.name for p in path.parent.iterdir()] == ["folder"]
