"""What all tests share: no network, real data where they are, a tiny real model."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before anything imports the Hub's client
if "PYTEST_XDIST_WORKER" in os.environ:
    # Several processes with as many threads each wait for one another: ten times slower.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

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


@pytest.fixture(scope="session")
def sample_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The synthetic sample slide; drawing it takes seconds, so all tests have the same file."""
    from stem_core.slides.sample import sample_slide

    return sample_slide(tmp_path_factory.mktemp("sample") / "made on the way")


@pytest.fixture(scope="session")
def give_sample(sample_file: Path) -> Callable[[Path], None]:
    """Put the sample slide into the home folder of an app, as if it had drawn it before."""

    def give(home: Path) -> None:
        folder = home / "sample"
        folder.mkdir(parents=True, mode=0o700)
        os.link(sample_file, folder / sample_file.name)

    return give


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the model `tiny-test`; the registry knows it, in child processes too."""
    models = tmp_path_factory.mktemp("models")
    folder = write_tiny_model(models / "tiny-test")
    os.environ["STEM_MODELS_DIR"] = str(models)
    return folder
