"""The Models page, run as Streamlit runs it, without a browser."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from app.jobs import pulls
from app.jobs.pulls import PullStatus, read_pull
from app.state import Keys, job_queue
from stem_core.model.manifest import read_manifest
from tests.hub.client import ROOT, client_environment
from tests.hub.server import LoopbackHub
from tests.tiny import write_tiny_model
from zoo.entries import HubSource, ModelEntry, describe_files, entry_from_manifest
from zoo.store import installed

MAIN = ROOT / "app" / "main.py"
REPO = "somebody/tiny"
NAME = "tiny-hub"
OWN = ["her2st-breast", "mouse-olfactory-bulb", "kidney-visium-hmhvg", "kidney-visium-hvg"]
LIMIT_S = 120.0


@dataclass(frozen=True)
class Pulled:
    """A model that was really pulled: its entry, and the zoo's records of it."""

    entry: ModelEntry
    records: Path


@pytest.fixture(scope="module")
def pulled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pulled]:
    """A tiny model, pulled once from a Hub on loopback by the process that the page starts."""
    place = tmp_path_factory.mktemp("pulled")
    folder = write_tiny_model(place / NAME, name=NAME)
    with LoopbackHub() as hub:
        hub.add_repo(REPO)
        revision = hub.commit(REPO, {path.name: path.read_bytes() for path in folder.iterdir()})
        source = HubSource(repo=REPO, revision=revision, files=describe_files(folder))
        entry = entry_from_manifest(read_manifest(folder / "config.json"), "hub", hub=source)
        environment = client_environment(hub, place / "hf") | {
            "STEM_HOME": str(place / "home"),
            "STEM_REGISTRY": str(write_list(place / "list.json", entry)),
        }
        subprocess.run(
            [sys.executable, "-m", "app.jobs.pulls", NAME],
            env=environment, cwd=ROOT, check=True, timeout=LIMIT_S,
        )  # fmt: skip
    yield Pulled(entry, place / "home" / "zoo")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("STEM_MODELS_DIR", str(tmp_path / "none"))
    monkeypatch.delenv("STEM_REGISTRY", raising=False)
    job_queue.clear()
    st.cache_data.clear()
    return tmp_path / "home"


@pytest.fixture
def lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Name a list of models in the environment."""

    def name_them(*entries: ModelEntry) -> Path:
        path = write_list(tmp_path / "models.json", *entries)
        monkeypatch.setenv("STEM_REGISTRY", str(path))
        return path

    return name_them


@pytest.fixture
def here(pulled: Pulled, home: Path, lists: Callable[..., Path]) -> ModelEntry:
    """The entry of the tiny model, which is installed."""
    lists(pulled.entry)
    shutil.copytree(pulled.records, home / "zoo")
    return pulled.entry


def write_list(path: Path, *entries: ModelEntry) -> Path:
    models = [entry.model_dump(mode="json", exclude_none=True) for entry in entries]
    path.write_text(json.dumps({"schema_version": 1, "models": models}), encoding="utf-8")
    return path


def start(page: str = "zoo") -> AppTest:
    at = AppTest.from_file(str(MAIN), default_timeout=60).run()
    return sound(at.switch_page(f"views/{page}.py").run())


def sound(at: AppTest) -> AppTest:
    assert not at.exception, at.exception[0].message
    return at


def words(at: AppTest) -> str:
    parts = (str(part.value) for part in (*at.markdown, *at.caption))
    return " ".join(parts).replace("\u00a0", " ")


def cards(at: AppTest) -> list[str]:
    """Names of the models whose cards are there, from the captions that begin with them."""
    return [c.value.split(" · ")[0] for c in at.caption if " · " in c.value and "` " not in c.value]


def click(at: AppTest, key: str) -> AppTest:
    return sound(at.button(key=key).click().run())


def has(at: AppTest, key: str) -> bool:
    return any(button.key == key for button in at.button)


def test_every_model_of_the_list_has_a_card() -> None:
    at = start()
    assert cards(at) == OWN
    assert "4 models" in words(at)
    assert "not pinned yet: the first download records revision and hashes" in words(at)
    assert "comes with the program" in words(at)
    assert "9.3 MB" in words(at)
    assert at.button(key="delete_her2st-breast").disabled
    assert "stays with it" in at.button(key="delete_her2st-breast").help
    assert at.button(key="clear_filters").disabled


def test_a_card_shows_figures_with_their_protocol_and_what_is_missing() -> None:
    at = start()
    labels = [expander.label for expander in at.expander]
    assert any("0.60" in label for label in labels)
    assert any("reported, not measured here" in label for label in labels)
    for expander in at.expander:
        if "PCC" in expander.label:
            assert any("**Protocol**" in part.value for part in expander.markdown)
    shown = words(at)
    assert "**Reported by others**, not measured with this program" in shown
    assert "UNI and CONCH are gated" in shown
    assert "/MahmoodLab/UNI)" in shown and "HF\\_TOKEN" in shown
    assert "run stem zoo pull\\-encoder uni and stem zoo pull\\-encoder conch" in shown


def test_filters_narrow_the_list_and_are_cleared() -> None:
    at = start()
    at.multiselect(key="filter_tissue").set_value(["Kidney"]).run()
    assert cards(sound(at)) == OWN[2:]
    assert "2 of 4 models" in words(at)
    at.multiselect(key="filter_species").set_value(["Mus musculus"]).run()
    assert cards(sound(at)) == []
    assert "No model fits these filters" in words(at)
    click(at, "clear_filters")
    assert cards(at) == OWN
    at.pills(key="filter_state").set_value(["installed"]).run()
    assert cards(sound(at)) == OWN[:2]
    at.pills(key="filter_access").set_value([True]).run()
    assert cards(sound(at)) == []
    click(at, "clear_filters")
    at.multiselect(key="filter_licence").set_value(["MIT"]).run()
    assert cards(sound(at)) == OWN[:2]
    click(at, "clear_filters")
    at.multiselect(key="filter_platform").set_value(["Visium"]).run()
    assert cards(sound(at)) == OWN[2:]


def test_what_a_list_says_is_never_markdown(pulled: Pulled, lists: Callable[..., Path]) -> None:
    entry = pulled.entry.model_copy(update={"title": "**x** <b>y</b> [z](http://w)", "organ": "*"})
    lists(entry)
    at = start()
    titles = [part.value for part in at.markdown if part.value.startswith("####")]
    assert "#### \\*\\*x\\*\\* \\<b\\>y\\</b\\> \\[z\\]\\(http\\://w\\)" in titles
    assert "listed in" in words(at)


def test_a_download_begins_only_when_the_licences_were_read(
    pulled: Pulled, lists: Callable[..., Path]
) -> None:
    lists(pulled.entry)
    at = start()
    click(at, f"download_{NAME}")
    assert at.button(key="confirm_download").disabled
    assert f"**Weights** {pulled.entry.licences.weights}" in words(at)
    assert f"**Size** {pulled.entry.size_bytes / 1e6:.1f} MB" in words(at)
    assert read_pull(NAME) is None
    at.checkbox(key="licences_read").check().run()
    assert not sound(at).button(key="confirm_download").disabled
    click(at, "confirm_download")
    assert not has(at, "confirm_download")
    status = read_pull(NAME)
    assert status is not None and status.name == NAME
    # This machine may not use the network here: the pull ends with a sentence, and nothing is here.
    end = time.monotonic() + LIMIT_S
    while (status := read_pull(NAME)) is None or status.state == "running":
        assert time.monotonic() < end
        time.sleep(0.2)
    at.run()
    assert "Nothing can be fetched from somebody/tiny" in sound(at).error[0].value
    assert has(at, f"again_{NAME}")
    click(at, f"dismiss_{NAME}")
    assert has(at, f"download_{NAME}") and not at.error


def test_a_size_that_cannot_be_had_is_told(pulled: Pulled, lists: Callable[..., Path]) -> None:
    at = start()
    assert "is asked from the Hub before the download" in words(at)
    click(at, "download_kidney-visium-hvg")
    assert "Its size is not known" in at.warning[0].value
    assert "CC BY\\-NC\\-ND 4.0" in words(at)
    at.checkbox(key="licences_read").check().run()
    assert not sound(at).button(key="confirm_download").disabled


def test_progress_is_shown_to_everyone(pulled: Pulled, lists: Callable[..., Path]) -> None:
    lists(pulled.entry)
    pulls._write(
        PullStatus(
            NAME, stage="download", done_bytes=3_100_000, total_bytes=9_300_000,
            bytes_per_s=1_200_000.0, left_s=5.2,
        )
    )  # fmt: skip
    at = start()
    [bar] = at.get("progress")
    assert bar.proto.text == "Downloading 3.1 MB of 9.3 MB"
    assert "1.2 MB/s · about 5 s left" in words(at)
    assert bar.proto.value == 30
    assert not has(at, f"download_{NAME}")
    click(at, f"stop_{NAME}")
    assert (pulls.paths.pulls_dir() / f"{NAME}.stop").exists()
    assert at.button(key=f"stop_{NAME}").disabled


@pytest.mark.parametrize("stage", ["starting", "waiting", "listing", "convert", "check", "new"])
def test_every_stage_has_words(stage: str, pulled: Pulled, lists: Callable[..., Path]) -> None:
    lists(pulled.entry)
    pulls._write(PullStatus(NAME, stage=stage))
    [bar] = start().get("progress")
    assert bar.proto.text


def test_stopped_and_failed_pulls_say_so(pulled: Pulled, lists: Callable[..., Path]) -> None:
    lists(pulled.entry)
    pulls._write(PullStatus(NAME, state="stopped", stage="download", done_bytes=2_000_000))
    at = start()
    assert "the 2.0 MB that came are kept" in at.info[0].value
    pulls._write(PullStatus(NAME, state="failed", sentence="The disk `is` full: free space."))
    at.run()
    assert sound(at).error[0].value == "The disk \\`is\\` full\\: free space."


def test_an_installed_model_is_used_after_its_licences_were_accepted(here: ModelEntry) -> None:
    pulls._write(PullStatus(NAME, state="done"))
    at = start()
    assert read_pull(NAME) is None  # told once
    assert f"{NAME} is installed." in [toast.value for toast in at.toast]
    click(at, f"use_{NAME}")
    at.switch_page("views/predict.py").run()  # the page has done so, the test's stand-in has not
    assert "Its licences, before the first use" in words(at)
    assert "Still to choose: a slide, a model." in words(at)
    click(at, f"refuse_{NAME}")
    assert at.session_state[Keys.MODEL] is None
    click(at, f"choose_{NAME}")
    click(at, f"accept_{NAME}")
    assert "Still to choose: a slide." in words(at)
    assert at.button(key=f"choose_{NAME}").disabled
    assert has(at, "choose_her2st-breast")
    click(at, "choose_her2st-breast")
    assert "Still to choose: a slide." in words(at)  # comes with the program: nothing is asked


def test_a_model_that_cannot_run_here_cannot_be_chosen(here: ModelEntry, home: Path) -> None:
    record = installed("model")[NAME]
    folder = home / "models" / "needs-uni"
    shutil.copytree(record.path, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["name"] = "needs-uni"
    config["encoders"] = [{"name": "uni", "revision": "unpinned", "width": 1024}]
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    at = start("predict")
    assert at.button(key="choose_needs-uni").disabled
    assert "needs UNI" in words(at)
    at = start()
    assert at.button(key="use_needs-uni").disabled
    assert "put there by hand" in words(at)
    assert at.button(key="delete_needs-uni").disabled
    assert "deleted by hand" in at.button(key="delete_needs-uni").help


def test_verifying_names_what_changed(here: ModelEntry, tmp_path: Path, home: Path) -> None:
    record = installed("model")[NAME]
    folder = tmp_path / "copy"
    shutil.copytree(record.path, folder)
    moved = record.model_copy(update={"folder": str(folder)})
    place = home / "zoo" / "installed" / "models" / f"{NAME}.json"
    place.write_text(moved.model_dump_json(), encoding="utf-8")
    at = start()
    click(at, f"verify_{NAME}")
    assert at.success[0].value == f"All {len(record.files)} files are what they were."
    with (folder / "genes.csv").open("a") as file:
        file.write("\n")
    click(at, f"verify_{NAME}")
    assert "genes.csv" in at.error[0].value and not at.success


def test_a_newer_revision_is_an_update(here: ModelEntry, lists: Callable[..., Path]) -> None:
    assert here.hub is not None
    newer = here.hub.model_copy(update={"revision": "a" * 40})
    lists(here.model_copy(update={"hub": newer}))
    at = start()
    at.pills(key="filter_state").set_value(["update"]).run()
    assert cards(sound(at)) == [NAME]
    click(at, f"update_{NAME}")
    assert at.button(key="confirm_download").label == "Update"
    assert at.button(key="confirm_download").disabled


def test_deleting_asks_and_then_removes(here: ModelEntry) -> None:
    at = start()
    at.session_state[Keys.MODEL] = NAME
    at.pills(key="filter_state").set_value(["installed"]).run()
    click(at, f"delete_{NAME}")
    assert "frees about" in words(at)
    assert NAME in installed("model")
    click(at, "confirm_delete")
    assert NAME not in installed("model")
    # It stays in sight, though it is not installed any more.
    assert has(at, f"download_{NAME}") and not has(at, f"use_{NAME}")
    assert at.session_state[Keys.MODEL] is None


def test_a_faulty_list_or_model_hides_no_other(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad.json").write_text("no list")
    monkeypatch.setenv("STEM_REGISTRY", f"{tmp_path / 'bad.json'};datasets/what")
    folder = home / "models" / "broken"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    at = start()
    assert len(at.warning) == 3
    assert any("broken" in warning.value for warning in at.warning)
    assert cards(at) == OWN
