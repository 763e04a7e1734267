"""The map viewer in a real Chromium, over a made-up section with 5,000 and 100,000 spots."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
from playwright.sync_api import FloatRect, Locator, Page, Request, expect

from app.components.maps_viewer import _read_drawn, _read_view, maps_viewer
from app.maps.layers import Layer
from app.maps.panels import Look, Panel, View
from stem_core.errors import SettingsError

from .viewer_server import spots, values

browser_test = pytest.mark.browser
MPP = 2.0
CORNER = View(2000.0, 2000.0, 1500.0)
RUN = "/made/5000"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page of `viewer_page.py` on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    here = Path(__file__).resolve()
    log = tmp_path_factory.mktemp("viewer") / "log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, here.with_name("viewer_server.py"), str(port)],
            cwd=here.parents[2], env={"PYTHONPATH": str(here.parents[2])}, stderr=errors,
        )  # fmt: skip
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            urlopen(f"http://127.0.0.1:{port}/made/counts").close()
            break
        except OSError:
            time.sleep(0.2)
    else:
        process.kill()
        pytest.fail(log.read_text(encoding="utf-8"))
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(20)


def opened(page: Page, address: str, query: str = "") -> Locator:
    """Open the page and wait until the maps are on the screen."""
    page.goto(f"{address}/?{query}")
    viewer = page.locator(".viewer")
    expect(viewer).to_have_attribute("data-painted-layer", re.compile("mean:GNAS"))
    return viewer


def choose(page: Page, gene: str) -> None:
    page.get_by_role("combobox", name="Gene").click()
    page.get_by_role("option", name=gene, exact=True).click()


def told(page: Page) -> dict[str, object]:
    words = page.locator("#told").text_content()
    assert words
    found: dict[str, object] = json.loads(words)
    return found


def stage_box(page: Page, place: int = 0) -> FloatRect:
    box = page.locator(".stage").nth(place).bounding_box()
    assert box is not None
    return box


def go_to_corner(page: Page) -> FloatRect:
    """Move the maps to `CORNER` as going back in the browser does; the first stage."""
    page.evaluate(
        """view => {
        const address = new URL(location.href)
        address.searchParams.set("view", view)
        history.pushState({}, "", address)
        dispatchEvent(new PopStateEvent("popstate")) }""",
        f"{CORNER.x_um:.0f},{CORNER.y_um:.0f},{CORNER.width_um:.0f}",
    )
    expect(page.locator(".scale").first).to_have_text(re.compile("^[125]00 µm$"))
    page.wait_for_timeout(600)
    return stage_box(page)


def spot_in(view: View, box: FloatRect) -> tuple[int, float, float]:
    """Return the spot nearest to the middle of a stage, and where it lies on the page."""
    at = spots(5000) * MPP
    spot = int(np.argmin((at[:, 0] - view.x_um) ** 2 + (at[:, 1] - view.y_um) ** 2))
    per_um = box["width"] / view.width_um
    return (
        spot,
        box["x"] + box["width"] / 2 + float(at[spot, 0] - view.x_um) * per_um,
        box["y"] + box["height"] / 2 + float(at[spot, 1] - view.y_um) * per_um,
    )


@browser_test
def test_another_gene_costs_one_request_and_one_seen_before_none(page: Page, address: str) -> None:
    asked: Counter[str] = Counter()
    wrong: list[str] = []

    def note(request: Request) -> None:
        asked[request.url.removeprefix(address)] += 1

    page.on("request", note)
    page.on("response", lambda answer: wrong.append(answer.url) if answer.status >= 400 else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    viewer = opened(page, address)
    for gene in ("CD74", "GNAS", "CD74"):
        choose(page, gene)
        expect(viewer).to_have_attribute("data-painted-layer", f"mean:{gene}")
    page.wait_for_timeout(500)
    numbers = {url: times for url, times in asked.items() if "/map/" in url}
    assert numbers == {
        f"{RUN}/map/spots": 1,
        f"{RUN}/map/values?layer=mean%3AGNAS": 1,
        f"{RUN}/map/values?layer=mean%3ACD74": 1,
    }
    tiles = [url for url in asked if "/tiles/" in url]
    assert tiles and all(asked[url] == 1 for url in tiles)
    assert wrong == []


@browser_test
def test_a_spot_has_the_colour_of_its_value(page: Page, address: str) -> None:
    import plotly.colors

    viewer = opened(page, address, "panels=2&opacity=1")
    box = go_to_corner(page)
    spot, x, y = spot_in(CORNER, box)
    for place, (gene, scale, high) in enumerate((("GNAS", "Viridis", 3), ("ERBB2", "Magma", 4))):
        pixel = viewer.evaluate(
            """(root, [place, x, y]) => {
            const canvas = root.querySelectorAll("canvas.map")[place]
            const k = canvas.width / canvas.clientWidth
            return [...canvas.getContext("2d").getImageData(x * k, y * k, 1, 1).data] }""",
            [place, x - box["x"], y - box["y"]],
        )
        shade = min(31, max(0, int(values(5000, gene)[spot] / high * 32)))
        [colour] = plotly.colors.sample_colorscale(scale, [shade / 31], colortype="tuple")
        assert pixel == [*(round(255 * part) for part in colour), 255]


@browser_test
def test_spots_above_a_threshold_are_greyed_and_say_why(page: Page, address: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    opened(page, address, "panels=2&opacity=1&dim=0&mute=2.5")
    box = go_to_corner(page)
    reason = values(5000, "KRT19")
    away = np.abs(spots(5000) * MPP - (CORNER.x_um, CORNER.y_um)).max(1)
    near = np.argsort(away)
    for muted in (True, False):
        spot = next(i for i in near if (reason[i] > 2.5) == muted and np.isfinite(reason[i])
                    and np.isfinite(values(5000, "GNAS")[i]))  # fmt: skip
        x, y = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2) + (
            spots(5000)[spot] * MPP - (CORNER.x_um, CORNER.y_um)
        ) * box["width"] / CORNER.width_um
        red, green, blue = page.locator("canvas.map").first.evaluate(
            """(canvas, [x, y]) => {
            const k = canvas.width / canvas.clientWidth
            const { data } = canvas.getContext("2d").getImageData(x * k, y * k, 1, 1)
            return [...data].slice(0, 3) }""",
            [x - box["x"], y - box["y"]],
        )
        assert (max(red, green, blue) - min(red, green, blue) <= 12) == muted  # on black
        page.mouse.move(x, y)
        tip = page.locator(".tip").first
        expect(tip).to_be_visible()
        said = f"greyed: domain distance {reason[spot]:.2f}, above 2.50"
        expect(tip.get_by_text(said)).to_have_count(int(muted))
    grey = int((reason > 2.5).sum())
    expect(page.locator(".key").first).to_have_text(f"{grey:,} greyed".replace(",", "\u202f"))
    expect(page.locator("canvas.map").first).to_have_attribute(
        "aria-label", re.compile(f"{grey} of 5000 spots greyed")
    )
    assert sum("KRT19" in url for url in asked) == 1  # once for both maps
    badge = page.get_by_role("button", name="● good: held-out PCC 0.61")
    expect(page.get_by_text("One section out.")).to_be_hidden()
    badge.focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_text("One section out.")).to_be_visible()


@browser_test
def test_hovering_tells_every_panels_value_at_the_same_spot(page: Page, address: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    opened(page, address, "panels=4&facts=1")
    spot, x, y = spot_in(CORNER, go_to_corner(page))
    assert not any(name in url for url in asked for name in ("std", "q05", "q95", "/ids"))
    page.mouse.move(x + 3, y + 2)
    tips = page.locator(".tip")
    expect(tips).to_have_count(4)
    for place, gene in enumerate(("GNAS", "ERBB2", "CD74", "FASN")):
        value, spread = (f"{values(5000, name)[spot]:.2f}".replace("-", "−")
                         for name in (gene, f"std:{gene}"))  # fmt: skip
        expect(tips.nth(place)).to_contain_text(f"{value} ± {spread} log2(1 + count)")
    low, high = (f"{values(5000, f'{name}:GNAS')[spot]:.2f}".replace("-", "−")
                 for name in ("q05", "q95"))  # fmt: skip
    expect(tips.first).to_contain_text(f"90 % band {low} to {high}")
    expect(tips.first).to_contain_text(f"spot case-{spot}")
    words = (tips.first.text_content() or "").replace("\u202f", "")
    at = spots(5000)[spot] * MPP
    assert f"x {at[0]:.0f}, y {at[1]:.0f} µm" in words
    assert f"spot case-{spot} ({spot + 1} of 5000)" in words
    assert "90 % band" not in (tips.nth(1).text_content() or "")
    assert sum("/ids" in url for url in asked) == 1
    page.mouse.move(1, 1)
    expect(tips.first).to_be_hidden()


@browser_test
@pytest.mark.parametrize("echo", ["", "&echo=1", "&echo=late"])
def test_the_part_seen_is_told_and_stays_with_another_gene(
    page: Page, address: str, echo: str
) -> None:
    viewer = opened(page, address, f"panels=2{echo}")
    box = stage_box(page, 1)
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.wheel(0, -400)
    page.wait_for_function("document.querySelector('#told').textContent.includes('width_um')")
    page.mouse.down()
    page.mouse.move(box["x"] + 160, box["y"] + 130, steps=4)
    page.mouse.up()
    page.wait_for_timeout(1500)
    before = told(page)["view"]
    choose(page, "CD74")
    expect(viewer).to_have_attribute("data-painted-layer", "mean:CD74|mean:FASN")
    bar = page.locator(".scale").first.text_content()
    page.wait_for_timeout(500)
    assert told(page)["view"] == before
    assert page.locator(".scale").first.text_content() == bar
    page.get_by_role("button", name="Zoom in").click()
    page.wait_for_timeout(1500)
    assert isinstance(before, dict)
    assert told(page)["view"] == before | {"width_um": pytest.approx(before["width_um"] / 1.5)}
    page.mouse.dblclick(box["x"] + 100, box["y"] + 100)
    expect(page.locator("#told")).to_contain_text('"view": null')


@browser_test
def test_the_wheel_zooms_towards_the_pointer(page: Page, address: str) -> None:
    opened(page, address)
    box = go_to_corner(page)
    spot, x, y = spot_in(CORNER, box)
    off_x, off_y = round(x) - x, round(y) - y  # a mouse is on whole pixels
    page.mouse.move(round(x), round(y))
    for _ in range(3):
        page.mouse.wheel(0, -200)
        page.wait_for_timeout(80)
    page.wait_for_function("document.querySelector('#told').textContent.includes('width_um')")
    page.wait_for_timeout(1200)
    view = told(page)["view"]
    assert isinstance(view, dict) and view["width_um"] < CORNER.width_um / 2
    at = spots(5000)[spot] * MPP
    zoomed = CORNER.width_um / view["width_um"]
    per_um = box["width"] / view["width_um"]
    found_x = box["x"] + box["width"] / 2 + (at[0] - view["x_um"]) * per_um
    found_y = box["y"] + box["height"] / 2 + (at[1] - view["y_um"]) * per_um
    assert found_x == pytest.approx(x - off_x * (zoomed - 1), abs=0.5)
    assert found_y == pytest.approx(y - off_y * (zoomed - 1), abs=0.5)


@browser_test
def test_keys_and_buttons_move_the_maps(page: Page, address: str) -> None:
    opened(page, address)
    bar = page.locator(".scale")
    home = bar.text_content()
    page.get_by_role("button", name="Zoom in").click(click_count=1)
    page.get_by_role("button", name="Zoom in").click()
    page.get_by_role("button", name="Zoom in").click()
    expect(bar).not_to_have_text(home or "")
    page.get_by_role("button", name="Show all spots").click()
    expect(bar).to_have_text(home or "")
    page.locator(".viewer").focus()
    for _ in range(3):
        page.keyboard.press("+")
    page.keyboard.press("ArrowRight")
    expect(bar).not_to_have_text(home or "")
    expect(page.locator("#told")).to_contain_text("width_um")
    page.keyboard.press("0")
    expect(bar).to_have_text(home or "")
    expect(page.get_by_role("img", name=re.compile("^Map of GNAS: prediction"))).to_have_count(1)


@browser_test
@pytest.mark.parametrize("kind", ["lasso", "box"])
def test_a_drawing_comes_back_in_slide_pixels(page: Page, address: str, kind: str) -> None:
    opened(page, address, f"mode={kind}")
    box = go_to_corner(page)
    corners = [(300, 150), (700, 150), (700, 400), (300, 400)]

    def drag(stops: list[tuple[int, int]], let_go: bool = True) -> None:
        page.mouse.move(box["x"] + stops[0][0], box["y"] + stops[0][1])
        page.mouse.down()
        for x, y in stops[1:]:
            page.mouse.move(box["x"] + x, box["y"] + y, steps=8)
        if let_go:
            page.mouse.up()

    drag(corners[:3], let_go=False)
    page.keyboard.press("Escape")
    page.mouse.up()
    page.wait_for_timeout(800)
    assert told(page)["drawn"] is None
    drag(corners if kind == "lasso" else [corners[0], corners[2]])
    expect(page.locator("#told")).to_contain_text(f'"kind": "{kind}"')
    drawn = told(page)["drawn"]
    assert isinstance(drawn, dict) and drawn["turn"] == 1
    points = np.array(drawn["points"])
    per_px = CORNER.width_um / box["width"] / MPP
    middle = np.array([CORNER.x_um, CORNER.y_um]) / MPP
    low = middle + (np.array([300, 150]) - [box["width"] / 2, box["height"] / 2]) * per_px
    high = middle + (np.array([700, 400]) - [box["width"] / 2, box["height"] / 2]) * per_px
    np.testing.assert_allclose([points.min(0), points.max(0)], [low, high], atol=1.0)
    assert len(points) == 4 if kind == "box" else len(points) > 10
    drag(corners if kind == "lasso" else [corners[0], corners[2]])
    expect(page.locator("#told")).to_contain_text('"turn": 2')


@browser_test
def test_a_refused_layer_is_one_sentence_and_the_next_one_is_drawn(
    page: Page, address: str
) -> None:
    viewer = opened(page, address, "panels=2")
    choose(page, "MISSING")
    said = page.locator(".said")
    expect(said.first).to_have_text("This result has no gene MISSING; choose another.")
    expect(said.nth(1)).to_be_hidden()
    choose(page, "SCD")
    expect(viewer).to_have_attribute("data-painted-layer", "mean:SCD|mean:MGP")
    expect(said.first).to_be_hidden()


@browser_test
@pytest.mark.parametrize("gone", [False, True])
def test_without_tiles_the_thumbnail_is_the_picture(page: Page, address: str, gone: bool) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    if gone:  # the slide was deleted after the page was made
        page.route("**/tiles/**", lambda route: route.fulfill(status=404))
    viewer = opened(page, address, f"tiles={int(gone)}&regions=1")
    page.wait_for_timeout(800)
    assert sum(url.endswith("/map/thumbnail") for url in asked) == 1
    assert any("/tiles/" in url for url in asked) == gone
    expect(page.locator(".said")).to_be_hidden()
    tissue = viewer.evaluate(
        """root => { const canvas = root.querySelector("canvas.map")
        return [...canvas.getContext("2d")
          .getImageData(canvas.width / 2, canvas.height * 0.04, 1, 1).data] }"""
    )
    assert tissue[3] == 255 and tissue[1] < tissue[0] - 20  # pink


@browser_test
@pytest.mark.parametrize(("width", "columns"), [(1440, 3), (660, 2), (400, 1)])
def test_the_grid_fits_the_page(page: Page, address: str, width: int, columns: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    opened(page, address, "panels=6")
    boxes = [stage_box(page, place) for place in range(6)]
    assert len({round(box["x"]) for box in boxes}) == columns
    assert len({(box["width"], box["height"]) for box in boxes}) == 1
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@browser_test
def test_six_panels_pan_and_genes_switch_fast(page: Page, address: str) -> None:
    viewer = opened(page, address, "panels=6")
    box = stage_box(page, 4)
    page.wait_for_timeout(500)
    page.mouse.move(box["x"] + 200, box["y"] + 120)
    page.mouse.down()
    clock = "root => [performance.now(), Number(root.dataset.frames)]"
    began, first = viewer.evaluate(clock)
    for step in range(120):
        page.mouse.move(box["x"] + 200 + 1.4 * (step % 60), box["y"] + 120 + (step % 30))
    ended, last = viewer.evaluate(clock)
    page.mouse.up()
    rate = (last - first) / (ended - began) * 1000
    print(f"\n6 panels x 5,000 spots: {rate:.0f} frames/s while panning")
    choose(page, "CD74")
    expect(viewer).to_have_attribute("data-painted-layer", re.compile("^mean:CD74"))
    six_ms = float(viewer.get_attribute("data-painted-ms") or "inf")
    found = {}
    for count in (5000, 100_000):
        viewer = opened(page, address, f"base=/made/{count}")
        choose(page, "FASN")
        expect(viewer).to_have_attribute("data-painted-layer", "mean:FASN")
        found[count] = float(viewer.get_attribute("data-painted-ms") or "inf")
    print(f"gene switch to painted: 6 panels x 5,000 spots {six_ms:.0f} ms, 1 panel with 5,000 "
          f"{found[5000]:.0f} ms, with 100,000 {found[100_000]:.0f} ms")  # fmt: skip
    assert rate >= 10
    assert found[5000] <= 400
    assert found[100_000] <= 1500


def test_what_the_browser_tells_is_checked() -> None:
    view = {"x_um": 1, "y_um": 2.5, "width_um": 10.0}
    assert _read_view({"base": RUN, "view": view}, RUN) == View(1.0, 2.5, 10.0)
    for wrong in (
        None, "view", {"base": "/other", "view": view}, {"base": RUN, "view": None},
        {"base": RUN, "view": {**view, "x_um": float("nan")}},
        {"base": RUN, "view": {**view, "x_um": 10**400}},
        {"base": RUN, "view": {**view, "width_um": 0}},
        {"base": RUN, "view": {**view, "y_um": "3"}},
    ):  # fmt: skip
        assert _read_view(wrong, RUN) is None
    drawn = {"base": RUN, "kind": "lasso", "points": [[0, 0], [5, 0.5], [3, 9]], "turn": 3}
    assert _read_drawn(drawn, RUN) == {
        "kind": "lasso", "points": [[0.0, 0.0], [5.0, 0.5], [3.0, 9.0]], "turn": 3,
    }  # fmt: skip
    for change in (
        {"kind": "pan"}, {"kind": ["lasso"]}, {"points": [[0, 0], [1, 1]]}, {"points": "abc"},
        {"points": [[0, 0]] * 2001}, {"points": [[0, 0], [1, float("inf")], [2, 2]]},
        {"points": [[0, 0], [1, True], [2, 2]]}, {"points": [[0, 0], [1], [2, 2]]},
        {"turn": 0}, {"turn": True}, {"turn": 1.5}, {"base": "/other"},
    ):  # fmt: skip
        assert _read_drawn({**drawn, **change}, RUN) is None


def test_what_cannot_be_shown_is_refused() -> None:
    colours = ["#000000", "#ffffff"]
    with pytest.raises(SettingsError, match="the lower first"):
        Panel(Layer.of("mean", "A"), "A", "", colours, 1.0, 0.0)
    with pytest.raises(SettingsError, match="from nan"):
        Panel(Layer.of("mean", "A"), "A", "", colours, float("nan"), 0.0)
    with pytest.raises(SettingsError, match="palette of A"):
        Panel(Layer.of("mean", "A"), "A", "", ["red", "url(x)"], 0.0, 1.0)
    panel = Panel(Layer.of("mean", "A"), "A", "", colours, 0.0, 1.0)
    for count, mode, sentence in ((0, "pan", "1 to 6 maps"), (7, "pan", "not 7"), (1, "x", "'x'")):
        with pytest.raises(SettingsError, match=sentence):
            maps_viewer(
                "viewer", base=RUN, slide={}, panels=[panel] * count, look=Look(),
                spot_diameter_um=55, mode=mode,
            )  # fmt: skip
