"""The folder of one run on disk: what lies where, and status files that are always whole."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from app import paths
from app.jobs.model import JobRequest, JobState, check_job_id
from stem_core.errors import JobError
from stem_core.files import write_atomically

__all__ = ["JobFolder", "Progress", "all_job_ids", "find_folder"]


@dataclass(frozen=True)
class Progress:
    """What `status.json` holds (times in Unix seconds; see `app.jobs.model.JobStatus`).

    `attempts` counts workers that took the run up since it last moved on; `worked_s` is the time
    worked on it over all of them. `precision` is that of the denoiser, once a worker has chosen it.
    """

    state: JobState
    created_s: float
    stage: str = ""
    done: int = 0
    total: int = 0
    unit: str = ""
    started_s: float | None = None
    finished_s: float | None = None
    updated_s: float | None = None
    eta_s: float | None = None
    message: str = ""
    n_spots: int | None = None
    attempts: int = 0
    worked_s: float = 0.0
    precision: str = ""


class JobFolder:
    """Paths and small files of one run; the id has been checked, the folder need not exist."""

    def __init__(self, job_id: str) -> None:
        self.id = check_job_id(job_id)
        self.path = paths.jobs_dir() / self.id
        self.request_file = self.path / "request.json"
        self.status_file = self.path / "status.json"
        self.cancel_file = self.path / "cancel"
        self.spots_file = self.path / "spots.csv"
        self.survey_file = self.path / "survey.safetensors"
        self.chunks_dir = self.path / "chunks"
        self.draws_file = self.path / "draws.safetensors"
        self.result_dir = self.path / "result"
        self.preview_file = self.path / "preview" / "thumb.jpg"
        self.archive_file = self.path / "result.zip"

    def make(self, request: JobRequest) -> None:
        """Make the folder with its request and a first status."""
        self.path.mkdir(mode=paths.PRIVATE_MODE)
        write_atomically(self.request_file, request.to_json())
        self.write_progress(Progress("queued", created_s=time.time()))

    def exists(self) -> bool:
        """Whether the run is there (a deleted run's folder is renamed before it is emptied)."""
        return self.request_file.is_file()

    def read_request(self) -> JobRequest:
        """Return what was asked for; JobError if the run is gone or unreadable."""
        try:
            text = self.request_file.read_text(encoding="utf-8")
        except OSError as error:
            raise _unknown() from error
        return JobRequest.from_json(text)

    def read_progress(self) -> Progress:
        """Return the status as last written, a failed one if unreadable; JobError if it is gone."""
        try:
            values: dict[str, Any] = json.loads(self.status_file.read_text(encoding="utf-8"))
            return Progress(**values)
        except OSError as error:
            raise _unknown() from error
        except (ValueError, TypeError):
            made_s = self.path.stat().st_ctime
            msg = "The status of this run cannot be read; delete the run and start it again."
            return Progress("failed", created_s=made_s, message=msg)

    def write_progress(self, progress: Progress) -> Progress:
        """Write the status; a reader sees the old or the new one, never a part."""
        progress = replace(progress, updated_s=time.time())
        write_atomically(self.status_file, json.dumps(asdict(progress), allow_nan=False))
        return progress

    def ask_to_cancel(self) -> None:
        """Leave the mark that the worker looks for between pieces of work."""
        if self.exists():
            self.cancel_file.touch()

    def cancel_asked(self) -> bool:
        """Whether the run should stop: asked to, or deleted."""
        return self.cancel_file.exists() or not self.exists()

    def chunk_file(self, index: int) -> Path:
        """Return where the draws of chunk `index` lie."""
        return self.chunks_dir / f"{index:04d}.safetensors"

    def remove(self) -> None:
        """Remove the run: first out of sight in one move, then file by file."""
        trash = self.path.with_name(f"deleted-{self.id}")
        try:
            self.path.rename(trash)
        except FileNotFoundError:
            pass
        shutil.rmtree(trash, ignore_errors=True)


def find_folder(job_id: str) -> JobFolder:
    """Return the folder of an existing run.

    Raises
    ------
    JobError
        The id is malformed, or no run has it.
    """
    folder = JobFolder(job_id)
    if not folder.exists():
        raise _unknown()
    return folder


def all_job_ids() -> list[str]:
    """Return the ids of all runs on disk, in no order."""
    with os.scandir(paths.jobs_dir()) as entries:
        return [entry.name for entry in entries if len(entry.name) == 32 and entry.is_dir()]


def _unknown() -> JobError:
    return JobError(
        "There is no such run; it may have been deleted. The Runs page lists the runs there are."
    )
