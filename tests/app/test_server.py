"""The server as `stem app` starts it: pages, uploads, downloads, its worker, and its end."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from app import paths, uploads
from app.jobs.folder import JobFolder, Progress
from app.jobs.model import JobRequest, new_job_id
from stem_core.prediction.export import FILE_NAMES, write_prediction
from stem_core.prediction.result import Prediction
from stem_core.prediction.values import PredictedArrays
from stem_core.slides.spots import Spots

REPOSITORY = Path(__file__).resolve().parents[2]
LIMIT_S = 120.0  # far beyond what anything here takes, for machines that do other work as well


@dataclass
class App:
    process: subprocess.Popen[str]
    port: int

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def request(
        self,
        method: str,
        path: str,
        body: bytes | Iterator[bytes] | None = None,
        **headers: str,
    ) -> tuple[int, bytes, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT_S)
        try:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body=body, headers=sent)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, answer.read(), found
        finally:
            connection.close()

    def worker_pid(self, limit_s: float = LIMIT_S, other_than: int = 0) -> int:
        give_up_s = time.monotonic() + limit_s
        while time.monotonic() < give_up_s:
            try:
                pid = json.loads(paths.heartbeat_file().read_text(encoding="utf-8"))["pid"]
                if pid != other_than:
                    return int(pid)
            except OSError:
                pass
            time.sleep(0.05)
        msg = "no worker"
        raise AssertionError(msg)


def _start(home: Path, port: int = 0) -> App:
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "app", "--port", str(port)],
        env={**os.environ, "STEM_HOME": str(home), "PYTHONPATH": str(REPOSITORY)},
        cwd=home.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # as a shell does for `&`
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"ready at http://127\.0\.0\.1:(\d+) ", line)
    if found is None:
        process.kill()
        pytest.fail(line + process.stdout.read())
    return App(process, int(found[1]))


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    home = tmp_path_factory.mktemp("server") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEM_HOME", str(home))
        running = _start(home)
        yield running
        worker = running.worker_pid()
        running.process.terminate()
        assert running.process.wait(LIMIT_S) == 0
        _wait(lambda: not _alive(worker))


@pytest.fixture
def second_home(app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, with the sample slide that the first app has drawn already."""
    home = tmp_path / "home"
    shutil.copytree(paths.sample_dir(), home / "sample")
    monkeypatch.setenv("STEM_HOME", str(home))
    return home


@pytest.fixture(scope="module")
def finished_run(app: App) -> JobFolder:
    """A run that is done, with the files of a small result."""
    numbers = np.random.default_rng(0).random((4, 3), dtype=np.float32)
    spots = Spots(
        ids=("a", "b", "c", "d"),
        x_px=np.arange(4.0),
        y_px=np.arange(4.0),
        diameter_um=55.0,
        pitch_um=100.0,
        source="grid",
        array_row=np.arange(4, dtype=np.int32),
        array_col=np.arange(4, dtype=np.int32),
        in_tissue=np.ones(4, dtype=bool),
        tissue_fraction=np.ones(4, dtype=np.float32),
    )
    prediction = Prediction(
        slide_name="case",
        spots=spots,
        mpp=0.5,
        symbols=("A", "B", "C"),
        ensembl=("", "", ""),
        values=PredictedArrays(mean=numbers, std=numbers, q05=numbers, q95=numbers + 1),
        domain_distance=numbers[:, 0].copy(),
        gene_table=pd.DataFrame({"pcc": [0.1, 0.2, 0.3]}, index=["A", "B", "C"]),
        run={"seed": 0},
        thumbnail=np.zeros((8, 8, 3), dtype=np.uint8),
        thumbnail_scale=0.5,
    )
    folder = JobFolder(new_job_id())
    folder.make(
        JobRequest("0" * 32, "case.svs", "m", None, "", "ddim", 2, 2, 0, "layout", None, None, None)
    )
    write_prediction(prediction, folder.result_dir)
    folder.write_progress(Progress("done", created_s=time.time()))
    return folder


def test_the_pages_answer_on_loopback_alone(app: App) -> None:
    assert app.request("GET", "/_stcore/health")[:2] == (200, b"ok")
    status, body, _ = app.request("GET", "/")
    assert status == 200
    assert b"<html" in body
    listening = _listening_addresses(app.process.pid)
    assert listening in ({f"127.0.0.1:{app.port}"}, set())


def test_other_names_are_refused_so_that_no_other_site_can_reach_in(app: App) -> None:
    status, _, _ = app.request("GET", "/", Host="evil.example")
    assert status == 400
    assert app.request("GET", "/_stcore/health", Host=f"localhost:{app.port}")[0] == 200


@pytest.mark.parametrize(
    ("origin", "expected"), [("SAME", 101), ("http://evil.example", 403), ("null", 403)]
)
def test_only_pages_of_this_server_open_a_connection(app: App, origin: str, expected: int) -> None:
    status, _, _ = app.request(
        "GET",
        "/_stcore/stream",
        Origin=app.origin if origin == "SAME" else origin,
        Connection="Upgrade",
        Upgrade="websocket",
        Sec_WebSocket_Version="13",
        Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==",
    )
    assert status == expected


def test_an_upload_goes_to_disk_at_constant_memory(app: App) -> None:
    before_kib = _peak_memory_kib(app.process.pid)
    piece = os.urandom(1 << 20)
    digest = hashlib.sha256()

    def pieces() -> Iterator[bytes]:
        for _ in range(150):
            digest.update(piece)
            yield piece

    status, body, _ = app.request(
        "PUT", "/api/uploads?name=Smith%2F..%2FJohn.SVS", pieces(), Origin=app.origin
    )
    assert status == 201, body
    answer = json.loads(body)
    assert answer["size_bytes"] == 150 << 20
    assert answer["sha256"] == digest.hexdigest()
    path = uploads.upload_path(answer["upload_id"])
    assert path.name == "file.svs"
    assert path.stat().st_size == 150 << 20
    uploads.remove_upload(answer["upload_id"])
    if before_kib is not None:
        assert (_peak_memory_kib(app.process.pid) or 0) - before_kib < 60_000


@pytest.mark.parametrize(
    ("headers", "name", "expected"),
    [
        ({}, "a.tif", 403),
        ({"Origin": "http://evil.example"}, "a.tif", 403),
        ({"Origin": "null"}, "a.tif", 403),
        ({"Origin": "SAME", "Sec_Fetch_Site": "cross-site"}, "a.tif", 403),
        ({"Origin": "SAME"}, "a.exe", 400),
        ({"Origin": "SAME"}, "", 400),
        ({"Origin": "SAME", "Content_Length": "30000000000000"}, "a.tif", 413),
    ],
)
def test_uploads_from_elsewhere_of_other_types_or_too_large_are_refused(
    app: App, headers: dict[str, str], name: str, expected: int
) -> None:
    sent = {key: app.origin if value == "SAME" else value for key, value in headers.items()}
    status, body, _ = app.request("PUT", f"/api/uploads?name={name}", b"abc", **sent)
    assert status == expected
    assert json.loads(body)["error"].endswith(".")
    assert not list(paths.uploads_dir().glob("*"))


def test_an_upload_that_breaks_off_leaves_nothing(app: App) -> None:
    with socket.create_connection(("127.0.0.1", app.port)) as connection:
        head = (
            f"PUT /api/uploads?name=a.tif HTTP/1.1\r\nHost: 127.0.0.1:{app.port}\r\n"
            f"Origin: {app.origin}\r\nContent-Length: 1000000\r\n\r\n"
        )
        connection.sendall(head.encode() + b"x" * 1000)
        _wait(lambda: bool(list(paths.uploads_dir().glob("*"))))
    _wait(lambda: not list(paths.uploads_dir().glob("*")))


def test_only_put_is_taken_for_uploads(app: App) -> None:
    for method in ("POST", "OPTIONS", "DELETE"):
        status, _, headers = app.request(method, "/api/uploads?name=a.tif", b"a", Origin=app.origin)
        assert status == 405
        assert "access-control-allow-origin" not in headers


def test_a_result_is_downloaded_whole_or_file_by_file(app: App, finished_run: JobFolder) -> None:
    status, body, headers = app.request("GET", f"/api/runs/{finished_run.id}/result.zip")
    assert status == 200
    assert headers["content-disposition"] == (
        f'attachment; filename="stem-{finished_run.id[:8]}.zip"'
    )
    assert headers["x-content-type-options"] == "nosniff"
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert sorted(archive.namelist()) == sorted(FILE_NAMES)
        expected = (finished_run.result_dir / "expression.csv").read_bytes()
        assert archive.read("expression.csv") == expected
    assert app.request("GET", f"/api/runs/{finished_run.id}/expression.csv")[1] == expected


def test_nothing_else_can_be_downloaded(app: App, finished_run: JobFolder) -> None:
    for path in (
        f"/api/runs/{new_job_id()}/result.zip",
        "/api/runs/x/result.zip",
        f"/api/runs/{finished_run.id}/status.json",
        f"/api/runs/{finished_run.id}/request.json",
        f"/api/runs/{finished_run.id}/..%2Fstatus.json",
        "/api/runs/..%2F..%2Fdatabase/jobs.sqlite",
    ):
        assert app.request("GET", path)[0] in (400, 404), path
    waiting = JobFolder(new_job_id())
    waiting.make(finished_run.read_request())
    status, body, _ = app.request("GET", f"/api/runs/{waiting.id}/expression.csv")
    assert status == 404
    assert "no result yet" in json.loads(body)["error"]


def test_a_taken_port_is_one_sentence(app: App, tmp_path: Path) -> None:
    code = (
        "from app.launch import serve\nfrom stem_core.errors import StemError\n"
        f"try: serve({app.port})\nexcept StemError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "STEM_HOME": str(tmp_path / "h"), "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(f"Port {app.port} on 127.0.0.1 is taken")
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


def test_a_worker_that_dies_is_started_again(app: App) -> None:
    first = app.worker_pid()
    os.kill(first, signal.SIGKILL)
    assert app.worker_pid(other_than=first) != first


def test_ctrl_c_ends_app_and_worker_with_130_and_no_word(second_home: Path) -> None:
    running = _start(second_home)
    worker = running.worker_pid()
    running.process.send_signal(signal.SIGINT)
    assert running.process.communicate(timeout=LIMIT_S) == ("", None)
    assert running.process.returncode == 130
    assert not _alive(worker)


def test_no_orphan_is_left_when_the_app_is_killed(second_home: Path) -> None:
    killed = _start(second_home)
    worker = killed.worker_pid()
    killed.process.kill()
    killed.process.wait()
    _wait(lambda: not _alive(worker))


def _wait(reached: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
    give_up_s = time.monotonic() + limit_s
    while not reached():
        assert time.monotonic() < give_up_s
        time.sleep(0.02)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:  # one that ended but was not waited for is gone all the same
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return Path("/proc").exists() is False


def _peak_memory_kib(pid: int) -> int | None:
    try:
        found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return None
    return int(found[1]) if found else None


def _listening_addresses(pid: int) -> set[str]:
    """Return the IPv4 addresses a process listens on (empty where /proc is not there)."""
    folder = Path(f"/proc/{pid}/fd")
    if not folder.exists():
        return set()
    inodes = set()
    for link in folder.iterdir():
        try:
            inodes.add(str(link.readlink()))
        except OSError:
            continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == "0A" and f"socket:[{columns[9]}]" in inodes:
                number, port = columns[1].split(":")
                octets = bytes.fromhex(number)[::-1]
                found.add(".".join(str(octet) for octet in octets) + f":{int(port, 16)}")
    return found
