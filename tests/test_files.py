"""Files are whole or not there."""

from pathlib import Path
from threading import Barrier, Thread

import pytest

from stem_core.files import written_whole


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for only_writer in (False, True):
        path.write_text("before")
        with pytest.raises(ValueError, match="half"):
            with written_whole(path, only_writer=only_writer) as aside:
                aside.write_text("aft")
                msg = "half"
                raise ValueError(msg)
        assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.txt", "before")]
        with written_whole(path, only_writer=only_writer) as aside:
            aside.write_text("after")
            assert path.read_text() == "before"
        assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.txt", "after")]


def test_two_writers_do_not_mix(tmp_path: Path) -> None:
    path, together = tmp_path / "a.txt", Barrier(2)

    def write(letter: str) -> None:
        with written_whole(path) as aside, aside.open("w") as file:
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
    with written_whole(tmp_path / "a.txt", only_writer=True) as aside:
        aside.write_text("new")
    assert (tmp_path / "a.txt").read_text() == "new"
    assert len(list(tmp_path.iterdir())) == 1
