"""How numbers, times, names and errors are put into words on the pages."""

from __future__ import annotations

import re
import time
from datetime import datetime
from pathlib import PurePath
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import streamlit as st

from app.jobs.model import JobStatus
from stem_core.model.manifest import Manifest

__all__ = [
    "STATE_BADGES",
    "band_words",
    "count",
    "data_size",
    "duration",
    "fact",
    "length",
    "moment",
    "own_names",
    "plain",
    "run_words",
]


BadgeColour = Literal["gray", "blue", "green", "red", "orange"]

STATE_BADGES: dict[str, tuple[str, str, BadgeColour]] = {
    "queued": ("Waiting", ":material/hourglass_empty:", "gray"),
    "running": ("Running", ":material/play_arrow:", "blue"),
    "done": ("Done", ":material/check:", "green"),
    "failed": ("Failed", ":material/error:", "red"),
    "cancelled": ("Cancelled", ":material/block:", "orange"),
}
"""Words, icon and colour of a run's state."""

_SHORT = 40  # characters that fit on a line of a narrow card
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+!|~$:&-])")


def plain(text: str) -> str:
    """Return text that came from outside so that Markdown shows it as it is."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def fact(label: str, text: str) -> str:
    """Return a label and what came from outside, as Markdown; a short one is not torn apart."""
    words = f"**{label}** {plain(text)}"
    return words.replace(" ", "\u00a0") if len(words) <= _SHORT else words


def own_names(sentence: str, *names: str | None) -> str:
    """Put the users' own file names where a sentence has those that uploads lie under."""
    for name in names:
        if name is not None:
            stored = "file" + PurePath(name).suffix.lower()
            own = name.replace("\\", r"\\")
            sentence = re.sub(rf"(?<![\w/]){re.escape(stored)}(?!\w)", own, sentence)
    return sentence


def count(number: int, one: str, many: str | None = None) -> str:
    """Return `1 spot`, `1 234 spots`."""
    return f"{number:,}".replace(",", "\u202f") + f" {one if number == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """Return a time span in the unit one would say it in."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def data_size(n_bytes: float) -> str:
    """Return a size of data in decimal units, as disks and networks state it."""
    if n_bytes < 999_500:
        return f"{n_bytes / 1e3:.0f} kB"
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes < 999_950_000 else f"{n_bytes / 1e9:.2f} GB"


def length(um: float) -> str:
    """Return a length in microns or, from a millimetre on, millimetres."""
    return f"{um / 1000:.1f} mm" if um >= 1000 else f"{um:.0f} µm"


def moment(unix_s: float | None) -> str:
    """Return a moment in the reader's own time zone."""
    if unix_s is None:
        return "–"
    try:
        zone = ZoneInfo(st.context.timezone or "UTC")
    except (ZoneInfoNotFoundError, ValueError):
        zone = ZoneInfo("UTC")
    then, now = datetime.fromtimestamp(unix_s, zone), datetime.fromtimestamp(time.time(), zone)
    day = "today" if then.date() == now.date() else f"{then:%d %b %Y}"
    return f"{day} {then:%H:%M}"


def run_words(status: JobStatus, manifest: Manifest | None) -> str:
    """Return what a run is: model, spots, settings."""
    request = status.request
    parts = [plain(manifest.title if manifest else request.model)]
    if status.n_spots is not None:
        parts.append(count(status.n_spots, "spot"))
    preset = f"{plain(request.preset)}: " if request.preset else ""
    parts.append(
        f"{preset}{count(request.steps, 'step')} × {count(request.samples, 'sample')}, "
        f"seed {request.seed}"
    )
    return " · ".join(parts)


def band_words(manifest: Manifest) -> str:
    """Say where the 90 % band comes from, and how often it held."""
    held = [
        fold.metrics.coverage_90
        for fold in manifest.held_out.folds
        if fold.metrics.coverage_90 is not None
    ]
    if not manifest.calibrated:
        return (
            "The 90 % band is the mean ± 1.645 times the spread of the draws. Nothing calibrated "
            "it: the model came without held-out sections, so it may well be too narrow."
        )
    words = (
        "The 90 % band is not read off the few draws: it is their spread, scaled gene by gene on "
        "training sections predicted without them, and widened where the level of this slide is "
        "in doubt."
    )
    if held:
        words += (
            f" On sections kept aside it held {100 * min(held):.0f} to {100 * max(held):.0f} % of "
            "the measured values."
        )
    return words
