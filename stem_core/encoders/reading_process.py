"""A process that reads and prepares patches, and the end of it that is here.

The process is a fresh interpreter that imports neither torch nor the main script, gets the reader
by its standard input, then places, and answers on its standard output. It has its own handle of the
slide. When this process goes away, in whatever way, its input ends and so does it.

Run as a module, this is the process.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import subprocess
import sys
import threading
from multiprocessing.connection import wait
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from stem_core.encoders.patch_reader import PatchReader
from stem_core.encoders.preparation import Prepared

__all__ = ["ReadingProcess"]

log = logging.getLogger(__name__)
_READY = "ready"


class ReadingProcess:
    """A reader in a process of its own; called by one thread at a time.

    Until the process has started, and when it cannot or is killed, patches are read here.

    Parameters
    ----------
    reader
        What it does.
    """

    def __init__(self, reader: PatchReader) -> None:
        self._reader = reader
        self._ready = self._lost = False
        self._closed = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        paths = os.pathsep.join(path for path in sys.path if path)
        try:
            described = pickle.dumps(reader)
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": paths},
                process_group=0,  # Ctrl-C is for this process, which then closes that one
            )
            self._write(described)
        # What cannot be pickled is told by any of these.
        except (OSError, pickle.PickleError, AttributeError, TypeError) as error:
            self._lose(error)
        except BaseException:
            self.close()
            raise

    def __call__(self, x_px: NDArray[np.float64], y_px: NDArray[np.float64]) -> Prepared:
        """Read and prepare patches there; raises what was raised there."""
        if not self.is_ready():
            return self._reader(x_px, y_px)
        try:
            self._write(pickle.dumps((x_px, y_px)))
            answer = self._receive()
        except (OSError, EOFError, ValueError, pickle.PickleError) as error:
            if self._closed.is_set():
                raise
            self._lose(error)
            return self._reader(x_px, y_px)
        if isinstance(answer, Exception):
            raise answer
        prepared: Prepared = answer
        return prepared

    def close(self) -> None:
        """End the process; a call that waits for it returns."""
        self._closed.set()
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):  # what was not sent is not wanted any more
                pipe.close()

    def is_ready(self) -> bool:
        """Tell, without waiting, whether the process has started."""
        if self._lost:
            return False
        assert self._process is not None
        assert self._process.stdout is not None
        if not self._ready and wait([self._process.stdout.fileno()], timeout=0):
            try:
                self._ready = self._receive() == _READY
            except (OSError, EOFError, ValueError, pickle.PickleError) as error:
                self._lose(error)
        return self._ready

    def _write(self, pickled: bytes) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(pickled)
        self._process.stdin.flush()

    def _receive(self) -> Any:
        assert self._process is not None
        assert self._process.stdout is not None
        return pickle.load(self._process.stdout)

    def _lose(self, error: BaseException) -> None:
        self._lost = True
        log.warning("A process that reads patches ended (%s); they are read without it.", error)


def serve() -> NoReturn:
    """Answer until the input ends, or nobody takes the answers.

    Raises
    ------
    EOFError, BrokenPipeError
        In the end.
    """
    source = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    reader = pickle.load(source)
    pickle.dump(_READY, answers)
    answers.flush()
    while True:
        x_px, y_px = pickle.load(source)
        try:
            answer = reader(x_px, y_px)
        except Exception as error:  # noqa: BLE001 - it is raised where the patches are wanted
            answer = error
        pickle.dump(answer, answers, protocol=pickle.HIGHEST_PROTOCOL)
        answers.flush()


if __name__ == "__main__":
    with contextlib.suppress(EOFError, BrokenPipeError):  # nobody asks, or wants to know, any more
        serve()
    os._exit(0)  # without trying to deliver the rest
