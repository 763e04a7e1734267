"""What all tests share: no network, real data where they are, a tiny real model."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before anything imports the Hub's client

import pytest

from tests.tiny import write_tiny_model

SLOWEST_FIRST = ("tests/browser", "tests/zoo", "tests/app")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With several processes (`-n 2 --dist loadgroup`), keep together what shares costly fixtures.

    A file stays in one process, and so do all browser tests of the one running app. What takes
    longest begins first, so that the processes end together.
    """
    if not getattr(config.option, "loadgroup", False):  # what xdist tells its processes
        return
    for item in items:
        place = item.nodeid.partition("::")[0]
        if place.startswith("tests/browser") and "app" in getattr(item, "fixturenames", ()):
            place = "tests/browser app"
        item.add_marker(pytest.mark.xdist_group(place))

    def rank(item: pytest.Item) -> int:
        places = enumerate(SLOWEST_FIRST)
        return next((at for at, name in places if item.nodeid.startswith(name)), 9)

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
