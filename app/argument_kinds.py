"""What arguments of the command line are made of: commands, and kinds of values."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from typing import Any, NoReturn, TextIO

from app.exit_codes import BAD_INPUT, DONE
from app.terminal import one_line

__all__ = [
    "OneLineParser", "ShowVersion", "add_command", "device", "number",
    "port_number", "worker_count",
]  # fmt: skip


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the usage, in one line, and leave."""
        self.exit(BAD_INPUT, f"{self.prog}: {one_line(message)} (see {self.prog} --help)\n")


class ShowVersion(argparse.Action):
    """Print the version; looked up only when asked."""

    def __call__(self, parser: argparse.ArgumentParser, *_args: object) -> NoReturn:
        """Print and leave."""
        from importlib.metadata import version

        print(f"stem {version('stem-in-a-browser')}")
        parser.exit(DONE)


def add_command(
    choices: Any,
    name: str,
    run: Callable[[argparse.Namespace, TextIO], int],
    summary: str,
    *,
    serves: bool = False,
) -> argparse.ArgumentParser:
    """Add a command with its function."""
    parser: argparse.ArgumentParser = choices.add_parser(
        name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", allow_abbrev=False
    )
    parser.set_defaults(run=run, serves=serves)
    return parser


def number(text: str) -> float:
    """Return a finite number."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def device(text: str) -> str:
    """Return the name of a device, which need not be there."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", text):
        msg = f"there is no device '{text}'; choose auto, cpu, cuda or cuda:N"
        raise argparse.ArgumentTypeError(msg)
    return text


def port_number(text: str) -> int:
    """Return a port number."""
    value = int(text)
    if not 0 <= value <= 65535:
        msg = f"{value} is no port; choose one from 1 to 65535, or 0 for a free one"
        raise argparse.ArgumentTypeError(msg)
    return value


def worker_count(text: str) -> int:
    """Return a number of workers."""
    value = int(text)
    if not 1 <= value <= 64:
        msg = f"{value} workers cannot be; choose 1 to 64"
        raise argparse.ArgumentTypeError(msg)
    return value


number.__name__, port_number.__name__, worker_count.__name__ = (
    "number",
    "port number",
    "number",
)  # argparse: "invalid number value"
