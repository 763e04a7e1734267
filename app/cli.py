"""The command line: `stem predict | map | export | evaluate | train | zoo | app | worker | doctor`.

Exit codes: 0 done; 2 bad input or usage, with exactly one line on standard error; 130 interrupted;
1 a fault of ours, with one line that names the log. Heavy imports wait until a command needs them.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn, TextIO

from app.arguments import build_parser
from app.exit_codes import BAD_INPUT, DONE, FAULT, INTERRUPTED
from app.terminal import CTRL_C, one_line, quiet_stderr
from stem_core.errors import Cancelled, StemError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv
        The arguments after `stem`; those of the process by default.

    Returns
    -------
    int
        The exit code.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(arguments)
    args.arguments = arguments
    if threading.current_thread() is threading.main_thread():
        # A shell starts background commands with Ctrl-C ignored; being asked to stop still counts.
        CTRL_C.clear()
        signal.signal(signal.SIGINT, _interrupt)
    if args.serves:  # the servers' own messages belong on the terminal
        return _finish(args, sys.stderr)
    with quiet_stderr() as stream:
        return _finish(args, stream)


def _finish(args: argparse.Namespace, stream: TextIO) -> int:
    """Run the chosen command and turn what it raises into one line and an exit code."""
    try:
        code: int = args.run(args, stream)
        sys.stdout.flush()
        return code
    except (KeyboardInterrupt, Cancelled):
        return _say_interrupted(stream)
    except StemError as error:
        print(f"stem: {one_line(error)}", file=stream)
        return BAD_INPUT
    except BrokenPipeError:
        # The reader of our output went away, as `head` does: nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:  # noqa: BLE001 - the last line of defence: log it, say one line
        if CTRL_C.is_set():  # an import that Ctrl-C broke off fails with another error
            return _say_interrupted(stream)
        from app.faults import fault_sentence, record_fault

        reference = record_fault(error, f"stem {args.command}")
        print(f"stem: {one_line(fault_sentence(reference))}", file=stream)
        return FAULT


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Stop at Ctrl-C, and remember it: code in C may swallow the exception."""
    CTRL_C.set()
    raise KeyboardInterrupt


def _say_interrupted(stream: TextIO) -> int:
    print("stem: Interrupted; nothing was written.", file=stream)
    return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
