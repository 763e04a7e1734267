"""What the browser tests share."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Page, expect

RUN_LIMIT_MS = 150_000


@dataclass(frozen=True)
class RunningApp:
    """A running app: its address, its home, and the model to choose in it."""

    address: str
    home: Path
    model: str


def real_section() -> Path | None:
    folder = os.environ.get("STEM_TEST_DATA")
    path = Path(folder) / "her2st" / "wsis" / "C5.tif" if folder else None
    return path if path and path.is_file() else None


def map_of(page: Page) -> None:
    """Wait until the map is drawn: slide, discs and the scatter that carries the values."""
    expect(page.locator(".js-plotly-plot .colorbar, .js-plotly-plot .cbfills").first).to_be_visible(
        timeout=RUN_LIMIT_MS
    )
    expect(page.locator(".js-plotly-plot image")).to_have_count(2)


def result_of(app: RunningApp, run_address: str) -> Path:
    [run] = parse_qs(urlsplit(run_address).query)["run"]
    return app.home / "jobs" / run / "result"
