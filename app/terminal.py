"""How the command line speaks: one line for an error, a progress bar only where someone watches.

Libraries below us (image codecs above all) print warnings of their own to standard error, some of
them from C. `quiet_stderr` sends all that to the log, so that a failed command prints exactly one
line: ours.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

from stem_core.errors import StemError

if TYPE_CHECKING:
    from tqdm import tqdm

    from stem_core.prediction.predictor import Progress

__all__ = ["CTRL_C", "OUR_LOGGERS", "Notes", "ProgressBar", "one_line", "quiet_stderr"]

# Set by Ctrl-C: code in C may swallow the exception that comes with it.
CTRL_C = threading.Event()

OUR_LOGGERS = ("stem_core", "zoo", "app")
_STAGES = {"survey": "Surveying the slide", "predict": "Predicting", "write": "Writing"}


def one_line(text: object) -> str:
    """Return a text as a single line."""
    return " ".join(str(text).split())


@contextlib.contextmanager
def quiet_stderr() -> Iterator[TextIO]:
    """Send everything written to file descriptor 2 to the log; yield the real standard error."""
    sys.stderr.flush()
    try:
        from app.paths import log_file

        sink = os.open(log_file(), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except (StemError, OSError):
        sink = os.open(os.devnull, os.O_WRONLY)
    real = os.dup(2)
    os.dup2(sink, 2)
    os.close(sink)
    stream = os.fdopen(real, "w", encoding="utf-8", errors="replace", buffering=1)
    try:
        yield stream
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        with contextlib.suppress(OSError):
            stream.flush()
        os.dup2(real, 2)
        with contextlib.suppress(OSError):
            stream.close()


class Notes(logging.Handler):
    """Warnings of our own packages, held back until the command has ended well.

    A terminal shows them at once; elsewhere they follow the work, so that an error stays the only
    line on standard error.

    Parameters
    ----------
    stream
        Where the warnings go.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(logging.WARNING)
        self.stream = stream
        self.at_once = stream.isatty()
        self.held: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Show or keep one warning; the same warning is said once."""
        line = f"Warning: {one_line(record.getMessage())}"
        if line in self.held:
            return
        self.held.append(line)
        if self.at_once:
            print(line, file=self.stream)

    def tell(self) -> None:
        """Show what was kept."""
        if not self.at_once:
            for line in self.held:
                print(line, file=self.stream)

    @contextlib.contextmanager
    def listening(self) -> Iterator[Notes]:
        """Hear our own loggers, and nobody else's."""
        loggers = [logging.getLogger(name) for name in OUR_LOGGERS]
        for logger in loggers:
            logger.addHandler(self)
        try:
            yield self
        finally:
            for logger in loggers:
                logger.removeHandler(self)


class ProgressBar:
    """Progress with the time left, for a person at a terminal; silent elsewhere.

    Parameters
    ----------
    stream
        The terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.stage = ""
        self.bar: tqdm[Any] | None = None

    def __call__(self, progress: Progress) -> None:
        """Show the state of the work."""
        if not self.stream.isatty():
            return
        from tqdm import tqdm

        if progress.stage != self.stage or self.bar is None:
            self.close()
            self.stage = progress.stage
            self.bar = tqdm(
                total=progress.total,
                desc=_STAGES.get(progress.stage, progress.stage),
                unit=f" {progress.unit}",
                bar_format="{desc}: {percentage:3.0f} % |{bar}| {n_fmt}/{total_fmt}{unit}"
                " [{elapsed}, {remaining} left]",
                file=self.stream,
                leave=False,
                **_width(self.stream),
            )
        self.bar.total = progress.total
        self.bar.update(progress.done - self.bar.n)

    def close(self) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def _width(stream: TextIO) -> dict[str, Any]:
    """Follow the terminal's width; a terminal that does not know it (0 columns) gets 80."""
    try:
        known = os.get_terminal_size(stream.fileno()).columns > 0
    except OSError:
        known = False
    return {"dynamic_ncols": True} if known else {"ncols": 80}
