"""Patches are read and prepared ahead, in threads or processes, with the same result to the bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.torch import save_file

from stem_core.encoders.catalogue import CATALOGUE
from stem_core.encoders.condition import Encoder
from stem_core.encoders.embedding_cache import EmbeddingCache
from stem_core.encoders.foundation import load_published
from stem_core.encoders.pair import JoinedEncoder
from stem_core.encoders.patch_reader import PatchReader
from stem_core.encoders.preparation import Prepared, Resized
from stem_core.encoders.reading_ahead import ReadingWorkers, embed_places, workers_for
from stem_core.encoders.reading_process import ReadingProcess
from stem_core.errors import Cancelled, SlideOpenError
from stem_core.slides.patches import read_patches
from stem_core.slides.reading import Slide, open_slide
from stem_core.training.views import ViewedEncoder
from tests.encoders.published import tiny_facts, tiny_state
from tests.encoders.reading_places import Places, Where, embed_long, read_by
from tests.hub.client import ROOT
from zoo.loader import find_encoder

PARTS = (slice(0, 64), slice(64, 80))
STOPPED = "from tests.encoders.reading_places import embed_until_stopped as e; e()"
START_S = 60.0  # until a process answers, on a busy machine


@pytest.fixture(scope="module")
def slide(sample_file: Path) -> Iterator[Slide]:
    with open_slide(sample_file) as slide:
        yield slide


def places(slide: Slide, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    random = np.random.default_rng(0)
    return random.uniform(0, slide.width_px, count), random.uniform(0, slide.height_px, count)


def tiny_encoder(name: str, folder: Path) -> Encoder:
    path = folder / f"{name}.safetensors"
    save_file({key: value.contiguous() for key, value in tiny_state(name).items()}, path)
    return load_published(tiny_facts(name), path)


def test_the_embeddings_are_the_same_whoever_reads(slide: Slide, tmp_path: Path) -> None:
    uni = tiny_encoder("uni", tmp_path)
    stained = ViewedEncoder(find_encoder(["compact-he"]), 9, turned=True)
    encoder = JoinedEncoder((uni, stained))
    x, y = places(slide, 80)
    expected = encoder.encode(read_patches(slide, x, y, side_um=60.0, size_px=70))
    assert np.ptp(expected, 0).min() > 0
    for workers in (ReadingWorkers(1), ReadingWorkers(2), ReadingWorkers(2, processes=True)):
        found = embed_places(slide, x, y, encoder, side_um=60.0, size_px=70, workers=workers)
        assert found.tobytes() == expected.tobytes()
        none = embed_places(slide, x[:0], y[:0], encoder, side_um=60.0, size_px=70, workers=workers)
        assert none.shape == (0, encoder.width)
    reader = PatchReader(slide, 70, 60.0, None, encoder.preparation)
    process = ReadingProcess(reader)
    try:
        end = time.monotonic() + START_S
        while not process.is_ready():  # until then, it is not the process that reads
            assert time.monotonic() < end
            time.sleep(0.02)
        found = np.concatenate(
            [encoder.encode_prepared(process(*(at[part] for at in (x, y)))) for part in PARTS]
        )
        assert process.is_ready()  # still
    finally:
        process.close()
    assert found.tobytes() == expected.tobytes()


def test_patches_are_prepared_as_they_are_alone() -> None:
    """Also where nothing has to be resized."""
    given = np.random.default_rng(0).integers(0, 256, (2, 3, 224, 224), dtype=np.uint8)
    rule = CATALOGUE["uni"].input
    assert rule is not None
    np.testing.assert_array_equal(Resized(rule)(given), given)
    cropped = Resized(replace(rule, px=200, crop=True))(given)
    np.testing.assert_array_equal(cropped, given[..., 12:212, 12:212])


class Ahead(Places):
    """Takes its first patches only when three more groups were prepared."""

    def __init__(self) -> None:
        super().__init__()
        self.prepared = threading.Semaphore(0)
        self.preparation = self.prepare  # type: ignore[assignment]

    def prepare(self, patches: NDArray[np.uint8]) -> Prepared:
        self.prepared.release()
        return patches

    def encode_prepared(self, prepared: Prepared) -> NDArray[np.float32]:
        if not self.readers:
            self.readers = [sum(self.prepared.acquire(timeout=20) for _ in range(4))]
        return np.zeros((len(prepared), 1), np.float32)


def test_preparing_goes_on_while_the_encoder_works(slide: Slide) -> None:
    encoder = Ahead()
    x, y = places(slide, 64 * 6)
    embed_places(slide, x, y, encoder, side_um=8.0, size_px=2, workers=ReadingWorkers(2))
    assert encoder.readers == [4]


def test_views_of_a_patch_are_read_once(
    slide: Slide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, cache = [], EmbeddingCache(tmp_path)
    own = Slide.read_box

    def counted(slide: Slide, *args: float) -> NDArray[np.uint8]:
        read.append(1)
        return own(slide, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Slide, "read_box", counted)
    plain = find_encoder(["compact-he"])
    views = [ViewedEncoder(plain, view, turned=True) for view in range(1, 4)]
    x, y = places(slide, 20)
    joined = cache.embed(slide, x, y, JoinedEncoder((plain, *views)), side_um=50.0, size_px=64)
    assert len(read) == 20
    alone = [cache.embed(slide, x, y, e, side_um=50.0, size_px=64) for e in (plain, *views)]
    assert len(read) == 20  # each was kept for itself
    np.testing.assert_array_equal(joined, np.concatenate(alone, 1))
    assert len({part.tobytes() for part in alone}) == 4


def started(process: ReadingProcess) -> int:
    """Wait until the process reads; who it is."""
    middle, end = np.array([300.0]), time.monotonic() + START_S
    while (found := read_by(process(middle, middle))) == os.getpid():
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_process_that_is_killed_is_done_without(
    slide: Slide, caplog: pytest.LogCaptureFixture
) -> None:
    process = ReadingProcess(PatchReader(slide, 2, 8.0, None, Where()))
    try:
        os.kill(started(process), signal.SIGKILL)
        middle = np.array([300.0])
        assert read_by(process(middle, middle)) == os.getpid()
        assert "they are read here" in caplog.text
    finally:
        process.close()


def test_what_cannot_be_sent_is_read_here(slide: Slide, caplog: pytest.LogCaptureFixture) -> None:
    x, y = places(slide, 70)
    encoder = Ahead()  # its preparation has a lock
    encoder.readers = [0]
    embed_places(
        slide, x, y, encoder, side_um=8.0, size_px=2, workers=ReadingWorkers(2, processes=True)
    )
    assert "they are read here" in caplog.text


def test_an_error_there_is_raised_here(slide: Slide) -> None:
    class Failing(Places):
        preparation = Where(fails_outside=os.getpid())

    with pytest.raises(SlideOpenError) as told:
        embed_long(slide, Failing())
    assert str(told.value) == "64 patches cannot be read there; look."


def test_stopping_ends_the_processes(slide: Slide) -> None:
    class Stopped(Places):
        def found(self, pids: list[int]) -> None:
            raise Cancelled

    encoder = Stopped()
    with pytest.raises(Cancelled):
        embed_long(slide, encoder)
    assert not any(is_there(pid) for pid in encoder.elsewhere)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_when_the_program_is_stopped(
    sample_file: Path, how: signal.Signals
) -> None:
    """Ctrl-C goes to all processes of the terminal, kill -9 to one."""
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED, sample_file],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0,
    )  # fmt: skip
    assert process.stdout is not None
    readers = [int(pid) for pid in process.stdout.readline().split()]
    assert len(readers) == 2
    assert all(is_there(pid) for pid in readers)
    if how == signal.SIGINT:
        os.killpg(process.pid, how)
    else:
        process.kill()
    _, said = process.communicate(timeout=60)
    assert process.returncode == -how
    assert said.count("Traceback") == (how == signal.SIGINT)  # the parent's own
    end = time.monotonic() + START_S
    while any(is_there(pid) for pid in readers):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_processes_are_for_many_cores_and_much_to_read(
    slide: Slide, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def with_cores(count: int, patches: int, slide: Slide = slide) -> ReadingWorkers:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(count)), raising=False)
        return workers_for(slide, patches)

    assert with_cores(2, 100_000) == ReadingWorkers(2)
    assert with_cores(1, 100_000) == ReadingWorkers(1)
    assert with_cores(16, 400) == ReadingWorkers(8)
    assert with_cores(16, 1000) == ReadingWorkers(8, processes=True)
    from PIL import Image

    Image.fromarray(slide.thumbnail(300)).save(tmp_path / "a.png")
    with open_slide(tmp_path / "a.png", mpp=1.0) as whole:  # each process would decode all of it
        assert with_cores(16, 1000, whole) == ReadingWorkers(8)
