"""A view sent as a file: it opens from a disk, draws, zooms and tells values, and asks nobody."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import BrowserContext, expect

from app.maps.layers import Layer
from app.maps.panels import Badge, Detail, Look, Mute, Panel
from app.maps.scene import Map, Scene
from app.maps.share import share_page
from stem_core.analysis.regions import Region

pytestmark = pytest.mark.browser
PALETTE = ["#440154", "#21918c", "#fde725"]
EVIL = '<script>document.title = "ran"</script></script><img src=x onerror="document.title=1"><!--'


def made_scene() -> Scene:
    """A pink slide of 2,000 × 1,500 px at 1 µm with 12 × 8 spots whose value is their number."""
    row, column = np.divmod(np.arange(96), 12)
    positions = np.column_stack([200 + 140 * column, 200 + 150 * row]).astype(np.float32)
    layers = {
        "mean:GNAS": np.arange(96, dtype=np.float32),
        "std:GNAS": np.full(96, 0.25, np.float32),
        "q05:GNAS": np.arange(96, dtype=np.float32) - 1,
        "domain": np.where(column > 9, 2.0, 0.5).astype(np.float32),
    }
    first = Panel(
        Layer.of("mean", "GNAS"), f"GNAS {EVIL}", "log2(1 + count)", PALETTE, 0.0, 95.0,
        spread=Layer.of("std", "GNAS"),
        details=(Detail("lower bound", (Layer.of("q05", "GNAS"),)),),
        badge=Badge("good", "● PCC 0.61", ("Held out.",)),
        mutes=(Mute(Layer("domain"), 1.0, "domain distance"),),
    )  # fmt: skip
    second = Panel(Layer("domain"), "Domain distance", "× edge of training", PALETTE, 0.0, 2.0)
    ring = np.array([[300.0, 300.0], [900.0, 300.0], [900.0, 900.0]])
    return Scene(
        EVIL, "model m 1.0", 2000, 1500, 1.0, 100.0, positions,
        tuple(f"spot-{i}" for i in range(96)),
        (
            Map(first, layers["mean:GNAS"]),
            Map(second, layers["domain"]),
        ),
        Look(1.0), None, (Region(f"Front {EVIL}", (ring,)),),
        lambda box: np.full((box.out_height, box.out_width, 3), (236, 170, 205), np.uint8),
        lambda layer: layers[str(layer)],
    )  # fmt: skip


def test_a_view_that_was_sent_works_alone(context: BrowserContext, tmp_path: Path) -> None:
    file = tmp_path / "view.html"
    file.write_bytes(share_page(made_scene(), notes=[EVIL], image_px=1200))
    asked: list[str] = []
    faults: list[str] = []
    page = context.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    page.goto(file.as_uri())
    viewer = page.locator(".viewer")
    expect(viewer).to_have_attribute("data-painted-layer", "mean:GNAS|domain")
    expect(page.locator(".panel")).to_have_count(2)
    expect(page.get_by_role("heading", level=1)).to_have_text(EVIL)
    assert page.title() == f"{EVIL} · Stem"

    # Where spot 53 is, from the view that all spots make; its value and all that is told of it.
    place = page.evaluate(
        """() => { const canvas = document.querySelector("canvas.map")
          const box = canvas.getBoundingClientRect()
          return [box.x, box.y, box.width, box.height] }"""
    )
    left, top, width, height = place
    margin = 100 + 0.04 * 1540
    scale = min(width / (1540 + 2 * margin), height / (1050 + 2 * margin))
    x, y = 200 + 140 * 5, 200 + 150 * 4
    at = (left + width / 2 + (x - 970) * scale, top + height / 2 + (y - 725) * scale)
    page.mouse.move(*at)
    tip = page.locator(".tip").first
    expect(tip).to_contain_text("53.0 ± 0.3")
    expect(tip).to_contain_text("lower bound 52")
    expect(tip).to_contain_text(re.compile(r"spot spot-53 \(54 of 96\)"))

    def colour_at(map_number: int, x_css: float, y_css: float) -> list[int]:
        found = page.evaluate(
            """([n, x, y]) => { const canvas = document.querySelectorAll("canvas.map")[n]
              const scale = canvas.width / canvas.getBoundingClientRect().width
              const pen = canvas.getContext("2d")
              return [...pen.getImageData(x * scale, y * scale, 1, 1).data] }""",
            [map_number, x_css, y_css],
        )
        return [int(part) for part in found[:3]]

    inside = (at[0] - left, at[1] - top)
    assert colour_at(0, *inside) == [0x21, 0x91, 0x8C]
    between = (inside[0] + 70 * scale, inside[1] + 75 * scale)
    assert np.abs(np.array(colour_at(0, *between)) - (236, 170, 205)).max() <= 4  # the H&E image
    before = page.locator(".scale").first.text_content()
    page.mouse.wheel(0, -900)
    expect(page.locator(".scale").first).not_to_have_text(before or "")
    page.keyboard.press("Escape")
    assert asked == [file.as_uri()] and faults == []
    assert page.title() == f"{EVIL} · Stem"
    policy = page.locator("meta[http-equiv]").get_attribute("content") or ""
    assert "default-src 'none'" in policy
    sent = page.evaluate("fetch('https://example.org/').then(() => 'sent', () => 'refused')")
    assert sent == "refused"
    data = json.loads(page.locator("#data").text_content() or "")
    assert set(data["carried"]) == {
        "overview", "view", "map/spots", "map/ids", "map/values?mean:GNAS", "map/values?std:GNAS",
        "map/values?q05:GNAS", "map/values?domain",
    }  # fmt: skip


def test_a_page_of_many_spots_holds_no_more_than_it_draws() -> None:
    scene = made_scene()
    many = 30_001
    values = np.zeros(many, np.float32)
    scene = replace(
        scene, positions=np.zeros((many, 2), np.float32), ids=("s",) * many,
        maps=(Map(replace(scene.maps[0].panel, mutes=()), values),), layer=lambda layer: values,
    )  # fmt: skip
    assert b"map/values?q05:GNAS" not in share_page(scene, image_px=256)
