"""What `stem doctor` looks at: versions, device, cache folders and models."""

from __future__ import annotations

import platform
import sqlite3
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from app.extras import absent_packages, packages_of
from app.terminal import one_line
from stem_core.errors import EncoderMissingError, StemError

__all__ = ["examine", "report"]

_PACKAGES = (
    "stem-in-a-browser",
    "torch",
    "numpy",
    "pandas",
    "anndata",
    "openslide-python",
    "openslide-bin",
    "huggingface-hub",
    "safetensors",
)
_TRIAL_SIDE = 768


def examine(*, gated: bool = False) -> dict[str, Any]:
    """Look at this installation.

    Parameters
    ----------
    gated
        Also ask the Hub which encoders' repositories are open, downloading nothing.

    Returns
    -------
    dict
        JSON-able: `versions`, `device`, `folders`, `pages`, `models` and `problems` (sentences;
        empty when all is well).
    """
    problems: list[str] = []
    findings: dict[str, Any] = {
        "versions": _versions(problems),
        "device": _device(problems),
        "folders": _folders(problems),
        "pages": _pages(problems),
        "models": _models(problems),
    }
    if gated:
        findings["encoders"] = _encoders()
    return {**findings, "problems": problems}


def report(findings: dict[str, Any]) -> str:
    """Return the findings as text, one a line."""
    lines: list[str] = []
    for title in ("versions", "device", "folders", "pages", "models", "encoders"):
        if title not in findings:
            continue
        lines.append(title.capitalize())
        lines += [f"  {name:<20} {_shown(value)}" for name, value in findings[title].items()]
    lines += ["Problems", *(f"  {problem}" for problem in findings["problems"] or ["none"])]
    return "\n".join(lines)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _versions(problems: list[str]) -> dict[str, str]:
    found = {"python": platform.python_version(), "system": platform.platform()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
            problems.append(f"the package {name} is missing; install the requirements again")
    try:
        import openslide

        found["openslide library"] = openslide.__library_version__
    except (ImportError, OSError) as error:
        problems.append(f"OpenSlide cannot be loaded ({one_line(error)}); install openslide-bin")
    return found


def _device(problems: list[str]) -> dict[str, Any]:
    try:
        import torch
    except (ImportError, OSError) as error:
        problems.append(f"torch cannot be loaded ({one_line(error)}); install the requirements")
        return {}
    cuda = torch.cuda.is_available()
    found: dict[str, Any] = {
        "device": f"cuda ({torch.cuda.get_device_name(0)})" if cuda else "cpu",
        "cuda build": torch.version.cuda or "none",
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "bf16 on the GPU": torch.cuda.is_bf16_supported() if cuda else False,
    }
    try:
        speed = {kind: _speed_gflops(kind) for kind in (torch.float32, torch.bfloat16)}
    except RuntimeError as error:
        problems.append(f"a matrix product failed on the CPU ({one_line(error)})")
    else:
        found["fp32 on the CPU"] = f"{speed[torch.float32]:.0f} GFLOP/s"
        found["bf16 on the CPU"] = f"{speed[torch.bfloat16]:.0f} GFLOP/s"
        found["bf16 pays on the CPU"] = speed[torch.bfloat16] > 1.3 * speed[torch.float32]
    return found


def _speed_gflops(kind: Any) -> float:
    """Return the speed of a square matrix product, in 1e9 operations a second."""
    import torch

    left = torch.ones(_TRIAL_SIDE, _TRIAL_SIDE, dtype=kind)
    best_s = float("inf")
    for _ in range(4):  # the first one warms up
        start = time.perf_counter()
        torch.mm(left, left)
        best_s = min(best_s, time.perf_counter() - start)
    return 2 * _TRIAL_SIDE**3 / best_s / 1e9


def _folders(problems: list[str]) -> dict[str, str]:
    from app import paths

    found = {"home": str(paths.home())}
    for name, ask in (
        ("jobs", paths.jobs_dir),
        ("uploads", paths.uploads_dir),
        ("sample", paths.sample_dir),
        ("log", paths.log_file),
    ):
        try:
            folder = ask()
        except (StemError, OSError) as error:
            problems.append(one_line(error).rstrip("."))
            found[name] = "cannot be used"
        else:
            found[name] = f"{folder} ({_size(folder)})"
    return found


def _pages(problems: list[str]) -> dict[str, str]:
    """Look at what only the web pages need; an installation without the extra `app` is whole."""
    needed, absent = packages_of("app"), absent_packages("app")
    found = {name: version(name) for name in needed if name not in absent}
    if not found:
        return {"pages": 'not installed; pip install "stem-in-a-browser[app]" adds them'}
    found["SQLite"] = sqlite3.sqlite_version
    if absent:
        found["queue"] = "not tried"
        problems.append(
            f'the pages need {", ".join(absent)}; run pip install "stem-in-a-browser[app]"'
        )
        return found
    from app.jobs.database import check_queue

    try:
        check_queue()
    except StemError as error:
        found["queue"] = "cannot be used"
        problems.append(one_line(error).rstrip("."))
    else:
        found["queue"] = "takes runs"
    return found


def _size(path: Path) -> str:
    """Return how much a folder or a file holds."""
    files = [path] if path.is_file() else [item for item in path.rglob("*") if item.is_file()]
    return f"{sum(item.stat().st_size for item in files) / 1e6:.1f} MB"


def _models(problems: list[str]) -> dict[str, str]:
    from zoo.loader import load_model
    from zoo.registry import list_models, list_offers

    found: dict[str, str] = {}
    entries = list_models()
    for name, fault in list_offers().faults.items():
        found[name] = "left out"
        problems.append(one_line(fault).rstrip("."))
    for entry in entries:
        try:
            load_model(entry.folder)
        except EncoderMissingError as error:
            found[entry.name] = one_line(error).rstrip(".")
        except StemError as error:
            found[entry.name] = "damaged"
            problems.append(one_line(error).rstrip("."))
        else:
            manifest = entry.manifest
            found[entry.name] = (
                f"{manifest.version}, {len(manifest.panel)} genes, {entry.source}, loads"
            )
    if not entries:
        problems.append("no model is installed; install the program again")
    return found


def _encoders() -> dict[str, str]:
    """Ask the Hub about each encoder's repository; an encoder that is not open is no problem."""
    from stem_core.encoders.catalogue import CATALOGUE
    from zoo.hub import check_access

    found = {}
    for facts in CATALOGUE.values():
        if facts.repo:
            why = check_access(facts.repo)
            found[facts.name] = f"{why or 'open to you'} Licence: {facts.licence}."
    return found
