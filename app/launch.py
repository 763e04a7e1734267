"""`stem app`: the web server and its worker, from one command."""

from __future__ import annotations

import errno
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from app import paths, uploads
from app.faults import LOG, record_fault, start_log
from app.jobs.worker import NUMBER_VARIABLE, PARENT_VARIABLE
from stem_core.errors import SettingsError, StemError
from stem_core.processes import child_environment, module_command

__all__ = ["DEFAULT_HOST", "DEFAULT_PORT", "Supervisor", "serve"]

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8501
_INTERRUPTED = 130
_LAST_WORDS_S = 3
_LARGEST_MESSAGE_MB = 200
_LARGEST_FORM_UPLOAD_MB = 2000


def serve(port: int = DEFAULT_PORT, host: str = DEFAULT_HOST, workers: int = 1) -> None:
    """Serve the pages and keep workers running until SIGTERM (exit code 0) or SIGINT (130).

    Prints one line with the address on standard output once the pages answer.

    Parameters
    ----------
    port
        TCP port; 0 takes a free one.
    host
        Address to listen on. The default is reached from this machine only; with any other
        address, everyone who can reach it sees all runs.
    workers
        Worker processes; each of several gets one of the GPUs, in turn.

    Raises
    ------
    SettingsError
        The port is taken or the address cannot be listened on.
    OutputError
        The home folder cannot be written.
    """
    start_log()
    paths.database_file()
    listening = _listen(host, port)
    stopped_by = signal.signal(signal.SIGTERM, _quit)
    try:
        address = f"http://{_shown(host)}:{listening.getsockname()[1]}"
        _draw_sample()
        server = _server(host, listening.getsockname()[1], address)
        with ExitStack() as supervised:
            for number in range(workers):
                supervised.enter_context(Supervisor(number, workers))
            server.run(sockets=[listening])
    except KeyboardInterrupt:
        raise SystemExit(_INTERRUPTED) from None
    finally:
        signal.signal(signal.SIGTERM, stopped_by)
        listening.close()
    if not server.started:
        msg = f"The server did not start; the log {paths.log_file()} says why."
        raise SettingsError(msg)


def _server(host: str, port: int, address: str) -> Any:
    """Set Streamlit's options, then load it; return a uvicorn server that says when it is ready."""
    os.environ["STREAMLIT_BROWSER_GATHER_USAGE_STATS"] = "false"
    from streamlit import config

    from app.hosts import public_names

    names = public_names()
    options: dict[str, object] = {
        "browser.gatherUsageStats": False,
        # Without a name, Streamlit asks a public service what this machine's address is.
        "browser.serverAddress": names[0] if names else "localhost",
        "client.showErrorDetails": "none",
        "client.toolbarMode": "minimal",
        "server.address": host,
        "server.fileWatcherType": "none",
        "server.headless": True,
        "server.maxMessageSize": _LARGEST_MESSAGE_MB,
        "server.maxUploadSize": _LARGEST_FORM_UPLOAD_MB,
        "server.port": port,
    }
    theme = str(Path(__file__).with_name("theme.toml"))  # an option of its own: it is read at once
    config.get_config_options(force_reparse=True, options_from_flags={"theme.base": theme})
    for name, value in options.items():
        config.set_option(name, value)
    import uvicorn

    from app.server import app

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                # Streamlit looks through all objects for garbage after each run of a page, and
                # nothing is answered meanwhile; what was loaded by now never becomes garbage.
                gc.collect()
                gc.freeze()
                print(f"Stem in a browser is ready at {address} (Ctrl-C stops it)", flush=True)

    return Server(
        uvicorn.Config(
            app,
            access_log=False,
            log_level="warning",
            timeout_graceful_shutdown=_LAST_WORDS_S,
            ws="websockets-sansio",
            ws_max_size=_LARGEST_MESSAGE_MB * 1_000_000,
        )
    )


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        msg = f"The port must be between 0 and 65535, not {port}; choose another with --port."
        raise SettingsError(msg)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        msg = f"The address {host!r} is not known on this machine; use 127.0.0.1 or 0.0.0.0."
        raise SettingsError(msg) from error
    family, kind, protocol, _, place = found[0]
    listening = socket.socket(family, kind, protocol)
    try:
        if os.name != "nt":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(place)
        listening.listen(128)
        listening.set_inheritable(False)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            msg = (
                f"Port {port} on {host} is taken by another program (perhaps the app already "
                "runs); choose another with --port."
            )
        elif error.errno == errno.EACCES:
            msg = f"Port {port} needs administrator rights; choose one above 1023 with --port."
        else:
            msg = (
                f"The app cannot listen on {host}, port {port} ({error.strerror}); choose another "
                "address."
            )
        raise SettingsError(msg) from error
    return listening


def _draw_sample() -> None:
    """Have the sample slide ready; the app also runs without it."""
    try:
        uploads.register_sample()
    except StemError as error:
        print(error, file=sys.stderr)
    except Exception as error:  # noqa: BLE001 - logged under a reference number
        record_fault(error, "drawing the sample slide")


def _shown(host: str) -> str:
    if host in ("", "0.0.0.0", "::"):
        return "localhost"
    return f"[{host}]" if ":" in host else host


def _quit(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_HEALTHY_AFTER_S = 60.0
_STOP_WAIT_S = 5.0


class Supervisor:
    """Starts the worker, starts it again when it dies, and stops it; a context manager.

    The pause before a new start doubles with every quick death (0.5 s to 30 s), and is short again
    once a worker lived for a minute.

    Parameters
    ----------
    number
        Of the worker, from 0.
    of
        How many workers there are; each of several gets one of the GPUs, in turn.
    """

    def __init__(self, number: int = 0, of: int = 1) -> None:
        self._environment = {NUMBER_VARIABLE: str(number)}
        if of > 1:
            visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
            gpus = visible.split(",") if visible else [str(n) for n in range(of)]
            self._environment["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._watch, name="worker-supervisor", daemon=True)

    def __enter__(self) -> Supervisor:
        """Start the worker."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the worker; one that does not stop within five seconds is killed."""
        self._stopping.set()
        with self._lock:
            process = self._process
        if process is not None:
            process.terminate()
            try:
                process.wait(_STOP_WAIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._thread.join(_STOP_WAIT_S)

    def _watch(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            with self._lock:
                if self._stopping.is_set():
                    return
                process = self._process = _start_worker(self._environment)
            started_s = time.monotonic()
            code = process.wait()
            if self._stopping.is_set():
                return
            if time.monotonic() - started_s > _HEALTHY_AFTER_S:
                pause_s = _FIRST_PAUSE_S
            LOG.warning("worker ended with code %d; a new one starts in %.1f s", code, pause_s)
            if self._stopping.wait(pause_s):
                return
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _start_worker(environment: dict[str, str]) -> subprocess.Popen[bytes]:
    with paths.log_file().open("ab") as log:
        return subprocess.Popen(
            module_command("app.jobs.worker"),
            env=child_environment(**environment, **{PARENT_VARIABLE: str(os.getpid())}),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for the app, which then stops the worker
        )
