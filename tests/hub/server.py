"""`LoopbackHub`: the Hub's protocol over HTTP on 127.0.0.1, with faults on demand.

By hand, for an app started with HF_ENDPOINT set to the address it prints (and HF_HUB_DISABLE_XET=1
if it is to push, for there is no Xet here)::

    python -m tests.hub.server --port 8600 --seed-folder owner/name=path/to/folder
"""

from __future__ import annotations

import argparse
import socket
import socketserver
import struct
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Literal, NamedTuple, Self

from tests.hub.faults import Fault, Faults
from tests.hub.protocol import READ_TOKEN, USER, WRITE_TOKEN, Answer, Call, Hub, failure
from tests.hub.repository import File, Repository, is_lfs


class Request(NamedTuple):
    """One request as it was answered; `status` is 0 where the connection was dropped instead."""

    method: str
    path: str
    status: int
    range: str | None
    authorized: bool
    side: Literal["hub", "cdn"]


class LoopbackHub:
    """A Hub of its own on two free ports: the Hub, and the storage of large files.

    Use it as a context manager; the ports are open inside of it. All methods may be called from any
    thread. Errors of the server itself, which tests must not overlook, are raised at the end.
    """

    user = USER
    token = WRITE_TOKEN
    read_token = READ_TOKEN

    def __init__(self, port: int = 0) -> None:
        self._port = port
        self._hub = Hub()
        self._faults = Faults()
        self._lock = threading.RLock()
        self._requests: list[Request] = []
        self._servers: list[_Server] = []
        self._closing = threading.Event()
        self.errors: list[BaseException] = []

    def __enter__(self) -> Self:
        self._servers = [_Server(self, "hub", self._port), _Server(self, "cdn", 0)]
        self._hub.endpoint, self._hub.cdn_endpoint = (server.address for server in self._servers)
        for server in self._servers:
            server.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.close()
        if self.errors and error is None:
            message = "the loopback Hub itself failed"
            raise ExceptionGroup(message, [e for e in self.errors if isinstance(e, Exception)])

    def close(self) -> None:
        """Close both ports and every connection; what is under way breaks off."""
        self._closing.set()
        for server in self._servers:
            server.stop()
        self._servers.clear()

    @property
    def endpoint(self) -> str:
        """What goes into HF_ENDPOINT."""
        return self._hub.endpoint

    @property
    def cdn_endpoint(self) -> str:
        """Where LFS files are redirected to: another origin, as on the real Hub."""
        return self._hub.cdn_endpoint

    @property
    def requests(self) -> list[Request]:
        """Every request so far, in the order they were answered."""
        with self._lock:
            return list(self._requests)

    def clear(self) -> None:
        """Forget the requests so far; faults stay."""
        with self._lock:
            self._requests.clear()

    # Repositories

    def add_repo(
        self,
        repo_id: str,
        repo_type: str = "model",
        *,
        private: bool = False,
        gated: bool | Literal["auto", "manual"] = False,
        gitattributes: bool = True,
    ) -> str:
        """Make a repository and return the id of its first commit.

        As on the real Hub that commit holds `.gitattributes`, so every later one does too; it is
        empty without `gitattributes`. The valid token sees private repositories; for one that it
        may not see use a name that does not exist, which the Hub answers alike.
        """
        with self._lock:
            return self._hub.add(
                repo_id, repo_type, private=private, gated=gated, attributes=gitattributes
            ).head

    def remove_repo(self, repo_id: str, repo_type: str = "model") -> None:
        """Delete a repository with all its commits."""
        with self._lock:
            del self._hub.repositories[repo_type, repo_id]

    def commit(
        self,
        repo_id: str,
        files: Mapping[str, bytes],
        delete: Sequence[str] = (),
        message: str = "",
        repo_type: str = "model",
    ) -> str:
        """Move `main` on and return the new commit's id, 40 hexadecimal digits."""
        with self._lock:
            changes = {
                path: File.of(data, lfs=is_lfs(path, len(data))) for path, data in files.items()
            }
            return self._hub.commit(self._repo(repo_id, repo_type), changes, delete, message).sha

    def forget_commit(self, repo_id: str, sha: str, repo_type: str = "model") -> None:
        """Let a revision vanish; `main` falls back to the one before if it was the newest."""
        with self._lock:
            self._repo(repo_id, repo_type).forget(sha)

    def grant(self, repo_id: str, repo_type: str = "model") -> None:
        """Let the valid tokens into a gated repository."""
        with self._lock:
            self._repo(repo_id, repo_type).granted = True

    def head(self, repo_id: str, repo_type: str = "model") -> str:
        """The commit that `main` is at."""
        with self._lock:
            return self._repo(repo_id, repo_type).head

    def files(
        self, repo_id: str, revision: str = "main", repo_type: str = "model"
    ) -> dict[str, bytes]:
        """What a revision holds, for looking at what was pushed."""
        with self._lock:
            commit = self._repo(repo_id, repo_type).at(revision)
            if commit is None:
                message = f"{repo_id} has no revision {revision}"
                raise KeyError(message)
            return {path: file.data for path, file in sorted(commit.files.items())}

    def _repo(self, repo_id: str, repo_type: str) -> Repository:
        return self._hub.repositories[repo_type, repo_id]

    # Faults: `match` is a part of the path with its query ("" is any); they last `times` requests,
    # for ever with None. Large files come from /cdn/<sha256>?…filename=<name>…, so a file's name
    # matches there too; "/cdn/" and "/resolve/" tell the two apart.

    def fail(
        self,
        match: str,
        status: int,
        times: int | None = 1,
        headers: Mapping[str, str] | None = None,
        method: str | None = None,
        message: str = "",
    ) -> Fault:
        """Answer with an error, as `fail("/tree/", 429, headers={"Retry-After": "0"})`."""
        return self._faults.add(
            Fault("fail", match, times, method, status, message, dict(headers or {}))
        )

    def drop(self, match: str, times: int | None = 1, method: str | None = None) -> Fault:
        """Close the connection instead of answering."""
        return self._faults.add(Fault("drop", match, times, method))

    def cut(
        self, match: str, after_bytes: int, times: int | None = 1, *, reset: bool = False
    ) -> Fault:
        """Close the connection after so many bytes of a GET's body, short of its Content-Length.

        Bodies that end before are not counted. With `reset` the connection is torn down (RST),
        which the client takes for another error than an early end.
        """
        fault = Fault("cut", match, times, after_bytes=after_bytes, reset=reset)
        return self._faults.add(fault)

    def slow(
        self, match: str, bytes_per_s: int, times: int | None = None, *, after_bytes: int = 0
    ) -> Fault:
        """Throttle the bodies of GETs, from some byte on; `heal` ends it for those under way too.

        A test that waits for a state in the middle of a download then waits for that alone: the
        first part comes at once, and so does the rest.
        """
        fault = Fault("slow", match, times, bytes_per_s=bytes_per_s, after_bytes=after_bytes)
        return self._faults.add(fault)

    def corrupt(self, match: str, times: int | None = 1) -> Fault:
        """Flip the bits of the middle byte of a file that is fetched; its length stays."""
        return self._faults.add(Fault("corrupt", match, times))

    def heal(self) -> None:
        """Take all faults away."""
        self._faults.clear()

    # For the handler

    def _answer(self, call: Call, side: Literal["hub", "cdn"]) -> Answer | None:
        """The answer to one request, written down; None where the connection is to be dropped."""
        answer: Answer | None
        if failed := self._faults.take("fail", call.method, call.path):
            answer = failure(failed.status, failed.message, failed.headers)
        elif self._faults.take("drop", call.method, call.path):
            answer = None
        else:
            with self._lock:
                answer = self._hub.answer(call, cdn=side == "cdn")
        with self._lock:
            self._requests.append(
                Request(
                    call.method,
                    call.path,
                    answer.status if answer else 0,
                    call.headers.get("range"),
                    "authorization" in call.headers,
                    side,
                )
            )
        return answer


class _Server(socketserver.ThreadingTCPServer):
    """One port. Its connections and their threads are known, so that closing leaves none."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, hub: LoopbackHub, side: Literal["hub", "cdn"], port: int) -> None:
        self.hub = hub
        self.side = side
        self._open: dict[socket.socket, threading.Thread] = {}
        self._open_lock = threading.Lock()
        super().__init__(("127.0.0.1", port), _Handler)
        self.address = f"http://127.0.0.1:{self.server_address[1]}"
        self._thread = threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()
        with self._open_lock:
            still_open = dict(self._open)
        for connection in still_open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in still_open.values():
            thread.join(timeout=5)

    def process_request(self, request, client_address) -> None:  # type: ignore[no-untyped-def]
        thread = threading.Thread(
            target=self.process_request_thread, args=(request, client_address), daemon=True
        )
        with self._open_lock:
            self._open[request] = thread
        thread.start()

    def shutdown_request(self, request) -> None:  # type: ignore[no-untyped-def]
        with self._open_lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request, client_address) -> None:  # type: ignore[no-untyped-def]
        error = sys.exception()
        if error is not None and not isinstance(error, OSError):  # OSError: the client went away
            self.hub.errors.append(error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "LoopbackHub"
    disable_nagle_algorithm = True
    server: _Server

    def _serve(self) -> None:
        hub = self.server.hub
        headers = {name.lower(): value for name, value in self.headers.items()}
        call = Call(self.command, self.path, headers, self._body())
        answer = hub._answer(call, self.server.side)
        if answer is None:
            self._hang_up(reset=False)
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self._send(answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve

    def _body(self) -> bytes:
        """The request's body; it is always read, for the next request comes after it."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            size = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(size)
            if len(body) < size:
                raise ConnectionError  # the client went away
            return body
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(chunks)

    def _send(self, answer: Answer) -> None:
        body = answer.body
        faults = self.server.hub._faults
        sound = self.command == "GET" and answer.status in (200, 206)
        is_file = "Content-Disposition" in answer.headers
        if sound and is_file and body and faults.take("corrupt", "GET", self.path):
            middle = len(body) // 2
            body = body[:middle] + bytes([body[middle] ^ 0xFF]) + body[middle + 1 :]
        cut = faults.take("cut", "GET", self.path, len(body)) if sound else None
        slow = faults.take("slow", "GET", self.path) if sound else None
        view = memoryview(body)[: cut.after_bytes if cut else len(body)]
        at_once = min(slow.after_bytes, len(view)) if slow else 0
        self.wfile.write(view[:at_once])
        step = max(1, slow.bytes_per_s // 20) if slow else max(1, len(view))
        for start in range(at_once, len(view), step):
            part = view[start : start + step]
            self.wfile.write(part)
            if not slow or slow.healed.is_set():
                continue
            if self.server.hub._closing.wait(len(part) / slow.bytes_per_s):
                break
        if cut:
            self._hang_up(reset=cut.reset)

    def _hang_up(self, *, reset: bool) -> None:
        """End the connection here: with an early end of file, or reset at once."""
        self.close_connection = True
        if reset:
            off_at_once = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, off_at_once)
            self.rfile.close()  # it holds the socket open
            self.connection.close()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: `LoopbackHub.requests` has it."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve folders until interrupted; the first line printed is the endpoint."""
    parser = argparse.ArgumentParser(prog="python -m tests.hub.server", description=main.__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument(
        "--seed-folder", action="append", default=[], metavar="OWNER/NAME=FOLDER", dest="seeds"
    )
    options = parser.parse_args(arguments)
    with LoopbackHub(options.port) as hub:
        print(hub.endpoint, flush=True)
        print(f"token: {hub.token}", flush=True)
        for seed in options.seeds:
            repo_id, _, folder = seed.partition("=")
            root = Path(folder)
            if not root.is_dir():
                parser.error(f"{folder!r} is not a folder")
            files = {
                path.relative_to(root).as_posix(): path.read_bytes()
                for path in sorted(root.rglob("*"))
                if path.is_file()
            }
            hub.add_repo(repo_id)
            print(f"{repo_id} at {hub.commit(repo_id, files, message='Seed')}", flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
