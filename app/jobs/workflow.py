"""The durable workflow of one run (DBOS): its steps, and what becomes of errors.

A worker that dies in mid-run leaves the workflow pending; the next worker starts it again, and DBOS
skips the steps that were finished. The files of the run's folder say the same: a chunk that is
there is not made again.
"""

from __future__ import annotations

import errno
import shutil
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from dbos import DBOS

from app import paths, uploads
from app.faults import LOG, fault_sentence, record_fault
from app.jobs.folder import JobFolder
from app.jobs.model import FINAL_STATES, JobState
from app.jobs.queue import WORKFLOW_NAME
from app.jobs.run import Run, load_predictor
from stem_core import errors
from stem_core.errors import Cancelled, JobError, StemError

__all__ = ["MOST_ATTEMPTS", "current_run", "end_run", "predict_slide"]

MOST_ATTEMPTS = 3

_one_run_at_a_time = threading.Lock()
_current: Run | None = None


@DBOS.workflow(name=WORKFLOW_NAME, max_recovery_attempts=None)
def predict_slide(job_id: str) -> str:
    """Carry a run out; return the state it ended in."""
    with _one_run_at_a_time:
        folder = JobFolder(job_id)
        try:
            run = Run(folder, load_predictor)
        except JobError:
            return "deleted"
        if run.progress.state in FINAL_STATES:
            return run.progress.state
        return _carry_out(run)


def current_run() -> Run | None:
    """Return the run this process is working on, if any."""
    return _current


def _carry_out(run: Run) -> str:
    global _current
    _current = run
    LOG.info("run %s: taken up", run.folder.id)
    try:
        run.write_progress(
            state="running",
            started_s=run.progress.started_s or time.time(),
            attempts=run.progress.attempts + 1,
        )
        if run.progress.attempts > MOST_ATTEMPTS:
            return end_run(run, "failed", _too_many_attempts())
        _step("prepare", run.prepare)
        _step("preview", run.make_preview)
        _step("survey", run.make_survey)
        for index in range(run.n_chunks):
            _step(f"chunk {index}", partial(run.draw_chunk, index))
        _step("write", run.write_result)
        return end_run(run, "done", "")
    except Cancelled:
        return end_run(run, "cancelled", "")
    except Exception as error:  # noqa: BLE001 - the last line of defence: logged under a number
        if run.folder.cancel_asked():  # deleted under our feet, or recorded as cancelled before
            return end_run(run, "cancelled", "")
        return end_run(run, "failed", _sentence(error, run))
    finally:
        _current = None
        run.close()


def _step(name: str, work: Callable[[], object]) -> None:
    """Do a piece of work as a DBOS step; nothing but its having been done is recorded."""

    def step() -> None:
        work()

    DBOS.run_step({"name": name}, step)


def end_run(run: Run, state: JobState, message: str) -> str:
    """Write the last status; where the disk is full, make room for it first."""
    LOG.info("run %s: %s %s", run.folder.id, state, message)
    ending: dict[str, Any] = {
        "state": state,
        "message": message,
        "finished_s": time.time(),
        "eta_s": None,
    }
    if state == "done":
        ending |= {"done": 1, "total": 1}
    try:
        if state != "done":
            shutil.rmtree(run.folder.chunks_dir, ignore_errors=True)
        run.write_progress(**ending)
    except OSError as error:
        if run.folder.exists():
            record_fault(error, f"ending run {run.folder.id}")
    return state


def _sentence(error: Exception, run: Run) -> str:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"The disk with {paths.home()} is full; free space or delete runs, then start this run "
            "again."
        )
    # A step that failed before the worker died comes back from the database in DBOS's own dress.
    if isinstance(error, StemError) or getattr(error, "name", None) in errors.__all__:
        return _with_the_users_names(str(error), run)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return (
            "There was not enough memory for this run; choose fewer samples per spot, another "
            "device, or a machine with more memory."
        )
    return fault_sentence(record_fault(error, f"run {run.folder.id}"))


def _with_the_users_names(sentence: str, run: Run) -> str:
    """Name the uploads as the user knows them, not as they are kept."""
    named = [(run.request.upload_id, run.request.slide_name)]
    if run.request.spots_upload_id is not None:
        named.append((run.request.spots_upload_id, "the spots file"))
    for upload_id, name in named:
        try:
            path = uploads.upload_path(upload_id)
        except StemError:
            continue
        sentence = sentence.replace(str(path), name).replace(path.name, name)
    return sentence


def _too_many_attempts() -> str:
    return (
        f"The worker stopped {MOST_ATTEMPTS} times while on this run without getting further, most "
        "likely for want of memory; choose fewer samples per spot or a smaller slide."
    )
