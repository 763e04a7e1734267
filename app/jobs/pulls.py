"""Pulls of models that the pages start: each in a process of its own, so it outlives the page.

    <home>/pulls/<model>.json   how far it is; any page of any browser can show it
    <home>/pulls/<model>.stop   asks it to stop

The process is `python -m app.jobs.pulls NAME [--update]`.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from app import paths
from stem_core.errors import Cancelled, StemError
from stem_core.files import write_atomically
from stem_core.processes import child_environment, module_command

__all__ = ["PullStatus", "forget_pull", "read_pull", "start_pull", "stop_pull"]

_SILENT_AFTER_S = 15.0
_BEAT_S = 2.0  # a living pull writes at least this often
_WRITE_EVERY_S = 0.3
_RATE_OVER_S = 5.0


@dataclass(frozen=True)
class PullStatus:
    """How a pull is doing.

    Attributes
    ----------
    name
        Of the model.
    state
        `running`, `done`, `failed` or `stopped`.
    stage
        `starting`, or one of `zoo.pull.PullProgress`.
    done_bytes, total_bytes
        Of the download.
    bytes_per_s, left_s
        Rate over the last seconds and time left; None while not known.
    sentence
        What went wrong.
    written
        When this was written, seconds since 1970.
    """

    name: str
    state: Literal["running", "done", "failed", "stopped"] = "running"
    stage: str = "starting"
    done_bytes: int = 0
    total_bytes: int = 0
    bytes_per_s: float | None = None
    left_s: float | None = None
    sentence: str = ""
    written: float = 0.0


def start_pull(name: str, *, update: bool = False) -> PullStatus:
    """Start to pull a model of the registry, unless that is under way already.

    Raises
    ------
    UnknownModelError
        No list names the model.
    OutputError
        The home folder cannot be written.
    """
    from zoo.registry import find_offer

    find_offer(name)  # a name that a list knows is safe as the name of a file
    running = read_pull(name)
    if running is not None and running.state == "running":
        return running
    _stop_file(name).unlink(missing_ok=True)
    status = PullStatus(name)
    _write(status)
    subprocess.Popen(
        module_command("app.jobs.pulls", name, *(["--update"] if update else [])),
        env=child_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    return status


def read_pull(name: str) -> PullStatus | None:
    """Return how the last pull of a model is doing; None where there is nothing to tell."""
    try:
        status = PullStatus(**json.loads(_status_file(name).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    if status.state == "running" and time.time() - status.written > _SILENT_AFTER_S:
        sentence = "The download broke off. Pull again: what came is kept."
        return replace(status, state="failed", sentence=sentence)
    return status


def stop_pull(name: str) -> None:
    """Ask a pull to stop; what came is kept for the next time."""
    if _status_file(name).is_file():
        _stop_file(name).touch()


def forget_pull(name: str) -> None:
    """Forget how the last pull of a model went."""
    _status_file(name).unlink(missing_ok=True)


def _status_file(name: str) -> Path:
    return paths.pulls_dir() / f"{name}.json"


def _stop_file(name: str) -> Path:
    return paths.pulls_dir() / f"{name}.stop"


def _write(status: PullStatus) -> None:
    text = json.dumps(asdict(replace(status, written=time.time())), allow_nan=False)
    write_atomically(_status_file(status.name), text)


class _Reporter:
    """Writes a status now and then, with the rate over the last seconds."""

    def __init__(self, name: str) -> None:
        self.status = PullStatus(name)
        self._seen: deque[tuple[float, int]] = deque()
        self._last = 0.0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        threading.Thread(target=self._beat, daemon=True).start()

    def _beat(self) -> None:
        while not self._ended.wait(_BEAT_S):
            with self._lock:
                if not self._ended.is_set():
                    _write(self.status)

    def end(self, **changes: Any) -> None:
        """Write the last status."""
        with self._lock:
            self._ended.set()
            _write(replace(self.status, left_s=None, **changes))

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if stage == "download":
            self._seen.append((now, done))
            while now - self._seen[0][0] > _RATE_OVER_S:
                self._seen.popleft()
        changed = stage != self.status.stage
        if not changed and now - self._last < _WRITE_EVERY_S:
            return
        self._last = now
        rate = None
        if stage == "download" and now - self._seen[0][0] > 0.5:
            rate = (done - self._seen[0][1]) / (now - self._seen[0][0])
        status = replace(
            self.status,
            stage=stage,
            done_bytes=done if stage == "download" else self.status.done_bytes,
            total_bytes=total if stage == "download" else self.status.total_bytes,
            bytes_per_s=rate,
            left_s=(total - done) / rate if rate else None,
        )
        with self._lock:
            self.status = status
            _write(status)


def main(arguments: list[str]) -> None:
    """Pull a model and write down how far it is."""
    from app.faults import fault_sentence, record_fault, start_log
    from zoo.pull import pull
    from zoo.registry import find_offer

    start_log()
    name, update = arguments[0], "--update" in arguments[1:]
    report = _Reporter(name)
    stop = _stop_file(name)
    try:
        offer = find_offer(name)
        if offer.entry.hub is not None:
            pull(
                offer.entry,
                update=update,
                progress=lambda p: report(p.stage, p.done_bytes, p.total_bytes),
                should_stop=stop.exists,
            )
        report.end(state="done")
    except Cancelled:
        report.end(state="stopped")
    except StemError as error:
        report.end(state="failed", sentence=str(error))
    except Exception as error:  # noqa: BLE001 - the page gets a sentence, the log the rest
        reference = record_fault(error, f"pulling {name}")
        report.end(state="failed", sentence=fault_sentence(reference))
    finally:
        with contextlib.suppress(OSError):
            stop.unlink(missing_ok=True)


if __name__ == "__main__":
    main(sys.argv[1:])
