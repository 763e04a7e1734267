"""A machine of its own before the loopback Hub: home, cache, registry, and the `stem` command."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stem_core.model.manifest import read_manifest
from tests.forked import run_stem
from tests.hub.client import client_environment
from tests.hub.server import LoopbackHub
from zoo.entries import MODEL_FILES, HubSource, ModelEntry, describe_files, entry_from_manifest

STEM = Path(sys.executable).with_name("stem")


@dataclass
class Machine:
    """What one user has."""

    hub: LoopbackHub
    root: Path
    token: str | None = None
    more: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def registry(self) -> Path:
        return self.root / "registry.json"

    @property
    def environment(self) -> dict[str, str]:
        env = client_environment(self.hub, self.root / "hf", self.token)
        env.pop("STEM_MODELS_DIR", None)
        env |= {"STEM_HOME": str(self.home), "OMP_NUM_THREADS": "1"}
        if self.registry.is_file():
            env["STEM_REGISTRY"] = str(self.registry)
        return env | self.more

    def stem(
        self, *arguments: str | Path, timeout_s: float = 120
    ) -> subprocess.CompletedProcess[str]:
        return run_stem(arguments, self.environment, self.root, timeout_s)

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [STEM, *map(str, arguments)],
            env=self.environment, cwd=self.root, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def states(self) -> dict[str, str]:
        """State of every model known here."""
        listed = self.stem("zoo", "list", "--json")
        assert listed.returncode == 0, listed.stderr
        return {row["name"]: row["state"] for row in json.loads(listed.stdout)}

    def usable(self, name: str) -> bool:
        return self.states().get(name) == "installed"

    def write_registry(self, *entries: ModelEntry) -> None:
        text = json.dumps(
            {"schema_version": 1, "models": [e.model_dump(mode="json") for e in entries]}
        )
        self.registry.write_text(text, encoding="utf-8")

    def partial_bytes(self, content: bytes) -> int:
        """How much of a file a broken download left to go on with."""
        path = self.home / "zoo" / "partial" / hashlib.sha256(content).hexdigest()
        return path.stat().st_size if path.is_file() else 0


def named_copy(model: Path, folder: Path, name: str) -> Path:
    """Copy a model folder under another name."""
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["name"] = name
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Files of a model folder."""
    return {n: (folder / n).read_bytes() for n in MODEL_FILES if (folder / n).is_file()}


def hub_entry(folder: Path, repo: str, revision: str, **changes: Any) -> ModelEntry:
    """Entry of a model that lies on the Hub as it lies in a folder; pinned unless changed."""
    files = () if revision == "unpinned" else describe_files(folder)
    source = HubSource(repo=repo, revision=revision, files=files)
    entry = entry_from_manifest(read_manifest(folder / "config.json"), "hub", hub=source)
    return entry.model_copy(update=changes)


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """What a refused command said: exit code 2 and exactly one line."""
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, lines
    assert "Traceback" not in done.stderr
    return lines[0]
