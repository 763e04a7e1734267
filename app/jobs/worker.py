"""The worker process: takes runs from the queue, one at a time (`stem worker`).

One worker serves one home. A heartbeat tells the pages that it lives; a worker that was started by
`stem app` ends when that process is gone. A cancelled run stops itself between pieces of work;
where a piece takes longer than that, the process restarts itself, so cancelling never takes long.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import IO, NoReturn

from app import paths, uploads
from app.faults import LOG, fault_sentence, record_fault, start_log
from app.jobs.database import (
    APP_NAME,
    QUEUE_NAME,
    QUEUE_SETTINGS,
    database_url,
    support_old_sqlite,
)
from app.jobs.queue import uploads_in_use
from app.jobs.speed import measure_all
from stem_core.errors import JobError, StemError
from stem_core.files import write_atomically
from stem_core.processes import child_environment, module_command

__all__ = ["NUMBER_VARIABLE", "PARENT_VARIABLE", "main", "run_worker"]

PARENT_VARIABLE = "STEM_WORKER_PARENT"
NUMBER_VARIABLE = "STEM_WORKER"
# Fixed, so that a run outlives an update of the program and any worker may take it up.
APPLICATION_VERSION = "1"

_BEAT_S = 0.5
_PATIENCE_S = 1.0
_INTERRUPTED = 130
_TIDY_EVERY_S = 3600.0
_LOCK_WAIT_S = 3.0
_TAKE_OVER_EVERY_S = 5.0


def worker_name() -> str:
    """Return the name of this worker among those of its home: `worker`, `worker-1` and so on.

    Under it the job database remembers whose a run in progress is.
    """
    number = os.environ.get(NUMBER_VARIABLE, "0")
    return f"worker-{int(number)}" if number.isdigit() and int(number) else "worker"


def run_worker() -> NoReturn:
    """Serve the queue until SIGTERM or SIGINT, then end the process.

    A run in progress is taken up by the next worker. The exit code is 0, or 130 after SIGINT.

    Raises
    ------
    JobError
        Another worker serves this home already.
    OutputError
        The home folder cannot be written.
    """
    start_log()
    parent_pid = int(os.environ.get(PARENT_VARIABLE, "0"))
    lock = _only_worker()
    try:
        _write_heartbeat()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _quit)
        _launch()
        LOG.info("worker started")
        if worker_name() == "worker":
            threading.Thread(target=measure_all, name="speed", daemon=True).start()
        next_tidy_s = next_take_over_s = 0.0
        cancelled_since_s: float | None = None
        while not parent_pid or os.getppid() == parent_pid:
            _write_heartbeat()
            cancelled_since_s = _cancelled_since(cancelled_since_s)
            if cancelled_since_s and time.monotonic() - cancelled_since_s > _PATIENCE_S:
                _begin_anew()
            if time.monotonic() >= next_tidy_s:
                next_tidy_s = time.monotonic() + _TIDY_EVERY_S
                _tidy()
            if time.monotonic() >= next_take_over_s:
                next_take_over_s = time.monotonic() + _TAKE_OVER_EVERY_S
                _take_over()
            time.sleep(_BEAT_S)
        LOG.info("worker: the app is gone")
        raise SystemExit(0)
    except SystemExit as end:
        _end_process(end.code)
    finally:
        paths.heartbeat_file(worker_name()).unlink(missing_ok=True)
        lock.close()


def main() -> int:
    """Run the worker as a process; one line on standard error where it cannot."""
    try:
        run_worker()
    except StemError as error:
        print(error, file=sys.stderr)
        return 2
    except Exception as error:  # noqa: BLE001 - logged under a reference number
        print(fault_sentence(record_fault(error, "starting the worker")), file=sys.stderr)
        return 1


def _launch() -> None:
    """Start DBOS: nothing of it listens or connects anywhere."""
    for name in [name for name in os.environ if name.startswith("DBOS")]:
        del os.environ[name]  # would turn on cloud mode, exporters or another version
    import torch
    from dbos import DBOS, DBOSPortableJSONSerializer

    support_old_sqlite()
    logger = logging.getLogger("dbos")
    logger.handlers = list(LOG.handlers)
    logger.propagate = False
    DBOS(
        config={
            "name": APP_NAME,
            "system_database_url": database_url(paths.database_file()),
            "application_version": APPLICATION_VERSION,
            "executor_id": worker_name(),
            "enable_otlp": False,
            "log_level": "WARNING",
            "serializer": DBOSPortableJSONSerializer(),
            "notification_listener_polling_interval_sec": 1.0,
        }
    )
    import app.jobs.workflow  # noqa: F401  registers the workflow

    threads = os.environ.get("OMP_NUM_THREADS")
    if threads and threads.isdigit():
        torch.set_num_threads(int(threads))
    DBOS.launch()
    DBOS.register_queue(QUEUE_NAME, **QUEUE_SETTINGS)


def _only_worker() -> IO[str]:
    """Hold this worker's lock; the system frees it when the process ends, however it ends."""
    lock = _lock_file(worker_name()).open("a", encoding="utf-8")
    give_up_s = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except OSError as error:
            if time.monotonic() > give_up_s:
                lock.close()
                msg = (
                    f"Another worker already serves {paths.home()}; stop it first, or set "
                    "STEM_HOME to another folder."
                )
                raise JobError(msg) from error
            time.sleep(0.2)


def _lock_file(worker: str) -> Path:
    return paths.database_file().with_name(f"{worker}.lock")


def _take_over() -> None:
    """Put the runs of other workers that are no more back into the queue.

    A worker that lives holds its lock; one that comes back takes its own runs up itself.
    """
    from dbos import DBOS

    for path in paths.database_file().parent.glob("worker*.lock"):
        if path.stem == worker_name():
            continue
        with path.open("a", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            DBOS._recover_pending_workflows([path.stem])


def _write_heartbeat() -> None:
    beat = {"pid": os.getpid(), "time_s": time.time()}
    try:
        write_atomically(paths.heartbeat_file(worker_name()), json.dumps(beat, allow_nan=False))
    except OSError:  # a full disk must not end the worker
        LOG.warning("worker: the heartbeat could not be written")


def _cancelled_since(before_s: float | None) -> float | None:
    """Return since when the run at work has been asked to stop; None where nobody asked."""
    from app.jobs.workflow import current_run

    run = current_run()
    if run is None or not run.folder.cancel_asked():
        return None
    return before_s or time.monotonic()


def _begin_anew() -> NoReturn:
    """End the run at work as cancelled and replace this process by a fresh worker."""
    from app.jobs.workflow import current_run, end_run

    run = current_run()
    if run is not None:
        end_run(run, "cancelled", "")
    LOG.info("worker: a cancelled run did not stop in time; restarting")
    logging.shutdown()
    os.execve(sys.executable, module_command("app.jobs.worker"), child_environment())


def _quit(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(_INTERRUPTED if number == signal.SIGINT else 0)


def _end_process(code: object) -> NoReturn:
    """Leave the run in progress to the next worker, and go at once.

    A chunk may still be computing in a thread; waiting for it would gain nothing.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    workflow = sys.modules.get("app.jobs.workflow")
    run = workflow.current_run() if workflow is not None else None
    if run is not None:
        try:
            run.write_progress(attempts=0)  # stopped on purpose, not by the run
        except OSError:
            LOG.warning("worker: the status of the run in progress could not be written")
    LOG.info("worker stopped")
    paths.heartbeat_file(worker_name()).unlink(missing_ok=True)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


def _tidy() -> None:
    """Remove what deleted runs and abandoned uploads left behind."""
    try:
        uploads.remove_unused(uploads_in_use)
        for leftover in paths.jobs_dir().glob("deleted-*"):
            shutil.rmtree(leftover, ignore_errors=True)
    except (OSError, StemError) as error:
        LOG.warning("worker: tidying up failed: %s", error)


if __name__ == "__main__":
    sys.exit(main())
