"""The Models page in a real browser, with a Hub on loopback: filter, read, download, predict."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from stem_core.model.manifest import read_manifest
from tests.hub.client import client_environment
from tests.hub.server import LoopbackHub
from tests.tiny import write_tiny_model
from zoo.entries import HubSource, ModelEntry, describe_files, entry_from_manifest

from .running import map_of, settled, started_app

pytestmark = pytest.mark.browser
NAME, OTHER, REPO = "tiny-hub", "tiny-other", "somebody/tiny"
TISSUE, SPECIES = "placenta", "Rattus norvegicus"
SLOW_BYTES_PER_S = 120_000  # until the hub is healed


@dataclass(frozen=True)
class Zoo:
    """A running app with a home of its own, and the Hub that it asks."""

    address: str
    home: Path
    hub: LoopbackHub


@pytest.fixture(scope="module")
def zoo(
    browser: Browser,
    tmp_path_factory: pytest.TempPathFactory,
    give_piece: Callable[[Path], None],
) -> Iterator[Zoo]:
    place = tmp_path_factory.mktemp("zoo")
    give_piece(place / "home")
    folder = write_tiny_model(place / NAME, name=NAME)
    with LoopbackHub() as hub:
        hub.add_repo(REPO)
        revision = hub.commit(REPO, {path.name: path.read_bytes() for path in folder.iterdir()})
        source = HubSource(repo=REPO, revision=revision, files=describe_files(folder))
        entry = entry_from_manifest(read_manifest(folder / "config.json"), "hub", hub=source)
        entry = entry.model_copy(update={"tissue": TISSUE, "organ": TISSUE, "species": SPECIES})
        models = [listed(entry), listed(entry.model_copy(update={"name": OTHER}))]
        registry = place / "list.json"
        registry.write_text(json.dumps({"schema_version": 1, "models": models}), encoding="utf-8")
        environment = client_environment(hub, place / "hf") | {
            "STEM_HOME": str(place / "home"),
            "STEM_REGISTRY": f"{registry};{place / 'nowhere.json'}",
            "STEM_MODELS_DIR": str(place / "none"),
        }
        with started_app(environment, place) as address:
            yield Zoo(address, place / "home", hub)


def listed(entry: ModelEntry) -> dict[str, object]:
    return entry.model_dump(mode="json", exclude_none=True)


def card(page: Page, name: str) -> Locator:
    return page.locator(f".st-key-model_{name}")


def button(place: Page | Locator, name: str) -> Locator:
    return place.get_by_role("button", name=name, exact=True)


def start_download(page: Page, name: str) -> None:
    button(card(page, name), "Download").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Weights")
    expect(button(dialog, "Download")).to_be_disabled()
    dialog.get_by_text("I have read the licences").click()
    button(dialog, "Download").click()
    expect(dialog).to_have_count(0)


def test_filters_and_a_card(page: Page, zoo: Zoo) -> None:
    page.goto(f"{zoo.address}/models")
    expect(page.get_by_text("6 models", exact=True)).to_be_visible()
    expect(page.get_by_test_id("stAlert")).to_contain_text("nowhere.json")
    page.get_by_role("combobox", name="Species").click()
    page.get_by_role("option", name=SPECIES).click()
    page.keyboard.press("Escape")
    expect(page.get_by_text("2 of 6 models", exact=True)).to_be_visible()
    expect(card(page, "her2st-breast")).to_have_count(0)
    tiny = card(page, NAME)
    expect(tiny).to_have_count(1)  # it has moved up
    expect(tiny).to_contain_text("Available")
    expect(tiny.get_by_role("link", name=REPO)).to_have_attribute(
        "href", f"{zoo.hub.endpoint}/{REPO}"
    )
    tiny.get_by_text("Held out:").click()
    expect(tiny).to_contain_text("Protocol")
    expect(tiny).to_contain_text("Leave one section out")
    button(page, "Clear filters").click()
    expect(page.get_by_text("6 models", exact=True)).to_be_visible()
    gated = card(page, "kidney-visium-hmhvg")
    expect(gated).to_contain_text("Gated")
    expect(gated.get_by_role("link", name="MahmoodLab/UNI")).to_be_visible()


def test_from_the_hub_to_a_map(
    page: Page, context: BrowserContext, browser: Browser, zoo: Zoo
) -> None:
    zoo.hub.slow(".safetensors", SLOW_BYTES_PER_S)
    page.goto(f"{zoo.address}/models")
    start_download(page, NAME)
    tiny = card(page, NAME)
    expect(tiny).to_contain_text("Downloading")
    expect(tiny).to_contain_text(re.compile(r"Downloading .+ of 2\.\d MB"))
    expect(tiny).to_contain_text(re.compile(r"\d+ kB/s · about \d+ s left"))
    page.reload()
    expect(tiny).to_contain_text(re.compile(r"Downloading .+ of 2\.\d MB"))
    elsewhere = browser.new_context()
    stranger = elsewhere.new_page()
    stranger.goto(f"{zoo.address}/models")
    expect(card(stranger, NAME)).to_contain_text(re.compile(r"Downloading .+ of 2\.\d MB"))
    # A question that is open stays open when the download ends.
    button(card(page, OTHER), "Download").click()
    question = page.get_by_role("dialog")
    question.get_by_text("I have read the licences").click()
    zoo.hub.heal()
    expect(card(stranger, NAME)).to_contain_text("Installed")
    expect(button(tiny, "Use on the Predict page")).to_be_attached()
    expect(button(question, "Download")).to_be_enabled()
    page.keyboard.press("Escape")
    expect(question).to_have_count(0)
    elsewhere.close()

    button(tiny, "Verify").click()
    expect(tiny).to_contain_text("files are what they were")
    button(tiny, "Use on the Predict page").click()
    page.wait_for_url(re.compile("/(predict)?$"))
    # The page was loaded again since, so this session has not seen the licences yet.
    button(page, "Accept and choose").click()
    expect(page.get_by_text("Still to choose: a slide.")).to_be_visible()
    page.get_by_role("button", name="Open the synthetic sample").click()
    expect(page.get_by_text(re.compile(r"^\d[\d\u202f]* spots? will be predicted"))).to_be_visible()
    expect(page.locator(".js-plotly-plot image")).to_have_count(3)
    page.get_by_text("Preview", exact=True).click()
    settled(page)
    button(page, "Run prediction").click()
    page.wait_for_url(re.compile(r"/results\?.*run=[0-9a-f]{32}"))
    map_of(page)

    page.goto(f"{zoo.address}/models")
    button(tiny, "Delete").click()
    button(page.get_by_role("dialog"), "Delete").click()
    expect(page.get_by_text(f"{NAME} is deleted")).to_be_visible()
    expect(tiny).to_contain_text("Available")
    assert not list((zoo.home / "zoo" / "installed").rglob("*.json"))


def test_stop_then_go_on(page: Page, zoo: Zoo) -> None:
    zoo.hub.slow(".safetensors", SLOW_BYTES_PER_S, after_bytes=700_000)
    page.goto(f"{zoo.address}/models")
    start_download(page, NAME)
    tiny = card(page, NAME)
    expect(tiny).to_contain_text(re.compile(r"Downloading ([789]\d\d kB|1\.\d MB) of"))
    button(tiny, "Stop").click()
    expect(tiny).to_contain_text("that came are kept")
    zoo.hub.heal()
    zoo.hub.clear()
    button(tiny, "Go on").click()
    expect(tiny).to_contain_text("Installed")
    weights = [r for r in zoo.hub.requests if r.side == "cdn" and r.method == "GET" and r.range]
    assert weights, "the weights did not go on where they were stopped"


def test_a_failure_is_a_sentence_with_a_way_on(page: Page, zoo: Zoo) -> None:
    zoo.hub.fail("/tree/", 403, times=None)
    page.goto(f"{zoo.address}/models")
    start_download(page, OTHER)
    other = card(page, OTHER)
    expect(other.get_by_test_id("stAlert")).to_contain_text(REPO)
    expect(button(other, "Try again")).to_be_visible()
    button(other, "Dismiss").click()
    expect(other.get_by_test_id("stAlert")).to_have_count(0)
    expect(button(other, "Download")).to_be_visible()
    zoo.hub.heal()
