"""Help of the command line as plain text: options on the left, what they mean on the right.

cyclopts' own formatters draw boxes, or break lines that are broken already.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cyclopts.help import HelpEntry, HelpPanel
    from rich.console import Console, ConsoleOptions

__all__ = ["HelpText"]

_WIDEST, _LEFT = 100, 26


class HelpText:
    """Formatter of help pages (`cyclopts.help.protocols.HelpFormatter`)."""

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        """Print one group of commands or options."""
        if not panel.entries:
            return
        lines = [f"{panel.title}:"]
        for entry in panel.entries:
            lines += _entry_lines(_labels(entry), _meaning(entry, console), _width(console))
        _print(console, lines)

    def render_usage(self, console: Console, options: ConsoleOptions, usage: Any) -> None:
        """Print the usage line."""
        if usage:
            line = " ".join(_rendered(usage, console).split())
            _print(console, [line if line.startswith("Usage:") else f"Usage: {line}"])

    def render_description(
        self, console: Console, options: ConsoleOptions, description: Any
    ) -> None:
        """Print what a command does."""
        if not description:
            return
        for paragraph in _rendered(description, console).split("\n\n"):
            if text := " ".join(paragraph.split()):
                _print(console, textwrap.wrap(text, _width(console), break_on_hyphens=False))


def _labels(entry: HelpEntry) -> str:
    """Return names and value of an entry, such as `--out, -o PATH` or `--layout visium|st`."""
    names = ", ".join(entry.display_labels)
    value = "|".join(entry.choices) if entry.choices else entry.metavar or ""
    if entry.positional_label:
        return names + ("..." if value.endswith("...") else "")
    return f"{names} {value}".rstrip()


def _meaning(entry: HelpEntry, console: Console) -> str:
    text = " ".join(_rendered(entry.description, console).split())
    return f"{text} (required)" if entry.required else text


def _entry_lines(labels: str, meaning: str, width: int) -> list[str]:
    left = f"  {labels}"
    right = textwrap.wrap(meaning, max(20, width - _LEFT), break_on_hyphens=False)
    indent = " " * _LEFT
    if right and len(left) <= _LEFT - 2:
        left = left.ljust(_LEFT) + right.pop(0)
    return [left, *(indent + line for line in right)]


def _rendered(text: Any, console: Console) -> str:
    """Return a text of cyclopts, its lines not broken again."""
    with console.capture() as capture:
        console.print(text, highlight=False, soft_wrap=True)
    return capture.get().strip()


def _width(console: Console) -> int:
    return min(console.width, _WIDEST)


def _print(console: Console, lines: Sequence[str]) -> None:
    print(*lines, sep="\n", end="\n\n", file=console.file)
