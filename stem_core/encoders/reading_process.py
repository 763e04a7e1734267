"""A process that reads and prepares patches, and the end of it that is here.

The process is a fresh interpreter that imports neither torch nor the main script (as
`multiprocessing` would), is sent the reader, then places, and answers. It has its own handle of the
slide. When this process goes away, in whatever way, the connection ends and so does that one.

Run as a module with the number of an open connection, this is the process.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import subprocess
import sys
import threading
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from stem_core.encoders.patch_reader import PatchReader
from stem_core.encoders.preparation import Prepared
from stem_core.processes import child_environment, module_command

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
        self._answers, theirs = Pipe()
        # The reader may be anyone's: the child finds what this process finds. "" stands for the
        # working directory.
        search = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        try:
            with theirs:
                self._process = subprocess.Popen(
                    module_command(__name__, str(theirs.fileno())),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    env=child_environment(PYTHONPATH=search),
                    pass_fds=[theirs.fileno()],
                    process_group=0,  # Ctrl-C is for this process, which then closes that one
                )
            self._answers.send(reader)
        # Of these, the last are for what cannot be pickled, or not be passed on on this system.
        except (OSError, pickle.PickleError, AttributeError, TypeError, ValueError) as error:
            self._lose(error)
        except BaseException:
            self.close()
            raise

    def __call__(self, x_px: NDArray[np.float64], y_px: NDArray[np.float64]) -> Prepared:
        """Read and prepare patches there; raises what was raised there."""
        if not self.is_ready():
            return self._reader(x_px, y_px)
        try:
            self._answers.send((x_px, y_px))
            answer = self._answers.recv()
        except (OSError, EOFError) as error:
            if self._closed.is_set():
                raise
            self._lose(error)
            return self._reader(x_px, y_px)
        if isinstance(answer, Exception):
            raise answer
        prepared: Prepared = answer
        return prepared

    def is_ready(self) -> bool:
        """Tell, without waiting, whether the process has started."""
        if not self._ready and not self._lost:
            try:
                self._ready = self._answers.poll() and self._answers.recv() == _READY
            except (OSError, EOFError) as error:
                self._lose(error)
        return self._ready and not self._lost

    def close(self) -> None:
        """End the process; a call that waits for it returns."""
        self._closed.set()
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _lose(self, error: BaseException) -> None:
        self._lost = True
        if not self._closed.is_set():
            log.warning("A process that reads patches ended (%r); they are read here.", error)


def serve(questions: Connection) -> NoReturn:
    """Answer until the other end goes away.

    Raises
    ------
    EOFError, ConnectionError
        In the end.
    """
    reader: PatchReader = questions.recv()
    questions.send(_READY)
    while True:
        x_px, y_px = questions.recv()
        answer: Prepared | Exception
        try:
            answer = reader(x_px, y_px)
        except Exception as error:  # noqa: BLE001 - it is raised where the patches are wanted
            answer = error
        questions.send(answer)


if __name__ == "__main__":
    with contextlib.suppress(EOFError, ConnectionError):
        serve(Connection(int(sys.argv[1])))
