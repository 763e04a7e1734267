"""Python with the real Hub client, in a process of its own.

The client reads its environment at import, and the tests' own process has it offline.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

from tests.hub.server import LoopbackHub

ROOT = Path(__file__).parents[2]


def client_environment(
    hub: LoopbackHub, home: Path | str, token: str | None = None
) -> dict[str, str]:
    """Environment whose Hub is `hub`, whose cache is in `home`, and which knows no other token."""
    unwanted = ("HF_", "HUGGING", "TRANSFORMERS_OFFLINE")
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(unwanted) and not name.lower().endswith("_proxy")
    }
    return environment | {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        **({"HF_TOKEN": token} if token is not None else {}),
    }


def run_client(
    code: str, env: Mapping[str, str], *arguments: str | Path, timeout_s: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run Python code from the repository's root; `arguments` are its `sys.argv[1:]`."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        env=dict(env),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
