"""What the browser tests share."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

STEM = Path(sys.executable).with_name("stem")
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
    """Wait until the map is painted."""
    expect(page.locator(".viewer[data-painted-layer]")).to_be_visible(timeout=RUN_LIMIT_MS)


def result_of(app: RunningApp, run_address: str) -> Path:
    [run] = parse_qs(urlsplit(run_address).query)["run"]
    return app.home / "jobs" / run / "result"


@contextmanager
def started_app(environment: dict[str, str], place: Path) -> Iterator[str]:
    """Run `stem app` on a free port, started in a folder that keeps its log; give its address."""
    environment = {k: v for k, v in environment.items() if k != "STEM_SLIDE_DIR"}
    log = place / "log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [STEM, "app", "--port", "0"],
            env=environment, cwd=place, stdout=subprocess.PIPE, stderr=errors, text=True,
        )  # fmt: skip
    assert process.stdout is not None
    said = process.stdout.readline()
    found = re.search(r"http://[\w.]+:\d+", said)
    if found is None:
        process.kill()
        pytest.fail(f"{said}\n{log.read_text(encoding='utf-8')}")
    yield found[0]
    process.terminate()
    process.wait(20)


def settled(page: Page) -> None:
    """Wait until the page has run through; then nothing in it moves any more."""
    page.wait_for_timeout(300)
    expect(page.locator("[data-test-script-state=notRunning]")).to_have_count(1)
