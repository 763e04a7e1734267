"""`stem app | worker | doctor | benchmark sampler`, and completion in the shell."""

from __future__ import annotations

import json
from typing import Annotated, Literal

from cyclopts import Parameter

from app.commands.options import Device, Json, OptionalOut, WorkerCount
from app.commands.outputs import require_folder, write_text
from app.extras import require_packages
from app.terminal import BAD_INPUT, DONE, Terminal, TerminalOptions, one_line
from stem_core.errors import SettingsError

__all__ = ["benchmark_sampler", "doctor", "install_completion", "serve_pages", "work"]

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def _port(_type: object, value: int) -> None:
    if not 0 <= value <= 65535:
        msg = f"{value} is not a port; choose one from 1 to 65535, or 0 for a free one."
        raise ValueError(msg)


def serve_pages(
    *,
    port: Annotated[int, Parameter(validator=_port)] = 8501,
    host: str = "127.0.0.1",
    workers: WorkerCount = 1,
    terminal: TerminalOptions = Terminal(),
) -> int:
    """Serve the web pages until stopped.

    Parameters
    ----------
    port
        TCP port (default 8501); 0 takes a free one.
    host
        Address to listen on (default: this machine only).
    workers
        Number of worker processes, one per GPU (default 1).
    """
    require_packages("The app", "app")
    from app.launch import serve

    if host not in LOOPBACK:
        terminal.report(
            f"Warning: The app will answer on {host}, where others may reach it; it has no "
            "login of its own."
        )
    serve(port, host, workers)
    return DONE


def work(*, terminal: TerminalOptions = Terminal()) -> int:
    """Run queued predictions until stopped; `stem app` starts a worker by itself."""
    require_packages("The worker", "app", without=("streamlit", "starlette", "uvicorn", "plotly"))
    from app.jobs.worker import run_worker

    run_worker()
    return DONE


def doctor(
    *, as_json: Json = False, gated: bool = False, terminal: TerminalOptions = Terminal()
) -> int:
    """Show versions, device, folders and models, and what is wrong with them.

    Parameters
    ----------
    as_json
        Print JSON.
    gated
        Also ask the Hub which encoders are open to you; nothing is downloaded.
    """
    from app.doctor import examine, report

    findings = examine(gated=gated)
    if as_json:
        print(json.dumps(findings, indent=2, allow_nan=False))
    else:
        terminal.say(report(findings))
    problems = findings["problems"]
    if problems:
        terminal.fail(f"{len(problems)} found: {one_line('; '.join(problems))}")
        return BAD_INPUT
    return DONE


def benchmark_sampler(
    *,
    models: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    device: Device = "auto",
    out: OptionalOut = None,
    as_json: Json = False,
    terminal: TerminalOptions = Terminal(),
) -> int:
    """Time the presets and the published sampling on this machine.

    Parameters
    ----------
    models
        Names of models (default: all that are installed, and published-size).
    device
        Device: auto, cpu, cuda or cuda:N (default auto).
    out
        JSON file to write.
    as_json
        Print JSON instead of the table.
    """
    from app.benchmark import benchmark_sampler as measure
    from app.benchmark import sampler_table

    if out is not None:
        require_folder(out)
    found = measure(device, models or (), lambda what: terminal.report(f"Timing {what} …"))
    text = json.dumps(found, indent=2, allow_nan=False) + "\n"
    if out is not None:
        write_text(out, text)
    if as_json:
        print(text, end="")
    else:
        terminal.say(sampler_table(found))
    return DONE


def install_completion(
    *,
    shell: Literal["bash", "zsh", "fish", "powershell"] | None = None,
    out: OptionalOut = None,
    terminal: TerminalOptions = Terminal(),
) -> int:
    """Install completion of commands and options in a shell.

    Parameters
    ----------
    shell
        Shell (default: the one that runs this command).
    out
        File to write the completion script to; your shell's start file then stays unchanged.
    """
    from cyclopts.completion import ShellDetectionError

    from app.cli import app

    try:
        path = app.install_completion(shell=shell, output=out, add_to_startup=out is None)
    except ShellDetectionError as error:
        msg = "The shell was not recognised. Name it with --shell."
        raise SettingsError(msg) from error
    except OSError as error:
        msg = f"The completion script cannot be written ({error}); name a file with --out."
        raise SettingsError(msg) from error
    terminal.say(f"Installed completion: {path}\nStart a new shell to use it.")
    return DONE
