"""The unmodified Hub client against the loopback Hub, and the faults it can be given."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import random
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.hub.client import ROOT, client_environment, run_client
from tests.hub.server import LoopbackHub

MODEL = "lab/model"
CLIENT = """
import json, sys
from pathlib import Path
from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download, snapshot_download

def error_of(call):
    try:
        call()
    except Exception as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        return [type(error).__name__, status]

def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes().hex()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file() and ".cache" not in path.relative_to(folder).parts
    }
"""


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    with LoopbackHub() as running:
        yield running


def ask(hub: LoopbackHub, home: Path, code: str, *arguments: str | Path, token: str = "") -> Any:
    """What the client's code prints, as JSON."""
    environment = client_environment(hub, home, token or None)
    result = run_client(CLIENT + textwrap.dedent(code), environment, *arguments)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def fetch(
    url: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """One request with no client's help: nothing is followed or tried again."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    try:
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection.request(method, target, body, headers)
        response = connection.getresponse()
        names = {name.lower(): value for name, value in response.getheaders()}
        return response.status, names, response.read()
    finally:
        connection.close()


def some_bytes(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def hexed(files: dict[str, bytes]) -> dict[str, str]:
    return {path: data.hex() for path, data in files.items()}


def test_a_pinned_snapshot_has_the_files_of_its_commit(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.add_repo(MODEL)
    old = {"config.json": b"{}", "deep/er/weights.safetensors": some_bytes(3_000)}
    pinned = hub.commit(MODEL, old)
    newer = hub.commit(MODEL, {"config.json": b"{...}", "new.txt": b"new"}, delete=list(old)[1:])
    code = """
    folder = snapshot_download(sys.argv[1], revision=sys.argv[2])
    print(json.dumps([Path(folder).name, contents(folder)]))
    """
    name, found = ask(hub, tmp_path, code, MODEL, pinned)
    assert name == pinned
    assert found == hexed(hub.files(MODEL, pinned))
    assert set(found) == {".gitattributes", *old}
    seen = hub.requests
    assert [r.path.partition("?")[0] for r in seen if "/api/" in r.path] == [
        f"/api/models/{MODEL}/tree/{pinned}"
    ]
    assert {r.path.partition("?")[0] for r in seen if r.side == "cdn"} == {
        f"/cdn/{hashlib.sha256(old['deep/er/weights.safetensors']).hexdigest()}"
    }

    hub.clear()
    assert ask(hub, tmp_path, code, MODEL, pinned) == [name, found]
    assert hub.requests == []

    assert ask(hub, tmp_path, code, MODEL, "main") == [newer, hexed(hub.files(MODEL))]
    assert set(hub.files(MODEL)) == {".gitattributes", "config.json", "new.txt"}


def test_a_dry_run_tells_what_would_be_fetched(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.add_repo(MODEL, gitattributes=False)
    hub.commit(MODEL, {"config.json": b"{}", "weights.h5": some_bytes(20_000)})
    found = ask(
        hub,
        tmp_path,
        """
    snapshot_download(sys.argv[1], allow_patterns="config.json")
    infos = snapshot_download(sys.argv[1], dry_run=True)
    print(json.dumps({i.filename: [i.file_size, i.will_download, i.commit_hash] for i in infos}))
    """,
        MODEL,
    )
    head = hub.head(MODEL)
    assert found == {"config.json": [2, False, head], "weights.h5": [20_000, True, head]}
    assert not any(r.side == "cdn" for r in hub.requests)


def test_information_trees_and_rights(hub: LoopbackHub, tmp_path: Path) -> None:
    weights = some_bytes(2_000)
    hub.add_repo(MODEL, gitattributes=False)
    sha = hub.commit(MODEL, {"a.txt": b"hello\n", "sub/w.pt": weights, "sub/deep/x y.txt": b"x"})
    hub.add_repo("lab/data", "dataset")
    hub.commit("lab/data", {"table.csv": b"1,2"}, repo_type="dataset")
    code = """
    api, repo = HfApi(), sys.argv[1]
    info = api.model_info(repo, files_metadata=True)
    lfs = {s.rfilename: [s.size, s.blob_id, s.lfs and [s.lfs.sha256, s.lfs.pointer_size]]
           for s in info.siblings}
    tree = lambda **how: [e.path for e in api.list_repo_tree(repo, **how)]
    paths = api.get_paths_info(repo, ["sub/w.pt", "sub", "none"])
    api.auth_check(repo)
    api.auth_check(repo, write=True)
    table = hf_hub_download("lab/data", "table.csv", repo_type="dataset")
    print(json.dumps({
        "info": [info.id, info.sha, info.private, info.gated, lfs],
        "names": [s.rfilename for s in api.model_info(repo, revision=info.sha).siblings],
        "trees": [tree(recursive=True), tree(), tree(path_in_repo="sub/deep")],
        "missing": error_of(lambda: tree(path_in_repo="none")),
        "paths": [[p.path, p.size, p.lfs.sha256] if hasattr(p, "lfs") else p.path for p in paths],
        "exists": [api.file_exists(repo, "sub/deep/x y.txt"), api.file_exists(repo, "none")],
        "user": api.whoami()["name"],
        "table": Path(table).read_text(),
        "dataset": api.dataset_info("lab/data").id,
    }))
    """
    found = ask(hub, tmp_path, code, MODEL, token=hub.token)
    sha256 = hashlib.sha256(weights).hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize 2000\n"
    pointer_id = hashlib.sha1(f"blob {len(pointer)}\0{pointer}".encode()).hexdigest()
    assert found["info"] == [
        MODEL,
        sha,
        False,
        False,
        {
            "a.txt": [6, "ce013625030ba8dba906f756967f9e9ca394464a", None],
            "sub/deep/x y.txt": [1, hashlib.sha1(b"blob 1\0x").hexdigest(), None],
            "sub/w.pt": [2_000, pointer_id, [sha256, len(pointer)]],
        },
    ]
    assert found["names"] == ["a.txt", "sub/deep/x y.txt", "sub/w.pt"]
    assert found["trees"] == [
        ["a.txt", "sub", "sub/deep", "sub/deep/x y.txt", "sub/w.pt"],
        ["a.txt", "sub"],
        ["sub/deep/x y.txt"],
    ]
    assert found["missing"] == ["RemoteEntryNotFoundError", 404]
    assert found["paths"] == [["sub/w.pt", 2_000, sha256], "sub"]
    assert found["exists"] == [True, False]
    assert found["user"] == hub.user
    assert found["table"] == "1,2"
    assert found["dataset"] == "lab/data"


def test_large_files_come_from_another_origin_without_the_token(
    hub: LoopbackHub, tmp_path: Path
) -> None:
    weights = some_bytes(4_000)
    hub.add_repo(MODEL)
    sha = hub.commit(MODEL, {"w.safetensors": weights, "small.json": b"{}"})
    code = """
    paths = [hf_hub_download(sys.argv[1], name) for name in ("w.safetensors", "small.json")]
    print(json.dumps([Path(path).read_bytes().hex() for path in paths]))
    """
    assert ask(hub, tmp_path, code, MODEL, token=hub.token) == [weights.hex(), b"{}".hex()]
    gets = [(r.side, r.status, r.authorized) for r in hub.requests if r.method == "GET"]
    assert gets == [("cdn", 200, False), ("hub", 200, True)]
    heads = [(r.side, r.status, r.authorized) for r in hub.requests if r.method == "HEAD"]
    assert heads == [("hub", 302, True), ("hub", 200, True)]

    status, headers, _ = fetch(f"{hub.endpoint}/{MODEL}/resolve/main/w.safetensors", "HEAD")
    sha256 = hashlib.sha256(weights).hexdigest()
    assert status == 302
    assert headers["x-repo-commit"] == sha
    assert headers["x-linked-etag"] == f'"{sha256}"'
    assert headers["x-linked-size"] == "4000"
    signed = headers["location"]
    assert signed.startswith(f"{hub.cdn_endpoint}/cdn/{sha256}?")
    assert fetch(signed)[2] == weights
    assert fetch(signed.partition("?")[0])[0] == 403
    assert fetch(signed, Authorization=f"Bearer {hub.token}")[0] == 400


@pytest.mark.parametrize(
    ("wanted", "status", "part", "told"),
    [
        ("bytes=10-", 206, slice(10, None), "bytes 10-99/100"),
        ("bytes=10-19", 206, slice(10, 20), "bytes 10-19/100"),
        ("bytes=-5", 206, slice(95, None), "bytes 95-99/100"),
        ("bytes=90-500", 206, slice(90, None), "bytes 90-99/100"),
        ("bytes=-", 200, slice(None), None),
    ],
)
def test_ranges(hub: LoopbackHub, wanted: str, status: int, part: slice, told: str | None) -> None:
    data = some_bytes(100)
    hub.add_repo(MODEL)
    hub.commit(MODEL, {"x.bin": data})
    url = f"{hub.endpoint}/{MODEL}/resolve/main/x.bin"
    found, headers, body = fetch(url, Range=wanted)
    assert (found, body, headers.get("content-range")) == (status, data[part], told)
    assert hub.requests[-1].range == wanted
    assert fetch(url, Range="bytes=100-")[0] == 416


def test_a_cut_connection_is_resumed_where_the_client_can(hub: LoopbackHub, tmp_path: Path) -> None:
    """It hands on 10 MiB at a time, so that is where it resumes; a reset it does not survive."""
    chunk = 10 << 20
    large, small = some_bytes(chunk + 500_000, 1), some_bytes(300_000, 2)
    hub.add_repo(MODEL)
    hub.commit(MODEL, {"large.safetensors": large, "small.h5": small, "reset.pt": some_bytes(90)})
    cuts = [
        hub.cut("large.safetensors", chunk + 400_000),
        hub.cut("small.h5", 200_000),
        hub.cut("reset.pt", 80, reset=True),
    ]
    code = """
    files = [hf_hub_download(sys.argv[1], name) for name in ("large.safetensors", "small.h5")]
    lost = error_of(lambda: hf_hub_download(sys.argv[1], "reset.pt"))
    left = [path.name for path in Path(files[0]).parents[2].rglob("*.incomplete")]
    print(json.dumps([files, lost, left]))
    """
    files, lost, left = ask(hub, tmp_path, code, MODEL)
    assert [Path(path).read_bytes() for path in files] == [large, small]
    assert lost == ["ReadError", None]
    assert left == []
    assert [cut.hits for cut in cuts] == [1, 1, 1]
    got = [(r.status, r.range) for r in hub.requests if r.side == "cdn"]
    assert got == [(200, None), (206, f"bytes={chunk}-"), (200, None), (200, None), (200, None)]


def test_gated_files_need_a_grant(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.add_repo(MODEL, gated=True)
    hub.commit(MODEL, {"config.json": b"{}", "w.pt": b"weights"})
    code = """
    api, repo = HfApi(), sys.argv[1]
    gated = api.model_info(repo).gated
    tree = [entry.path for entry in api.list_repo_tree(repo)]
    print(json.dumps([gated, tree, *(error_of(call) for call in (
        lambda: hf_hub_download(repo, "config.json"),
        lambda: hf_hub_download(repo, "w.pt"),
        lambda: snapshot_download(repo),
        lambda: api.auth_check(repo),
    ))]))
    """
    public = ["auto", [".gitattributes", "config.json", "w.pt"]]
    anonymous = ask(hub, tmp_path / "anonymous", code, MODEL)
    assert anonymous == public + 4 * [["GatedRepoError", 401]]
    assert ask(hub, tmp_path, code, MODEL, token=hub.token) == public + 4 * [
        ["GatedRepoError", 403]
    ]
    assert not any(r.side == "cdn" for r in hub.requests)
    hub.grant(MODEL)
    assert ask(hub, tmp_path, code, MODEL, token=hub.token) == public + 4 * [None]


def test_what_is_not_there_has_its_own_error(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.add_repo("lab/private", private=True)
    hub.commit("lab/private", {"config.json": b"{}"})
    first = hub.add_repo(MODEL)
    gone = hub.commit(MODEL, {"config.json": b"{}"})
    hub.forget_commit(MODEL, gone)
    assert hub.head(MODEL) == first
    code = """
    right, gone = sys.argv[1:]
    tokens = {"none": False, "wrong": "hf_wrong", "right": right}  # what is cached comes back
    print(json.dumps({name: [error_of(call) for call in (
        lambda: hf_hub_download("lab/private", "config.json", token=token),
        lambda: snapshot_download("lab/private", token=token),
        lambda: HfApi(token=token).auth_check("lab/private"),
        lambda: HfApi(token=token).model_info("lab/missing"),
        lambda: snapshot_download("missing", token=token),
        lambda: snapshot_download("lab/model", revision=gone, token=token),
        lambda: hf_hub_download("lab/model", "config.json", revision="none", token=token),
        lambda: HfApi(token=token).model_info("lab/model", revision=gone),
        lambda: hf_hub_download("lab/model", "config.json", token=token),
    )] for name, token in tokens.items()}))
    """
    found = ask(hub, tmp_path, code, hub.token, gone)
    rest = 3 * [["RevisionNotFoundError", 404]] + [["RemoteEntryNotFoundError", 404]]
    assert found["none"] == 5 * [["RepositoryNotFoundError", 401]] + rest
    assert found["right"] == 3 * [None] + 2 * [["RepositoryNotFoundError", 404]] + rest
    assert found["wrong"] == 9 * [["HfHubHTTPError", 401]]


def test_a_rate_limit_is_waited_for(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.add_repo(MODEL)
    hub.commit(MODEL, {"w.pt": b"weights"})
    limit = {"RateLimit": '"api";r=0;t=0', "RateLimit-Policy": '"fixed window";"api";q=9;w=300'}
    limited = hub.fail("/tree/", 429, headers={"Retry-After": "0"})
    hub.fail("/cdn/", 429, headers=limit)
    refused = hub.fail(f"/api/models/{MODEL}/revision/", 429, headers=limit)
    code = """
    early = error_of(lambda: HfApi().model_info(sys.argv[1], revision="main"))
    print(json.dumps([early, contents(snapshot_download(sys.argv[1]))]))
    """
    early, found = ask(hub, tmp_path, code, MODEL)
    assert early == ["HfHubHTTPError", 429]  # asking for the model's information is not repeated
    assert found == hexed(hub.files(MODEL))
    assert [limited.hits, refused.hits] == [1, 1]
    assert [r.status for r in hub.requests if "/tree/" in r.path] == [429, 200]
    assert [r.status for r in hub.requests if r.side == "cdn"] == [429, 200]


def test_a_failing_hub_is_asked_again_before_the_file_but_not_for_it(
    hub: LoopbackHub, tmp_path: Path
) -> None:
    hub.add_repo(MODEL)
    hub.commit(MODEL, {"config.json": b"{}", "w.pt": b"weights", "spoiled.h5": b"weights"})
    hub.corrupt("spoiled.h5")
    hub.fail("config.json", 500, times=2, method="HEAD")
    hub.fail("w.pt", 503, method="GET")
    hub.drop(".gitattributes", method="HEAD")
    code = """
    config = hf_hub_download(sys.argv[1], "config.json")
    unavailable = error_of(lambda: hf_hub_download(sys.argv[1], "w.pt"))
    spoiled = hf_hub_download(sys.argv[1], "spoiled.h5")
    dropped = error_of(lambda: hf_hub_download(sys.argv[1], ".gitattributes"))
    print(json.dumps([Path(config).read_text(), unavailable, dropped,
                      Path(spoiled).read_bytes().hex()]))
    """
    *found, spoiled = ask(hub, tmp_path, code, MODEL)
    assert found == ["{}", ["HfHubHTTPError", 503], ["RemoteProtocolError", None]]
    assert spoiled == b"wei\x98hts".hex()  # the client does not compare it with its SHA-256
    heads = [r.status for r in hub.requests if "config.json" in r.path and r.method == "HEAD"]
    assert heads == [500, 500, 200]
    assert hub.requests[-1].status == 0


def test_a_pushed_folder_comes_back_byte_for_byte(hub: LoopbackHub, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    files = {
        "README.md": b"---\nlicense: mit\n---\n# A model\n",
        "config.json": b'{"width": 32}\n',
        "empty.pt": b"",
        "model.safetensors": some_bytes(50_000),
        "parts/table.csv": some_bytes(30_000, 3),
        "parts/odd name é.txt": "é".encode(),
    }
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    code = """
    api, repo, folder, back = HfApi(), *sys.argv[1:]
    url = api.create_repo(repo, private=True)
    again = [error_of(lambda: api.create_repo(repo)), api.create_repo(repo, exist_ok=True).repo_id]
    first = api.upload_folder(repo_id=repo, folder_path=folder, commit_message="First")
    same = api.upload_folder(repo_id=repo, folder_path=folder)
    snapshot_download(repo, revision=first.oid, local_dir=back)
    Path(folder, "config.json").write_text("{}")
    Path(folder, "parts/copy.csv").write_bytes(Path(folder, "parts/table.csv").read_bytes())
    Path(folder, "empty.pt").unlink()
    second = api.upload_folder(repo_id=repo, folder_path=folder, delete_patterns="*.pt",
                               parent_commit=first.oid)
    add = CommitOperationAdd("late.txt", b"late")
    late = error_of(lambda: api.create_commit(
        repo, [add], commit_message="Late", parent_commit=first.oid))
    print(json.dumps([str(url), again, first.oid, same.oid, second.oid, second.commit_url,
                      late, contents(back)]))
    """
    repo = f"{hub.user}/pushed"
    url, again, first, same, second, commit_url, late, back = ask(
        hub, tmp_path / "home", code, repo, folder, tmp_path / "back", token=hub.token
    )
    assert url == f"{hub.endpoint}/{repo}"
    assert again == [["HfHubHTTPError", 409], repo]
    attributes = hub.files(repo).pop(".gitattributes")
    assert back == hexed({".gitattributes": attributes, **files})
    assert hub.files(repo, first) == {".gitattributes": attributes, **files}
    assert same == first  # nothing had changed
    assert commit_url == f"{hub.endpoint}/{repo}/commit/{second}"
    changed = {**files, "config.json": b"{}", "parts/copy.csv": files["parts/table.csv"]}
    del changed["empty.pt"]
    assert hub.head(repo) == second
    assert hub.files(repo) == {".gitattributes": attributes, **changed}
    assert late == ["HfHubHTTPError", 412]
    puts = [r for r in hub.requests if r.method == "PUT"]
    assert [(r.side, r.status, r.authorized) for r in puts] == 2 * [("cdn", 200, False)]


def test_pushing_needs_a_token_that_may_write(hub: LoopbackHub, tmp_path: Path) -> None:
    first = hub.add_repo(MODEL)
    code = """
    def push(token):
        add = CommitOperationAdd("new.txt", b"new")
        HfApi(token=token).create_commit("lab/model", [add], commit_message="New")
    print(json.dumps({str(token): [
        error_of(lambda: push(token)),
        error_of(lambda: HfApi(token=token).create_repo("lab/new")),
        error_of(lambda: HfApi(token=token).auth_check("lab/model", write=True)),
    ] for token in (False, sys.argv[1], "hf_wrong")}))
    """
    found = ask(hub, tmp_path, code, hub.read_token)
    not_found, unauthorized, forbidden = (
        ["RepositoryNotFoundError", 401],
        ["HfHubHTTPError", 401],
        ["HfHubHTTPError", 403],
    )
    assert found["False"] == [not_found, unauthorized, not_found]
    assert found[hub.read_token] == 3 * [forbidden]
    assert found["hf_wrong"] == 3 * [unauthorized]
    assert hub.head(MODEL) == first


def test_an_interrupted_upload_is_sent_again(hub: LoopbackHub, tmp_path: Path) -> None:
    data = some_bytes(40_000)
    hub.add_repo(MODEL)
    dropped = hub.drop("/upload/", method="PUT")
    code = """
    add = CommitOperationAdd("w.safetensors", Path(sys.argv[2]).read_bytes())
    print(json.dumps(HfApi().create_commit(sys.argv[1], [add], commit_message="New").oid))
    """
    (tmp_path / "w").write_bytes(data)
    assert ask(hub, tmp_path, code, MODEL, tmp_path / "w", token=hub.token) == hub.head(MODEL)
    assert hub.files(MODEL)["w.safetensors"] == data
    assert dropped.hits == 1
    assert [r.status for r in hub.requests if r.method == "PUT"] == [0, 200]


def test_wrong_or_missing_uploads_are_refused(hub: LoopbackHub) -> None:
    hub.add_repo(MODEL)
    sha256 = hashlib.sha256(b"right").hexdigest()
    mine = {"Authorization": f"Bearer {hub.token}"}
    batch = {
        "operation": "upload",
        "hash_algo": "sha256",
        "transfers": ["basic"],
        "objects": [{"oid": sha256, "size": 5}],
    }
    lfs = f"{hub.endpoint}/{MODEL}.git/info/lfs"
    commit = f"{hub.endpoint}/api/models/{MODEL}/commit/main"
    file = {"key": "lfsFile", "value": {"path": "w.pt", "oid": sha256, "size": 5}}
    lines = b'{"key": "header", "value": {"summary": "New"}}\n' + json.dumps(file).encode()

    _, _, body = fetch(f"{lfs}/objects/batch", "POST", json.dumps(batch).encode(), **mine)
    actions = json.loads(body)["objects"][0]["actions"]
    about = json.dumps({"oid": sha256, "size": 5}).encode()
    assert fetch(actions["upload"]["href"], "PUT", b"wrong")[0] == 400
    assert fetch(actions["upload"]["href"].partition("&")[0], "PUT", b"right")[0] == 403
    assert fetch(actions["verify"]["href"], "POST", about, **mine)[0] == 404
    assert fetch(commit, "POST", lines, **mine)[0] == 400
    assert fetch(actions["upload"]["href"], "PUT", b"right")[0] == 200
    assert fetch(actions["verify"]["href"], "POST", about, **mine)[0] == 200
    _, _, body = fetch(f"{lfs}/objects/batch", "POST", json.dumps(batch).encode(), **mine)
    assert "actions" not in json.loads(body)["objects"][0]
    assert fetch(commit, "POST", lines, **mine)[0] == 200
    assert hub.files(MODEL)["w.pt"] == b"right"


def test_faults_come_as_often_as_asked_for(hub: LoopbackHub) -> None:
    data = some_bytes(60_000)
    hub.add_repo(MODEL)
    hub.commit(MODEL, {"file with space.bin": data[:9_000], "large.bin": data})
    small = f"{hub.endpoint}/{MODEL}/resolve/main/file%20with%20space.bin"
    large = fetch(f"{hub.endpoint}/{MODEL}/resolve/main/large.bin")[1]["location"]

    hub.fail(
        "file with space", 429, headers={"Retry-After": "7"}, method="GET", message="Slow down"
    )
    assert fetch(small, "HEAD")[0] == 200
    status, headers, body = fetch(small)
    assert (status, headers["retry-after"], headers["x-error-message"]) == (429, "7", "Slow down")
    assert json.loads(body) == {"error": "Slow down"}
    assert fetch(small)[2] == data[:9_000]

    always = hub.fail("", 503, times=None)
    assert [fetch(url)[0] for url in (small, large, f"{hub.endpoint}/api/whoami-v2")] == 3 * [503]
    assert always.hits == 3
    hub.heal()
    assert fetch(small)[0] == 200

    hub.drop("large.bin")
    with pytest.raises(http.client.RemoteDisconnected):
        fetch(large)

    for reset, error in ((False, http.client.IncompleteRead), (True, ConnectionResetError)):
        cut = hub.cut("large.bin", 50_000, reset=reset)
        assert fetch(large, "HEAD")[1]["content-length"] == "60000"
        assert fetch(large, Range="bytes=0-49999")[2] == data[:50_000]  # it ends before the cut
        assert cut.hits == 0
        with pytest.raises(error) as broken:
            fetch(large)
        if isinstance(broken.value, http.client.IncompleteRead):
            assert broken.value.partial == data[:50_000]
            assert broken.value.expected == 10_000
        assert fetch(large)[2] == data

    hub.corrupt("large.bin", times=2)
    for _ in range(2):
        spoiled = fetch(large)[2]
        assert [i for i in range(60_000) if spoiled[i] != data[i]] == [30_000]
    assert fetch(large)[2] == data

    hub.slow("large.bin", 150_000)
    begun = time.monotonic()
    assert fetch(large)[2] == data
    assert time.monotonic() - begun > 0.35
    hub.heal()
    hub.slow("large.bin", 10, after_bytes=59_900)  # ten seconds for the end of it
    threading.Timer(0.3, hub.heal).start()
    begun = time.monotonic()
    assert fetch(large)[2] == data
    assert 0.2 < time.monotonic() - begun < 5


def test_closing_does_not_wait_for_what_is_under_way(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with LoopbackHub() as hub:
        hub.add_repo(MODEL)
        hub.commit(MODEL, {"small.bin": b"x" * 1_000})
        hub.slow("small.bin", 20)
        idle = http.client.HTTPConnection(urlsplit(hub.endpoint).netloc, timeout=10)
        idle.request("GET", f"/api/models/{MODEL}")
        idle.getresponse().read()
        errors: list[Exception] = []

        def wait_for_it() -> None:
            try:
                fetch(f"{hub.endpoint}/{MODEL}/resolve/main/small.bin")
            except (http.client.HTTPException, OSError) as error:
                errors.append(error)

        waiting = threading.Thread(target=wait_for_it)
        waiting.start()
        while len(hub.requests) < 2:
            time.sleep(0.01)
        begun = time.monotonic()
    assert time.monotonic() - begun < 2  # the body alone would take 50
    waiting.join(timeout=5)
    assert [type(error) for error in errors] == [http.client.IncompleteRead]
    for endpoint in (hub.endpoint, hub.cdn_endpoint):
        with pytest.raises(ConnectionRefusedError):
            fetch(endpoint)
    idle.close()
    assert set(threading.enumerate()) <= before


def test_many_at_once(hub: LoopbackHub) -> None:
    hub.add_repo(MODEL)

    def write_and_read(number: int) -> tuple[str, bytes]:
        sha = hub.commit(MODEL, {f"{number}.txt": str(number).encode()})
        return sha, fetch(f"{hub.endpoint}/{MODEL}/resolve/{sha}/{number}.txt")[2]

    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(write_and_read, range(64)))
    assert [body for _, body in made] == [str(number).encode() for number in range(64)]
    assert len({sha for sha, _ in made}) == 64
    assert len(hub.files(MODEL)) == 65
    assert len(hub.requests) == 64


def test_commits_are_gits_and_no_two_alike(hub: LoopbackHub) -> None:
    first = hub.add_repo(MODEL, gitattributes=False)
    other = hub.add_repo("lab/other", gitattributes=False)
    shas = [first, other, *(hub.commit(MODEL, {"a": b"same"}, message="same") for _ in range(3))]
    assert len(set(shas)) == 5
    assert all(len(sha) == 40 and set(sha) <= set("0123456789abcdef") for sha in shas)
    assert hub.files(MODEL, first) == {}
    # The object that git itself would make of it: an empty tree, no parent.
    who = "<hub@loopback> 1704067201 +0000"
    empty = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
    text = f"tree {empty}\nauthor {MODEL} {who}\ncommitter {MODEL} {who}\n\ninitial commit"
    assert first == hashlib.sha1(f"commit {len(text)}\0{text}".encode()).hexdigest()
    with pytest.raises(ValueError, match="only commit"):
        hub.forget_commit("lab/other", other)
    with pytest.raises(ValueError, match="not a path"):
        hub.commit(MODEL, {"../a": b""})
    with pytest.raises(ValueError, match="exists"):
        hub.add_repo(MODEL)
    hub.remove_repo(MODEL)
    assert fetch(f"{hub.endpoint}/api/models/{MODEL}")[0] == 401


def test_errors_of_the_server_itself_are_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = LoopbackHub()
    monkeypatch.setattr(hub._hub, "answer", lambda call, cdn: 1 / 0)
    with pytest.raises(ExceptionGroup, match="itself failed") as raised, hub:
        with pytest.raises(http.client.RemoteDisconnected):
            fetch(f"{hub.endpoint}/api/whoami-v2")
    assert [type(error) for error in raised.value.exceptions] == [ZeroDivisionError]


def test_other_tokens_and_hubs_do_not_reach_the_client(
    hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_CACHE", "https_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "elsewhere")
    environment = client_environment(hub, tmp_path)
    assert "elsewhere" not in environment.values()
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    code = """
    from huggingface_hub import constants, get_token
    print(json.dumps([constants.ENDPOINT, constants.HF_HUB_OFFLINE, constants.HF_HUB_CACHE,
                      get_token()]))
    """
    assert ask(hub, tmp_path, code) == [hub.endpoint, False, str(tmp_path / "hub"), None]
    assert hub.requests == []


def test_it_starts_by_hand(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "config.json").write_bytes(b"{}")
    command = [sys.executable, "-W", "error", "-m", "tests.hub.server", "--port", "0"]
    with subprocess.Popen(
        [*command, "--seed-folder", f"{MODEL}={tmp_path}"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            endpoint = server.stdout.readline().strip()
            assert "token: " in server.stdout.readline()
            assert MODEL in server.stdout.readline()
            assert fetch(f"{endpoint}/{MODEL}/resolve/main/deep/config.json")[2] == b"{}"
        finally:
            server.terminate()
