"""The viewer's own text: its parts as one module, for a page or for a file that is sent."""

from __future__ import annotations

from pathlib import Path

__all__ = ["viewer_script", "viewer_style"]

_FOLDER = Path(__file__).parents[1] / "components"
_PARTS = ("data", "place", "slide", "paint", "panel", "hover", "gestures")


def viewer_script() -> str:
    """Return the parts as they share a module; the last one exports."""
    names = [*(f"maps_viewer_{part}.js" for part in _PARTS), "maps_viewer.js"]
    return "\n".join((_FOLDER / name).read_text(encoding="utf-8") for name in names)


def viewer_style() -> str:
    """Return the viewer's style sheet."""
    return (_FOLDER / "maps_viewer.css").read_text(encoding="utf-8")
