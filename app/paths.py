"""Where the app keeps its files: one private folder, `STEM_HOME` or the user's cache folder.

    <home>/
      jobs/<id>/       one run: request, status, spots, chunks, result
      uploads/<id>/    one uploaded file
      sample/          the synthetic sample slide, drawn on first use
      database/        the job queue (SQLite)
      log/             stem.log
      pulls/           how far pulls of models are
      models/, zoo/    see `zoo.places`

Nothing is made when this module is imported; a folder is made, for the owner's eyes only, when it
is first asked for.
"""

from __future__ import annotations

import os
from pathlib import Path

from zoo.places import PRIVATE_MODE, home, private_dir

__all__ = [
    "PRIVATE_MODE",
    "database_file",
    "heartbeat_file",
    "heartbeat_files",
    "home",
    "jobs_dir",
    "log_file",
    "private_dir",
    "pulls_dir",
    "sample_dir",
    "slide_dir",
    "speed_file",
    "uploads_dir",
]


def jobs_dir() -> Path:
    """Return the folder of all runs; made if missing."""
    return private_dir(home() / "jobs")


def uploads_dir() -> Path:
    """Return the folder of uploaded files; made if missing."""
    return private_dir(home() / "uploads")


def sample_dir() -> Path:
    """Return the folder of the synthetic sample slide; made if missing."""
    return private_dir(home() / "sample")


def database_file() -> Path:
    """Return the path of the job database; its private folder is made if missing."""
    return private_dir(home() / "database") / "jobs.sqlite"


def log_file() -> Path:
    """Return the path of the log; its private folder is made if missing."""
    return private_dir(home() / "log") / "stem.log"


def heartbeat_file(worker: str = "worker") -> Path:
    """Return the file that a living worker touches every second."""
    return database_file().with_name(f"{worker}.json")


def heartbeat_files() -> list[Path]:
    """Return the heartbeats of all workers that there are."""
    return sorted(database_file().parent.glob("worker*.json"))


def speed_file() -> Path:
    """Return the file in which the worker notes how fast this machine is."""
    return database_file().with_name("speed.json")


def pulls_dir() -> Path:
    """Return the folder in which pulls of models note how far they are; made if missing."""
    return private_dir(home() / "pulls")


def slide_dir() -> Path | None:
    """Return the server's own slide folder (`STEM_SLIDE_DIR`), or None where none is set."""
    chosen = os.environ.get("STEM_SLIDE_DIR", "").strip()
    return Path(chosen).expanduser().resolve() if chosen else None
