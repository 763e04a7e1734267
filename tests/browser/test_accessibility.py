"""Every page, light and dark, under axe-core: no serious or critical finding."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from .made_runs import make_runs
from .running import RunningApp

pytestmark = pytest.mark.browser
GRAVE = ("serious", "critical")

# What Streamlit itself draws and no page can change: rule, and the part of the page.
STREAMLITS_OWN: dict[str, str] = {}


@pytest.fixture(scope="module")
def runs(app: RunningApp) -> list[str]:
    return make_runs(app.home, app.model, 2)


def findings(page: Page) -> list[str]:
    """Return the grave findings as `rule: part of the page (why)`."""
    response: dict[str, Any] = Axe().run(page).response
    found = []
    for violation in response["violations"]:
        if violation["impact"] not in GRAVE:
            continue
        for node in violation["nodes"]:
            own = STREAMLITS_OWN.get(violation["id"])
            if own is None or own not in node["html"]:
                why = " ".join(node["failureSummary"].split())
                found.append(f"{violation['id']}: {node['html'][:240]} ({why})")
    return found


@pytest.mark.parametrize("name", ["predict", "models", "runs", "results", "maps", "compare"])
def test_no_grave_finding(page: Page, app: RunningApp, runs: list[str], name: str) -> None:
    query = f"run={runs[0]}" if name in ("results", "maps", "compare") else ""
    query += f"&with={runs[1]}" if name == "compare" else ""
    where = "" if name == "predict" else name  # Predict is the first page
    page.goto(f"{app.address}/{where}?{query}")
    if name == "predict":
        page.get_by_role("button", name="Open the synthetic sample").click()
        page.get_by_role("button", name=f"Choose {app.model}").click()
        expect(page.get_by_role("button", name="Run prediction")).to_be_enabled()
    elif name == "models":
        expect(page.get_by_text("Held out:").first).to_be_visible()
    elif name == "runs":
        expect(page.get_by_role("button", name="Open").first).to_be_visible()
    else:
        expect(page.locator(".viewer[data-painted-layer]").first).to_be_visible()
    expect(page.get_by_test_id("stStatusWidget")).to_have_count(0)  # nothing is under way
    page.wait_for_timeout(300)
    found = findings(page)
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(500)
    found += [f"dark: {finding}" for finding in findings(page)]
    assert not found, "\n".join(found)
