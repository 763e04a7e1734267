"""Keeps a worker process running for as long as `stem app` runs."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from types import TracebackType

from app import paths
from app.faults import LOG
from app.jobs.worker import NUMBER_VARIABLE, PARENT_VARIABLE
from stem_core.processes import child_environment, module_command

__all__ = ["Supervisor"]

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_HEALTHY_AFTER_S = 60.0
_STOP_WAIT_S = 5.0


class Supervisor:
    """Starts the worker, starts it again when it dies, and stops it; a context manager.

    The pause before a new start doubles with every quick death (0.5 s to 30 s), and is short again
    once a worker lived for a minute.

    Parameters
    ----------
    number
        Of the worker, from 0.
    of
        How many workers there are; each of several gets one of the GPUs, in turn.
    """

    def __init__(self, number: int = 0, of: int = 1) -> None:
        self._environment = {NUMBER_VARIABLE: str(number)}
        if of > 1:
            visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
            gpus = visible.split(",") if visible else [str(n) for n in range(of)]
            self._environment["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._watch, name="worker-supervisor", daemon=True)

    def __enter__(self) -> Supervisor:
        """Start the worker."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the worker; one that does not stop within five seconds is killed."""
        self._stopping.set()
        with self._lock:
            process = self._process
        if process is not None:
            process.terminate()
            try:
                process.wait(_STOP_WAIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._thread.join(_STOP_WAIT_S)

    def _watch(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            with self._lock:
                if self._stopping.is_set():
                    return
                process = self._process = _start_worker(self._environment)
            started_s = time.monotonic()
            code = process.wait()
            if self._stopping.is_set():
                return
            if time.monotonic() - started_s > _HEALTHY_AFTER_S:
                pause_s = _FIRST_PAUSE_S
            LOG.warning("worker ended with code %d; a new one starts in %.1f s", code, pause_s)
            if self._stopping.wait(pause_s):
                return
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _start_worker(environment: dict[str, str]) -> subprocess.Popen[bytes]:
    with paths.log_file().open("ab") as log:
        return subprocess.Popen(
            module_command("app.jobs.worker"),
            env=child_environment(**environment, **{PARENT_VARIABLE: str(os.getpid())}),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for the app, which then stops the worker
        )
