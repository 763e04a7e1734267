"""The Maps page as Streamlit runs it, without a browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from streamlit.testing.v1 import AppTest

from app.state import job_queue

from .conftest import GENES, MadeRun

MAIN = Path(__file__).resolve().parents[3] / "app" / "main.py"


def open_maps(run: MadeRun, maps: str = f"mean:{GENES[0]}") -> AppTest:
    job_queue.clear()
    at = AppTest.from_file(str(MAIN), default_timeout=60)
    at.query_params["run"], at.query_params["maps"] = run.id, maps
    at.run()
    at.switch_page("views/maps.py")
    at.query_params["run"], at.query_params["maps"] = run.id, maps
    return sound(at.run())


def sound(at: AppTest) -> AppTest:
    assert not at.exception, at.exception[0].message
    return at


def words(at: AppTest) -> str:
    return " ".join(str(part.value) for part in (*at.markdown, *at.caption))


def faults(at: AppTest) -> str:
    return " ".join(error.value for error in at.error)


def charts(at: AppTest) -> list[dict[str, Any]]:
    return [json.loads(chart.proto.spec) for chart in at.get("plotly_chart")]
