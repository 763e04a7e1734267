"""The viewer's ES modules as one text: for a component of Streamlit, or a file that is sent.

Both take a single module. The parts import and export what they need of each other, so they can be
read, checked and tested one by one; here they are put behind each other, without those lines.
"""

from __future__ import annotations

import re
from graphlib import TopologicalSorter
from pathlib import Path

__all__ = ["module_text", "viewer_style"]

_FOLDER = Path(__file__).parents[1] / "components"
_IMPORT = re.compile(r'^import [^"]*"\./(\w+)\.js"\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?!default)", re.MULTILINE)


def module_text(name: str = "maps_viewer") -> str:
    """Return a module with all that it imports, as one module.

    Names at the top of the parts must differ; a test loads the parts as they are, too.
    """
    parts: dict[str, str] = {}
    needed: dict[str, list[str]] = {}
    wanted = [name]
    while wanted:
        part = wanted.pop()
        if part not in parts:
            parts[part] = (_FOLDER / f"{part}.js").read_text(encoding="utf-8")
            needed[part] = _IMPORT.findall(parts[part])
            wanted += needed[part]
    order = TopologicalSorter(needed).static_order()
    return "\n".join(_EXPORT.sub("", _IMPORT.sub("", parts[part])) for part in order)


def viewer_style() -> str:
    """Return the viewer's style sheet."""
    return (_FOLDER / "maps_viewer.css").read_text(encoding="utf-8")
