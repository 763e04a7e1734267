"""Rules of the project: which package may import which, what is not loaded, what importing does."""

from __future__ import annotations

import ast
import graphlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("stem_core", "zoo", "app", "stem_in_a_browser")
MAY_IMPORT = {
    "stem_core": {"stem_core"},
    "zoo": {"zoo", "stem_core"},
    "app": {"app", "zoo", "stem_core"},
    "stem_in_a_browser": {"stem_core", "zoo", "app", "stem_in_a_browser"},
}
# The journey of a slide: later stages may import earlier ones. Training and evaluation come last,
# but a measured section is compared by the figures of evaluation wherever that is done.
STAGES = ("slides", "encoders", "diffusion", "prediction", "analysis")
NEVER = {"stem_core": {"streamlit", "huggingface_hub", "requests", "httpx"}, "zoo": {"streamlit"}}


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Full names of what a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            yield node.module or ""


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_downwards(package: str) -> None:
    for path in sources(package):
        names = {name.split(".")[0] for name in imported(path)}
        assert names & set(PACKAGES) <= MAY_IMPORT[package], path
        assert not names & NEVER.get(package, set()), path


def test_json_is_written_without_nan() -> None:
    """JSON has no NaN and no Infinity: `null` stands for a number that is not known."""
    places = (*PACKAGES, "benchmarks", "tools")
    for path in [file for place in places for file in sources(place)]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("json.dump", "json.dumps"):
                allowed = {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert allowed.get("allow_nan") == "False", f"{path}:{node.lineno}"


def test_stages_import_only_earlier_stages() -> None:
    for rank, stage in enumerate(STAGES):
        later = {*STAGES[rank + 1 :], "training", "evaluation"}
        if stage == "analysis":
            later.remove("evaluation")
        for path in sources(f"stem_core/{stage}"):
            parts = [name.split(".") for name in imported(path)]
            used = {part[1] for part in parts if part[0] == "stem_core" and len(part) > 1}
            assert not used & later, path


def test_there_is_no_import_circle() -> None:
    """No module needs itself while it is imported; what functions import later does not count."""
    named = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for package in PACKAGES
        for path in sources(package)
    }

    def needs(tree: ast.AST) -> Iterator[str]:
        for node in ast.iter_child_nodes(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
            elif isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif not (
                isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
            ):
                yield from needs(node)

    graph = {
        name: {n for n in needs(ast.parse(path.read_text("utf-8"))) if n in named} - {name}
        for name, path in named.items()
    }
    assert len(graph) > 100
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError


def modules() -> list[str]:
    """Every module that can be imported without starting a page."""
    found = []
    for package in PACKAGES:
        for path in sources(package):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if parts[:2] == ("app", "views") or parts == ("app", "main"):
                continue  # Streamlit runs these from top to bottom
            found.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return found


def test_nothing_happens_at_import(tmp_path: Path) -> None:
    """No folder made, no thread started, no device asked, nothing printed, no extra loaded."""
    program = """
import importlib, sys, threading
for name in sys.argv[1:]:
    importlib.import_module(name)
assert not {"timm", "torchvision", "transformers", "scanpy"} & set(sys.modules)
ours = [t.name for t in threading.enumerate() if t is not threading.main_thread()]
assert not ours, ours
import torch
assert not torch.cuda.is_initialized()
"""
    home = tmp_path / "home"
    home.mkdir()
    environment = {
        **os.environ,
        "STEM_HOME": str(tmp_path / "stem"),
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "MPLCONFIGDIR": str(tmp_path / "matplotlib"),
        "NUMBA_CACHE_DIR": str(tmp_path / "numba"),
        "HF_HUB_OFFLINE": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", program, *modules()],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "stem").exists()
    assert list(home.iterdir()) == []


def test_requirements_and_project_agree() -> None:
    """requirements.txt lists what the package and its pages ask for; torch alone is pinned."""

    def names(lines: list[str]) -> dict[str, str]:
        found = {}
        for line in lines:
            requirement = line.split("#")[0].strip()
            if requirement:
                name, bound = re.fullmatch(r"([\w.-]+)(.*)", requirement).groups()  # type: ignore[union-attr]
                found[name] = bound
        return found

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = names(project["dependencies"] + project["optional-dependencies"]["app"])
    listed = names((ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines())
    assert wanted.pop("torch").startswith(">=")
    assert re.fullmatch(r"==\d+\.\d+\.\d+", listed.pop("torch"))
    assert wanted == listed
    assert project["requires-python"] == ">=3.11"


def test_no_pickles_are_read() -> None:
    for package in PACKAGES:
        for path in sources(package):
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"\btorch\.load\(|\bpickle\.loads?\(|allow_pickle=True", text), (
                path
            )


def test_the_python_example_of_the_readme_runs(
    tmp_path: Path, sample_piece: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    example = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)[0]
    (tmp_path / "slide.tif").hardlink_to(sample_piece)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for line in example.splitlines():
        if "measured.h5ad" in line:
            measured = names["adata"].copy()
            measured.X = (2**measured.X - 1).round()
            measured.write_h5ad("measured.h5ad")
        exec(compile(line, "README.md", "exec"), names)
    assert names["adata"].n_vars == 200


# Phrases that STYLE's English avoids in what people read: error messages and page texts.
AVOIDED = re.compile(
    r"\b(is told|gone on with|anew|as it is|lacks?|lacked|doors?|take it away"
    r"|(?<!there )is no (?!longer|more|guarantee)|(?<!there )are no (?!longer|more|guarantee))\b",
    re.IGNORECASE,
)


def shown_texts(path: Path) -> Iterator[str]:
    """Text literals of a module other than docstrings; an f-string is one text."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parts = {
        id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)
        for part in node.values
    } | {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(v.value if isinstance(v, ast.Constant) else "X" for v in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) not in parts:
                yield node.value


def test_messages_are_in_plain_english() -> None:
    assert AVOIDED.search("The file is no slide.") and not AVOIDED.search("There is no slide.")
    found = [
        f"{path.relative_to(ROOT)}: {text}"
        for package in PACKAGES
        for path in sources(package)
        for text in shown_texts(path)
        if AVOIDED.search(text)
    ]
    assert not found, "\n".join(found)
