"""The command line `stem`: its commands, and how each of them ends.

Exit codes: 0 done; 2 bad input or usage, with exactly one line on standard error; 130 interrupted;
1 a fault of ours, with one line that names the log. The modules of the commands are imported when
their command is called.
"""

from __future__ import annotations

import inspect
import os
import signal
import sys
import textwrap
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from cyclopts import (
    App,
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    Parameter,
    UnusedCliTokensError,
    ValidationError,
)

from app.terminal import (
    BAD_INPUT,
    CTRL_C,
    DONE,
    FAULT,
    INTERRUPTED,
    Notes,
    Terminal,
    one_line,
    quiet_stderr,
)
from stem_core.errors import Cancelled, StemError

if TYPE_CHECKING:
    from cyclopts.help import HelpEntry, HelpPanel
    from rich.console import Console, ConsoleOptions

__all__ = ["HelpText", "app", "main"]

_WIDEST, _LEFT = 100, 26


class HelpText:
    """Formatter of help pages: options on the left, their meaning on the right.

    It follows `cyclopts.help.protocols.HelpFormatter`. The formatters of cyclopts draw boxes, or
    break lines that are broken already.
    """

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        """Print one group of commands or options."""
        if not panel.entries:
            return
        lines = [f"{panel.title}:"]
        for entry in panel.entries:
            lines += _entry_lines(_labels(entry), _meaning(entry, console), _width(console))
        _print(console, lines)

    def render_usage(self, console: Console, options: ConsoleOptions, usage: Any) -> None:
        """Print the usage line."""
        if usage:
            line = " ".join(_rendered(usage, console).split())
            _print(console, [line if line.startswith("Usage:") else f"Usage: {line}"])

    def render_description(
        self, console: Console, options: ConsoleOptions, description: Any
    ) -> None:
        """Print what a command does."""
        if not description:
            return
        for paragraph in _rendered(description, console).split("\n\n"):
            if text := " ".join(paragraph.split()):
                _print(console, textwrap.wrap(text, _width(console), break_on_hyphens=False))


def _labels(entry: HelpEntry) -> str:
    """Return names and value of an entry, such as `--out, -o PATH` or `--layout visium|st`."""
    names = ", ".join(entry.display_labels)
    value = "|".join(entry.choices) if entry.choices else entry.metavar or ""
    if entry.positional_label:
        return names + ("..." if value.endswith("...") else "")
    return f"{names} {value}".rstrip()


def _meaning(entry: HelpEntry, console: Console) -> str:
    text = " ".join(_rendered(entry.description, console).split())
    return f"{text} (required)" if entry.required else text


def _entry_lines(labels: str, meaning: str, width: int) -> list[str]:
    left = f"  {labels}"
    right = textwrap.wrap(meaning, max(20, width - _LEFT), break_on_hyphens=False)
    indent = " " * _LEFT
    if right and len(left) <= _LEFT - 2:
        left = left.ljust(_LEFT) + right.pop(0)
    return [left, *(indent + line for line in right)]


def _rendered(text: Any, console: Console) -> str:
    """Return a text of cyclopts, its lines not broken again."""
    with console.capture() as capture:
        console.print(text, highlight=False, soft_wrap=True)
    return capture.get().strip()


def _width(console: Console) -> int:
    return min(console.width, _WIDEST)


def _print(console: Console, lines: Sequence[str]) -> None:
    print(*lines, sep="\n", end="\n\n", file=console.file)


# Their own messages, and those of their libraries, belong on the terminal.
_SERVERS = ("app", "worker")


def _version() -> str:
    from importlib.metadata import version

    return f"stem {version('stem-in-a-browser')}"


def _group(name: str, summary: str, commands: dict[str, tuple[str, str]], **options: Any) -> App:
    """Make an app of commands: name -> where its function is, and what it does."""
    group = App(
        name=name, help=summary, version=_version, version_format="plaintext",
        help_format="plaintext", help_formatter=HelpText(),
        default_parameter=Parameter(negative=(), show_default=False, allow_repeating=True),
        **options,
    )  # fmt: skip
    for place, (command, (function, does)) in enumerate(commands.items()):
        group.command(f"app.commands.{function}", name=command, help=does, sort_key=10 * place)
    return group


app = _group(
    "stem",
    "Predict spatial gene expression from H&E images. For research use only.\n\n"
    "stem COMMAND --help lists the options of a command.",
    {
        "predict": ("predict:predict", "Predict expression for one or several slides."),
        "map": ("results:draw_map", "Draw maps of a result as a picture or a web page."),
        "export": ("results:export", "Write a result for another program."),
        "evaluate": ("evaluation:evaluate", "Compare a prediction with measurements."),
        "train": ("training:train", "Train a model from its recipe."),
        "app": ("machine:serve_pages", "Start the web pages."),
        "worker": ("machine:work", "Run queued predictions."),
        "doctor": ("machine:doctor", "Show versions, device, folders and models."),
        "--install-completion": (
            "machine:install_completion",
            "Complete commands and options in this shell.",
        ),
    },
)
app.command(
    _group(
        "zoo",
        "List, fetch, check and publish models.",
        {
            "list": ("models:list_models", "List the models with their held-out metrics."),
            "info": ("models:info", "Show everything known about a model."),
            "pull": ("models:pull", "Fetch a model from the Hugging Face Hub."),
            "pull-encoder": ("models:pull_encoder", "Fetch the weights of an encoder."),
            "verify": ("models:verify", "Compare a model's files with what was recorded."),
            "remove": ("models:remove", "Remove a model that was pulled."),
            "push": ("models:push", "Publish a model folder on the Hub."),
            "convert": ("conversion:convert", "Turn a published checkpoint into a model folder."),
        },
        sort_key=44,
    )
)
app.command(
    _group(
        "sections",
        "Check and fetch measured sections for training.",
        {
            "check": ("training:check_sections", "Check measured sections before training."),
            "download": ("training:download_sections", "Fetch sections of HEST-1k from the Hub."),
        },
        sort_key=42,
    )
)
app.command(
    _group(
        "benchmark",
        "Measure the speed of this machine.",
        {"sampler": ("machine:benchmark_sampler", "Time the presets and published sampling.")},
        sort_key=75,
    )
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv
        Arguments after `stem`; those of the process by default.

    Returns
    -------
    int
        Exit code.
    """
    arguments = tuple(sys.argv[1:] if argv is None else argv)
    if arguments == ("--version",):  # twice as fast as by cyclopts, which imports rich for it
        print(_version())
        return DONE
    if threading.current_thread() is threading.main_thread():
        # A shell starts background commands with Ctrl-C ignored; being asked to stop still counts.
        CTRL_C.clear()
        signal.signal(signal.SIGINT, _interrupt)
    try:
        command, bound, _ = app.parse_args(
            list(arguments), print_error=False, exit_on_error=False, verbose=False
        )
    except CycloptsError as error:
        print(f"stem: {_usage_sentence(error)}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        return _say_interrupted(Terminal())
    except Exception as error:  # noqa: BLE001 - a module of a command cannot be imported
        return _say_fault(error, Terminal(arguments=arguments))
    if "terminal" not in inspect.signature(command).parameters:  # help, version, completion
        return _finish(command, bound, Terminal())
    asked: Terminal = bound.arguments.get("terminal", Terminal())
    asked = replace(asked, arguments=arguments)
    serves = arguments[:1] in {(name,) for name in _SERVERS}
    if serves or asked.verbose:
        return _run(command, bound, replace(asked, stream=sys.stderr), listen=not serves)
    with quiet_stderr() as stream:
        return _run(command, bound, replace(asked, stream=stream), listen=True)


def _run(
    command: Callable[..., Any], bound: inspect.BoundArguments, terminal: Terminal, *, listen: bool
) -> int:
    """Run a command of ours; its warnings follow when it ended well."""
    bound.arguments["terminal"] = terminal
    if not listen:
        return _finish(command, bound, terminal)
    with Notes(terminal).listening() as notes:
        code = _finish(command, bound, terminal)
    if code == DONE:
        notes.tell()
    return code


def _finish(command: Callable[..., Any], bound: inspect.BoundArguments, terminal: Terminal) -> int:
    """Call a command and turn what it raises into one line and an exit code."""
    try:
        code = command(*bound.args, **bound.kwargs)
        sys.stdout.flush()
        return DONE if code is None else int(code)
    except (KeyboardInterrupt, Cancelled):
        return _say_interrupted(terminal)
    except SystemExit as stop:  # of a server
        return stop.code if isinstance(stop.code, int) else DONE
    except StemError as error:
        terminal.fail(error)
        return BAD_INPUT
    except BrokenPipeError:
        # The reader of our output went away, as `head` does: nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:  # noqa: BLE001 - the last line of defence: log it, say one line
        return _say_fault(error, terminal)


def _say_fault(error: Exception, terminal: Terminal) -> int:
    """Log a fault of ours and name the log in one line."""
    if CTRL_C.is_set():  # an import that Ctrl-C broke off fails with another error
        return _say_interrupted(terminal)
    from app.faults import fault_sentence, record_fault

    reference = record_fault(error, f"stem {' '.join(terminal.arguments[:1])}")
    terminal.fail(fault_sentence(reference))
    return FAULT


def _usage_sentence(error: CycloptsError) -> str:
    """Say what is wrong with a command line, in one line."""
    given = error.argument
    name = "" if given is None else given.name if given.name[:1] == "-" else given.name.upper()
    if isinstance(error, MissingArgumentError) and type(error) is MissingArgumentError:
        says = f"{error.keyword} needs a value." if error.keyword else f"{name} is missing."
    elif isinstance(error, UnusedCliTokensError):
        says = f'"{(error.unused_tokens or [""])[0]}" is one argument too many.'
    elif isinstance(error, CoercionError) and error.token and error.target_type in (int, float):
        says = f'{name} must be a number, not "{error.token.value}".'
    elif isinstance(error, ValidationError) and given is None:
        says = error.exception_message
    else:
        says = str(error)
    path = " ".join(["stem", *(error.command_chain or ())])
    return one_line(f"{says} (see {path} --help)")


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Stop at Ctrl-C, and remember it: code in C may swallow the exception."""
    CTRL_C.set()
    raise KeyboardInterrupt


def _say_interrupted(terminal: Terminal) -> int:
    terminal.fail("Interrupted; nothing was written.")
    return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
