"""Train in several processes of this machine, and end them all with one sentence when one ends.

`torchrun` does the same over several machines, but has much to say when a process dies.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from typing import IO, TextIO

from app.terminal import BAD_INPUT, DONE, FAULT, INTERRUPTED
from stem_core.errors import TrainingError
from stem_core.processes import child_environment, module_command

__all__ = ["train_together"]

_POLL_S, _GRACE_S, _WORDS_S = 0.2, 20.0, 3.0
_RESUME = "go on from the last checkpoint with the same command and --resume."


def train_together(arguments: Sequence[str], processes: int, stream: TextIO) -> int:
    """Start the same command in several processes and wait for them.

    Parameters
    ----------
    arguments
        After `stem`.
    processes
        How many.
    stream
        Takes what the process that failed first had to say.

    Raises
    ------
    TrainingError
        One of them was killed.
    """
    command = module_command("app.cli", *_without_processes(arguments))
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    shared = child_environment(
        WORLD_SIZE=str(processes),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(_free_port()),
        OMP_NUM_THREADS=threads,
    )
    said: list[IO[str]] = []
    running: list[subprocess.Popen[bytes]] = []
    try:
        for rank in range(processes):
            said.append(tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace"))
            running.append(
                subprocess.Popen(
                    command,
                    env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                    stderr=said[-1],
                )
            )
        while all(p.poll() is None for p in running):
            time.sleep(_POLL_S)
        while any(p.poll() is None for p in running) and not any(p.poll() for p in running):
            time.sleep(_POLL_S)
        if any(p.poll() in (BAD_INPUT, FAULT) for p in running):
            _wait(running, _WORDS_S)  # one process reports a fault that all see, maybe not yet
        ended = [i for i, p in enumerate(running) if p.returncode]
    except KeyboardInterrupt:
        _end(running)
        print("stem: Interrupted; go on with the same command and --resume.", file=stream)
        return INTERRUPTED
    finally:
        _end(running)
    words = []
    for file in said:
        file.seek(0)
        words.append(file.read())
        file.close()
    if not ended:
        stream.write(words[0])
        return DONE
    speakers = [
        i for i in ended if running[i].returncode in (BAD_INPUT, FAULT) and words[i].strip()
    ]
    killed = [i for i in ended if running[i].returncode < 0]
    if speakers and not killed:
        stream.write(words[speakers[0]].strip().splitlines()[-1] + "\n")
        return int(running[speakers[0]].returncode)
    failed = (killed or ended)[0]
    code = running[failed].returncode
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    msg = f"Process {failed + 1} of the {processes} that trained together was {how}; {_RESUME}"
    raise TrainingError(msg)


def _wait(running: Sequence[subprocess.Popen[bytes]], seconds: float) -> None:
    """Give processes a while to end by themselves."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and any(p.poll() is None for p in running):
        time.sleep(_POLL_S)


def _end(running: Sequence[subprocess.Popen[bytes]]) -> None:
    """End what still runs: asked first, killed when it does not."""
    for process in running:
        if process.poll() is None:
            process.terminate()
    until = time.monotonic() + _GRACE_S
    for process in running:
        try:
            process.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _without_processes(arguments: Sequence[str]) -> list[str]:
    """Leave out the option that started this."""
    kept, skip = [], False
    for argument in arguments:
        if skip:
            skip = False
        elif argument == "--processes":
            skip = True
        elif not argument.startswith("--processes="):
            kept.append(argument)
    return kept


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
