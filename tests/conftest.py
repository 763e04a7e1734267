"""What all tests share: no network, real data where they are, a tiny real model."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before anything imports the Hub's client
if "PYTEST_XDIST_WORKER" in os.environ:
    # Several processes with as many threads each wait for one another: ten times slower.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from filelock import FileLock

from tests.tiny import write_tiny_model

SLOWEST_FIRST = ("tests/browser", "tests/zoo", "tests/app")
OF_THE_RUNNING_APP = tuple(
    f"tests/browser/test_{name}.py" for name in ("accessibility", "maps", "whole_path")
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With several processes (`-n 2`), keep together what shares costly fixtures.

    A file stays in one process, and so do the browser tests of the one running app. (xdist's own
    groups have no effect with pytest 9.2.)
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            place = nodeid.partition("::")[0]
            return "the running app" if place in OF_THE_RUNNING_APP else place

    return ByFile(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that several processes end together."""

    def rank(item: pytest.Item) -> int:
        places = enumerate(SLOWEST_FIRST)
        return next((at for at, name in places if item.nodeid.startswith(name)), 9)

    if hasattr(config, "workerinput"):
        items.sort(key=rank)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real sections; tests that need it skip where it is not."""
    value = os.environ.get("STEM_TEST_DATA")
    if not value:
        pytest.skip("STEM_TEST_DATA is not set: no real sections on this machine")
    return Path(value).resolve()


def made_once(
    tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]
) -> Path:
    """Return a folder that all processes of this run share; `make` fills it, in the first only.

    What lies in it is for reading, or to be copied.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"shared-{name}"
    with FileLock(folder.with_suffix(".lock")):
        if not folder.is_dir():
            unfinished = folder.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            make(unfinished)
            unfinished.rename(folder)
    return folder


@pytest.fixture(scope="session")
def sample_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The synthetic sample slide; drawing it takes seconds, so all tests have the same file."""
    from stem_core.slides.sample import SAMPLE_NAME, sample_slide

    return made_once(tmp_path_factory, "sample", sample_slide) / SAMPLE_NAME


PIECE_PX = 1280


@pytest.fixture(scope="session")
def sample_piece(tmp_path_factory: pytest.TempPathFactory, sample_file: Path) -> Path:
    """One millimetre of the sample at the edge of the tissue, a pyramid of the same name.

    A survey of the whole sample takes seconds; where only the way of a prediction matters, and not
    the size of the slide, this is the slide to predict on.
    """
    from stem_core.slides.reading import open_slide

    def cut(folder: Path) -> None:
        with open_slide(sample_file) as slide:
            x, y, side = 200, 1450, PIECE_PX
            pixels = slide.read_box(x, y, side, side, side, side)
            write_pyramid(folder / sample_file.name, pixels, slide.mpp)

    return made_once(tmp_path_factory, "piece", cut) / sample_file.name


def write_pyramid(path: Path, pixels: np.ndarray, mpp: float) -> None:
    """Write a tiled TIFF of two levels that says its microns per pixel."""
    import tifffile

    with tifffile.TiffWriter(path) as tiff:
        for step in (1, 2):
            tiff.write(
                pixels[::step, ::step], photometric="rgb", tile=(256, 256), compression="zlib",
                resolution=(1e4 / mpp / step,) * 2, resolutionunit="CENTIMETER",
                subfiletype=0 if step == 1 else 1, metadata=None,
            )  # fmt: skip


def _given(home: Path, slide: Path) -> None:
    folder = home / "sample"
    folder.mkdir(parents=True, mode=0o700)
    os.link(slide, folder / slide.name)


@pytest.fixture(scope="session")
def give_sample(sample_file: Path) -> Callable[[Path], None]:
    """Put the sample slide into the home folder of an app, as if it had drawn it before."""
    return lambda home: _given(home, sample_file)


@pytest.fixture(scope="session")
def give_piece(sample_piece: Path) -> Callable[[Path], None]:
    """Put a piece of it there in its place: the app opens it as the sample."""
    return lambda home: _given(home, sample_piece)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the model `tiny-test`; the registry knows it, in child processes too."""
    made = made_once(tmp_path_factory, "tiny-model", lambda f: write_tiny_model(f / "tiny-test"))
    models = tmp_path_factory.mktemp("models")
    shutil.copytree(made, models, dirs_exist_ok=True)
    os.environ["STEM_MODELS_DIR"] = str(models)
    return models / "tiny-test"
