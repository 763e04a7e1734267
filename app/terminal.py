"""How the command line speaks: one line for an error, a progress bar only where someone watches.

Libraries below us (image codecs above all) print warnings of their own to standard error, some of
them from C. `quiet_stderr` sends all that to the log, so that a failed command prints exactly one
line: ours.

Exit codes: `DONE` 0, `FAULT` 1 (a fault of ours), `BAD_INPUT` 2 (bad input or usage),
`INTERRUPTED` 130.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, TextIO

from cyclopts import ArgumentCollection, Group, Parameter

from stem_core.errors import StemError

if TYPE_CHECKING:
    from tqdm import tqdm

    from stem_core.prediction.predictor import Progress

__all__ = [
    "BAD_INPUT",
    "CTRL_C",
    "DONE",
    "FAULT",
    "INTERRUPTED",
    "OUR_LOGGERS",
    "Notes",
    "ProgressBar",
    "Terminal",
    "TerminalOptions",
    "at_most_one",
    "one_line",
    "quiet_stderr",
]  # fmt: skip

DONE, FAULT, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

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


def at_most_one(arguments: ArgumentCollection) -> None:
    """Refuse two options of a group; a validator for `cyclopts.Group`.

    Raises
    ------
    ValueError
        More than one was given.
    """
    given = [argument.name for argument in arguments.filter_by(value_set=True)]
    if len(given) > 1:
        msg = f"Use {' or '.join(given)}, not both."
        raise ValueError(msg)


_MESSAGES = Group("Messages", sort_key=90)
_ONE_VERBOSITY = Group(validator=at_most_one)


@dataclass(frozen=True)
class Terminal:
    """Where a command reports to, and how much; every command has one.

    Attributes
    ----------
    quiet
        Print errors only: no progress, no result sentences, no warnings.
    verbose
        Also print what the program does, and what libraries print, on standard error.
    stream
        Standard error. What libraries write to file descriptor 2 does not get there
        (see `quiet_stderr`).
    arguments
        Command line after `stem`.
    """

    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], group=(_MESSAGES, _ONE_VERBOSITY))] = (
        False
    )
    verbose: Annotated[
        bool, Parameter(name=["--verbose", "-v"], group=(_MESSAGES, _ONE_VERBOSITY))
    ] = False
    stream: Annotated[TextIO, Parameter(parse=False)] = field(default_factory=lambda: sys.stderr)
    arguments: Annotated[tuple[str, ...], Parameter(parse=False)] = ()

    def say(self, text: str) -> None:
        """Print a sentence about the result on standard output, unless quiet."""
        if not self.quiet:
            print(text, flush=True)

    def report(self, text: str) -> None:
        """Print what is being done on standard error, unless quiet."""
        if not self.quiet:
            print(text, file=self.stream, flush=True)

    def warn(self, text: str) -> None:
        """Warn, as a logger of ours does (see `Notes`)."""
        logging.getLogger("app.terminal").warning("%s", text)

    def fail(self, text: object) -> None:
        """Print an error, one line, on standard error."""
        print(f"stem: {one_line(text)}", file=self.stream, flush=True)

    @property
    def watched(self) -> bool:
        """Whether a person watches standard error and wants to see progress."""
        return self.stream.isatty() and not self.quiet


TerminalOptions = Annotated[Terminal, Parameter(name="*")]


class Notes(logging.Handler):
    """Warnings of our own packages, held back until the command has ended well.

    A terminal shows them at once; elsewhere they follow the work, so that an error stays the only
    line on standard error. A quiet terminal shows none; a verbose one shows them, and messages of
    level INFO, at once.

    Parameters
    ----------
    terminal
        Terminal that shows the warnings.
    """

    def __init__(self, terminal: Terminal) -> None:
        super().__init__(logging.INFO if terminal.verbose else logging.WARNING)
        self.terminal = terminal
        self.at_once = terminal.verbose or terminal.stream.isatty()
        self.held: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Show or hold one message; the same warning is shown once."""
        line = one_line(record.getMessage())
        if record.levelno < logging.WARNING:
            self._show(line)
            return
        line = f"Warning: {line}"
        if line in self.held:
            return
        self.held.append(line)
        if self.at_once:
            self._show(line)

    def tell(self) -> None:
        """Show what was held back."""
        if not self.at_once:
            for line in self.held:
                self._show(line)

    def _show(self, line: str) -> None:
        if not self.terminal.quiet:
            print(line, file=self.terminal.stream, flush=True)

    @contextlib.contextmanager
    def listening(self) -> Iterator[Notes]:
        """Listen to our own loggers, and to nobody else's."""
        loggers = [logging.getLogger(name) for name in OUR_LOGGERS]
        levels = [logger.level for logger in loggers]
        for logger in loggers:
            logger.addHandler(self)
            if self.terminal.verbose:
                logger.setLevel(logging.INFO)
        try:
            yield self
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.removeHandler(self)
                logger.setLevel(level)


class ProgressBar:
    """Progress with the time left, for a person at a terminal; silent elsewhere.

    Parameters
    ----------
    terminal
        Terminal that shows the bar.
    """

    def __init__(self, terminal: Terminal) -> None:
        self.watched = terminal.watched
        self.stream = terminal.stream
        self.stage = ""
        self.bar: tqdm[Any] | None = None

    def __call__(self, progress: Progress) -> None:
        """Show the state of the work."""
        if not self.watched:
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
