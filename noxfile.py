"""Run the tests on other Pythons and other versions of the dependencies: `make test-newest`.

    nox                       all sessions whose Python is installed
    nox -s newest-3.13        one of them; arguments after `--` go to pytest

The browser tests are left out: they do not depend on Python.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import nox

nox.options.error_on_missing_interpreters = False
nox.options.default_venv_backend = "venv"

ROOT = Path(__file__).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]

VERSIONS = """
import sqlite3, sys
from importlib.metadata import version
names = ("torch", "numpy", "pandas", "anndata", "scanpy", "streamlit", "dbos")
print("Python", sys.version.split()[0], "SQLite", sqlite3.sqlite_version,
      *(f"{name} {version(name)}" for name in names))
"""


def requirements(*names: str) -> list[str]:
    """Return the requirements of the package and of some of its extras."""
    found = list(PROJECT["dependencies"])
    for name in names:
        found += EXTRAS[name]
    return found


def test_tools() -> list[str]:
    """Return what the tests need beyond the package, without the pin that belongs to torch."""
    lines = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8").splitlines()
    tools = [line.split("#")[0].strip() for line in lines]
    return [tool for tool in tools if tool and not tool.startswith("torchvision")]


def run_tests(session: nox.Session) -> None:
    """Run the tests, browser ones aside, and print the versions that they ran with."""
    session.run("python", "-c", VERSIONS)
    session.run(
        "python", "-m", "pytest", "-q", "-n", "2", "--no-loadscope-reorder",
        "-m", "not browser", *session.posargs,
    )  # fmt: skip


@nox.session(python=["3.11", "3.12", "3.13"])
def newest(session: nox.Session) -> None:
    """Test with the newest release of every dependency that pyproject.toml allows."""
    session.install("--upgrade", *requirements("app", "training", "spatialdata"), *test_tools())
    session.install("--no-deps", "-e", ".")
    run_tests(session)


@nox.session(python="3.11")
def lowest(session: nox.Session) -> None:
    """Test with the oldest release of every direct dependency that pyproject.toml allows."""
    session.install("uv")  # pip cannot choose the lowest
    session.run(
        "uv", "pip", "install", "--compile-bytecode", "--python", str(Path(session.bin) / "python"),
        "--resolution", "lowest-direct",
        *requirements("app", "training", "spatialdata"), *test_tools(),
    )  # fmt: skip
    session.install("--no-deps", "-e", ".")
    run_tests(session)
