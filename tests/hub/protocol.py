"""What the Hub answers: one function per endpoint that the client calls, no sockets.

Two sides, as in reality: the Hub itself, and the storage that large files are redirected to. The
storage is another origin on purpose: the client follows redirects that stay on the Hub, and looks
for the file's commit where they end; at another origin it stops, and leaves its token behind.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from tests.hub.repository import GITATTRIBUTES, Commit, File, Repository, is_lfs

USER = "loopback"
WRITE_TOKEN = "hf_loopback_test_token"
READ_TOKEN = "hf_loopback_read_token"

_NAME = r"[^/]+(?:/[^/]+)?"
_API = rf"/api/(?P<kind>models|datasets|spaces)/(?P<repo>{_NAME})"
_WEB = rf"(?:/(?P<kind>datasets|spaces))?/(?P<repo>{_NAME})"


@dataclass(frozen=True)
class Call:
    """One request. `path` is as sent, with its query; `headers` have lower-case names."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def query(self) -> dict[str, str]:
        return {name: values[-1] for name, values in parse_qs(urlsplit(self.path).query).items()}

    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError:
            raise Refused(400, "The body is not JSON") from None


@dataclass(frozen=True)
class Answer:
    """One response."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class Refused(Exception):
    """An error as the Hub words it: the client picks its class by `X-Error-Code`."""

    def __init__(
        self, status: int, message: str, code: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        named = {"X-Error-Code": code} if code else {}
        self.answer = Answer(
            status,
            json.dumps({"error": message}).encode(),
            {
                "Content-Type": "application/json; charset=utf-8",
                "X-Error-Message": message,
                **named,
                **(headers or {}),
            },
        )


def _answer_json(value: object, status: int = 200) -> Answer:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    return Answer(status, json.dumps(value).encode(), headers)


def _answer_file(
    call: Call, data: bytes, name: str, etag: str, headers: Mapping[str, str]
) -> Answer:
    """The bytes of a file, or the range of them that was asked for."""
    name = quote(name)
    headers = {
        "Content-Type": "application/octet-stream",
        "Content-Disposition": f"inline; filename*=UTF-8''{name}; filename=\"{name}\";",
        "Accept-Ranges": "bytes",
        "ETag": f'"{etag}"',
        **headers,
    }
    wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", call.headers.get("range", ""))
    if wanted is None or not any(wanted.groups()):
        return Answer(200, data, headers)
    first, last = wanted.groups()
    start = int(first) if first else max(0, len(data) - int(last))
    stop = min(len(data), int(last) + 1) if first and last else len(data)
    if start >= stop:
        no_range = {"Content-Range": f"bytes */{len(data)}"}
        raise Refused(416, "The range is outside of the file", headers=no_range)
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
    return Answer(206, data[start:stop], headers)


class Hub:
    """Repositories and the rules of who may do what with them. Callers hold the lock."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.cdn_endpoint = ""
        self.repositories: dict[tuple[str, str], Repository] = {}
        self._commits_made = 0
        self._secret = secrets.token_bytes(16)
        self._hub_routes = self._compiled(
            [
                ("GET", r"/api/whoami-v2", self._whoami),
                ("GET", r"/api/agent-harnesses", self._agent_harnesses),
                ("POST", r"/api/validate-yaml", self._validate_yaml),
                ("POST", r"/api/repos/create", self._create),
                ("GET", rf"{_API}", self._info),
                ("GET", rf"{_API}/revision/(?P<rev>[^/]+)", self._info),
                ("GET", rf"{_API}/tree/(?P<rev>[^/]+)(?:/(?P<path>.+))?", self._tree),
                ("POST", rf"{_API}/paths-info/(?P<rev>[^/]+)", self._paths_info),
                ("GET", rf"{_API}/auth-check(?P<write>/write)?", self._auth_check),
                ("POST", rf"{_API}/preupload/(?P<rev>[^/]+)", self._preupload),
                ("POST", rf"{_API}/commit/(?P<rev>[^/]+)", self._commit),
                ("POST", rf"{_WEB}\.git/info/lfs/objects/batch", self._lfs_batch),
                ("POST", rf"{_WEB}\.git/info/lfs/verify", self._lfs_verify),
                ("GET", rf"{_WEB}/resolve/(?P<rev>[^/]+)/(?P<path>.+)", self._resolve),
            ]
        )
        self._cdn_routes = self._compiled(
            [
                ("GET", r"/cdn/(?P<sha256>[0-9a-f]{64})", self._cdn_get),
                ("PUT", r"/upload/(?P<sha256>[0-9a-f]{64})", self._cdn_put),
            ]
        )

    @staticmethod
    def _compiled(
        routes: Iterable[tuple[str, str, Callable[..., Answer]]],
    ) -> list[tuple[str, re.Pattern[str], Callable[..., Answer]]]:
        return [(method, re.compile(pattern), answer) for method, pattern, answer in routes]

    def answer(self, call: Call, *, cdn: bool) -> Answer:
        """What one request gets."""
        path = urlsplit(call.path).path
        method = "GET" if call.method == "HEAD" else call.method
        try:
            for allowed, pattern, route in self._cdn_routes if cdn else self._hub_routes:
                if method == allowed and (found := pattern.fullmatch(path)):
                    return route(call, **found.groupdict())
            raise Refused(404, "Sorry, we can't find the page you are looking for.")
        except Refused as refused:
            return refused.answer

    # Repositories, for the routes and for tests

    def add(
        self, repo_id: str, repo_type: str, *, private: bool, gated: str | bool, attributes: bool
    ) -> Repository:
        """A repository with its first commit."""
        if (repo_type, repo_id) in self.repositories:
            message = f"{repo_type} {repo_id} exists"
            raise ValueError(message)
        repo = Repository(repo_id, repo_type, private=private, gated=gated)
        first = {".gitattributes": File.of(GITATTRIBUTES.encode(), lfs=False)} if attributes else {}
        self.repositories[repo_type, repo_id] = repo
        self.commit(repo, first, (), "initial commit")
        return repo

    def commit(
        self, repo: Repository, changes: Mapping[str, File], delete: Iterable[str], title: str
    ) -> Commit:
        """The next commit on `main`."""
        self._commits_made += 1
        return repo.commit(changes, delete, title, self._commits_made)

    # Who may do what

    @staticmethod
    def _token(call: Call) -> str | None:
        """The token sent; the Hub refuses one it does not know even where none is needed."""
        sent = call.headers.get("authorization")
        if sent is None:
            return None
        token = sent.removeprefix("Bearer ")
        if token not in (WRITE_TOKEN, READ_TOKEN):
            raise Refused(401, "Invalid credentials in Authorization header")
        return token

    def _repo(self, call: Call, kind: str | None, repo_id: str) -> Repository:
        """A repository the caller may know of."""
        token = self._token(call)
        repo = self.repositories.get(((kind or "models")[:-1], unquote(repo_id)))
        if repo is not None and (token or not repo.private):
            return repo
        if token:
            raise Refused(404, "Repository not found", "RepoNotFound")
        raise Refused(401, "Invalid username or password.", "RepoNotFound")

    def _readable(self, call: Call, kind: str | None, repo_id: str) -> Repository:
        """A repository whose files the caller may have."""
        repo = self._repo(call, kind, repo_id)
        if repo.gated and not (self._token(call) and repo.granted):
            which = f"Access to {repo.repo_type} {repo.repo_id} is restricted"
            if self._token(call) is None:
                rest = (
                    "You must have access to it and be authenticated to access it. Please log in."
                )
                raise Refused(401, f"{which}. {rest}", "GatedRepo")
            rest = f"and you are not in the authorized list. Visit {self.endpoint}{repo.web_path}"
            raise Refused(403, f"{which} {rest} to ask for access.", "GatedRepo")
        return repo

    def _writable(self, call: Call, kind: str | None, repo_id: str) -> Repository:
        repo = self._repo(call, kind, repo_id)
        if self._token(call) is None:
            raise Refused(401, "Invalid username or password.", "RepoNotFound")
        self._needs_write_token(call)
        return repo

    def _needs_write_token(self, call: Call) -> None:
        token = self._token(call)
        if token is None:
            raise Refused(401, "Invalid username or password.")
        if token == READ_TOKEN:
            raise Refused(403, "Forbidden: you must use a write token to upload to a repository.")

    @staticmethod
    def _at(repo: Repository, revision: str | None) -> Commit:
        name = unquote(revision or "main")
        commit = repo.at(name)
        if commit is None:
            raise Refused(404, f"Invalid rev id: {name}", "RevisionNotFound")
        return commit

    # Reading

    def _whoami(self, call: Call) -> Answer:
        token = self._token(call)
        if token is None:
            raise Refused(401, "Invalid username or password.")
        role = "write" if token == WRITE_TOKEN else "read"
        return _answer_json(
            {
                "type": "user",
                "id": hashlib.sha1(USER.encode()).hexdigest()[:24],
                "name": USER,
                "fullname": "Loopback",
                "orgs": [],
                "auth": {
                    "type": "access_token",
                    "accessToken": {"displayName": "tests", "role": role},
                },
            }
        )

    def _agent_harnesses(self, call: Call) -> Answer:
        """Asked for once a day by clients with telemetry on, and by the whole package's import."""
        return _answer_json({"standardEnvVars": [], "harnesses": {}})

    def _info(self, call: Call, kind: str, repo: str, rev: str | None = None) -> Answer:
        found = self._repo(call, kind, repo)
        commit = self._at(found, rev)
        with_blobs = call.query.get("blobs", "").lower() in ("1", "true")
        siblings = []
        for path, file in sorted(commit.files.items()):
            sibling: dict[str, object] = {"rfilename": path}
            if with_blobs:
                sibling |= {"size": file.size, "blobId": file.oid}
            if with_blobs and file.lfs:
                sibling["lfs"] = {
                    "sha256": file.sha256,
                    "size": file.size,
                    "pointerSize": file.pointer_size,
                }
            siblings.append(sibling)
        info = {
            "_id": hashlib.sha1(found.api_path.encode()).hexdigest()[:24],
            "id": found.repo_id,
            "author": found.repo_id.partition("/")[0],
            "sha": commit.sha,
            "lastModified": commit.iso_date,
            "createdAt": next(iter(found.commits.values())).iso_date,
            "private": found.private,
            "gated": found.gated,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "siblings": siblings,
            "usedStorage": sum(len(data) for data in found.objects.values()),
        }
        return _answer_json(info | ({"modelId": found.repo_id} if kind == "models" else {}))

    @staticmethod
    def _entry(commit: Commit, path: str) -> dict[str, object]:
        if path in commit.folders:
            return {"type": "directory", "path": path, "oid": commit.folders[path], "size": 0}
        file = commit.files[path]
        entry: dict[str, object] = {
            "type": "file",
            "path": path,
            "oid": file.oid,
            "size": file.size,
        }
        if file.lfs:
            entry["lfs"] = {
                "oid": file.sha256,
                "size": file.size,
                "pointerSize": file.pointer_size,
            }
        return entry

    def _tree(self, call: Call, kind: str, repo: str, rev: str, path: str | None) -> Answer:
        commit = self._at(self._repo(call, kind, repo), rev)
        folder = unquote(path or "").strip("/")
        if folder not in commit.folders:
            raise self._no_entry(commit, folder)
        recursive = call.query.get("recursive", "").lower() in ("1", "true")
        return _answer_json(
            [self._entry(commit, path) for path in commit.under(folder, recursive=recursive)]
        )

    def _paths_info(self, call: Call, kind: str, repo: str, rev: str) -> Answer:
        commit = self._at(self._repo(call, kind, repo), rev)
        paths = parse_qs(call.body.decode()).get("paths", [])
        known = {*commit.files, *commit.folders}
        return _answer_json(
            [self._entry(commit, path) for path in (p.strip("/") for p in paths) if path in known]
        )

    def _auth_check(self, call: Call, kind: str, repo: str, write: str | None) -> Answer:
        self._readable(call, kind, repo)
        if write:
            self._writable(call, kind, repo)
        return _answer_json({})

    @staticmethod
    def _no_entry(commit: Commit, path: str) -> Refused:
        headers = {"X-Repo-Commit": commit.sha}
        return Refused(404, f"Entry not found: {path}", "EntryNotFound", headers)

    def _resolve(self, call: Call, kind: str | None, repo: str, rev: str, path: str) -> Answer:
        found = self._readable(call, kind, repo)
        commit = self._at(found, rev)
        file = commit.files.get(unquote(path))
        if file is None:
            raise self._no_entry(commit, unquote(path))
        name = unquote(path).rpartition("/")[2]
        headers = {"X-Repo-Commit": commit.sha}
        if not file.lfs:
            return _answer_file(call, file.data, name, file.etag, headers)
        query = {"repo": found.api_path, "filename": name}
        location = self._signed("GET", f"/cdn/{file.sha256}", query)
        headers |= {
            "Location": location,
            "X-Linked-Size": str(file.size),
            "X-Linked-Etag": f'"{file.sha256}"',
            "ETag": f'"{file.sha256}"',
            "Accept-Ranges": "bytes",
            "Content-Type": "text/plain; charset=utf-8",
        }
        return Answer(302, f"Found. Redirecting to {location}".encode(), headers)

    # Storage of large files: the address carries its own permission

    def _signature(self, method: str, path: str, query: Mapping[str, str]) -> str:
        text = f"{method} {path} {sorted(query.items())}"
        return hmac.new(self._secret, text.encode(), "sha256").hexdigest()

    def _signed(self, method: str, path: str, query: Mapping[str, str]) -> str:
        signature = self._signature(method, path, query)
        return f"{self.cdn_endpoint}{path}?{urlencode({**query, 'Signature': signature})}"

    def _signed_repo(self, call: Call) -> Repository:
        query = call.query
        signature = query.pop("Signature", "")
        method = "GET" if call.method == "HEAD" else call.method
        if "authorization" in call.headers:
            raise Refused(400, "Only one auth mechanism allowed")
        right = self._signature(method, urlsplit(call.path).path, query)
        kind, _, repo_id = query.get("repo", "").partition("/")
        repo = self.repositories.get((kind[:-1], repo_id))
        if not hmac.compare_digest(signature, right) or repo is None:
            raise Refused(403, "AccessDenied")
        return repo

    def _cdn_get(self, call: Call, sha256: str) -> Answer:
        data = self._signed_repo(call).objects.get(sha256)
        if data is None:
            raise Refused(404, "NoSuchKey")
        return _answer_file(call, data, call.query["filename"], sha256, {})

    def _cdn_put(self, call: Call, sha256: str) -> Answer:
        repo = self._signed_repo(call)
        if hashlib.sha256(call.body).hexdigest() != sha256:
            raise Refused(400, "XAmzContentSHA256Mismatch")
        repo.objects[sha256] = call.body
        return Answer(200, headers={"ETag": f'"{sha256}"'})

    # Writing

    def _validate_yaml(self, call: Call) -> Answer:
        call.json()
        return _answer_json({"errors": [], "warnings": []})

    def _create(self, call: Call) -> Answer:
        self._needs_write_token(call)
        wanted = call.json()
        repo_type = wanted.get("type") or "model"
        repo_id = f"{wanted.get('organization') or USER}/{wanted['name']}"
        existing = self.repositories.get((repo_type, repo_id))
        if existing is not None:
            url = f"{self.endpoint}{existing.web_path}"
            message = f"You already created this {repo_type} repo"
            return _answer_json({"error": message, "url": url}, 409)
        private = wanted.get("visibility") == "private" or wanted.get("private") is True
        made = self.add(repo_id, repo_type, private=private, gated=False, attributes=True)
        return _answer_json({"url": f"{self.endpoint}{made.web_path}", "name": repo_id})

    def _preupload(self, call: Call, kind: str, repo: str, rev: str) -> Answer:
        commit = self._at(self._writable(call, kind, repo), rev)
        files = []
        for wanted in call.json()["files"]:
            path = wanted["path"]
            present = commit.files.get(path)
            files.append(
                {
                    "path": path,
                    "uploadMode": "lfs" if is_lfs(path, wanted["size"]) else "regular",
                    "shouldIgnore": False,
                    **({"oid": present.etag} if present else {}),
                }
            )
        return _answer_json({"files": files})

    def _lfs_batch(self, call: Call, kind: str | None, repo: str) -> Answer:
        found = self._writable(call, kind, repo)
        wanted = call.json()
        if wanted.get("operation") != "upload" or wanted.get("hash_algo") != "sha256":
            raise Refused(422, "Only uploads by sha256 are served here")
        if "basic" not in wanted.get("transfers", ["basic"]):
            raise Refused(422, "Only the basic transfer is served here")
        objects = []
        for item in wanted["objects"]:
            answer = {"oid": item["oid"], "size": item["size"]}
            if item["oid"] not in found.objects:
                put = self._signed("PUT", f"/upload/{item['oid']}", {"repo": found.api_path})
                verify = f"{self.endpoint}{found.web_path}.git/info/lfs/verify"
                answer["actions"] = {"upload": {"href": put}, "verify": {"href": verify}}
            objects.append(answer)
        made = _answer_json({"transfer": "basic", "objects": objects})
        return Answer(200, made.body, {"Content-Type": "application/vnd.git-lfs+json"})

    def _lfs_verify(self, call: Call, kind: str | None, repo: str) -> Answer:
        found = self._writable(call, kind, repo)
        wanted = call.json()
        data = found.objects.get(wanted["oid"])
        if data is None or len(data) != wanted["size"]:
            raise Refused(404, "The object is not in the storage")
        return _answer_json({})

    def _commit(self, call: Call, kind: str, repo: str, rev: str) -> Answer:
        found = self._writable(call, kind, repo)
        before = self._at(found, rev)
        if unquote(rev) != "main" or "create_pr" in call.query:
            raise Refused(400, "Commits go straight to main here")
        title = ""
        changes: dict[str, File] = {}
        delete: dict[str, None] = {}
        for line in call.body.splitlines():
            item = json.loads(line)
            key, value = item["key"], item["value"]
            if key == "header":
                title = value["summary"]
                if value.get("parentCommit") not in (None, before.sha):
                    raise Refused(412, "A commit has happened since. Please refresh and try again.")
            elif key == "file":
                changes[value["path"]] = self._regular(value)
            elif key == "lfsFile":
                changes[value["path"]] = self._large(found, value)
            elif key in ("deletedFile", "deletedFolder"):
                delete |= dict.fromkeys(self._deleted(before, key, value["path"]))
            else:
                raise Refused(400, f"Unknown key {key!r} in the commit")
        try:
            made = self.commit(found, changes, delete, title)
        except ValueError as error:
            raise Refused(400, str(error)) from None
        url = f"{self.endpoint}{found.web_path}/commit/{made.sha}"
        return _answer_json(
            {"success": True, "commitOid": made.sha, "commitUrl": url, "hookOutput": ""}
        )

    @staticmethod
    def _regular(value: Mapping[str, str]) -> File:
        if value.get("encoding") != "base64":
            return File.of(value["content"].encode(), lfs=False)
        try:
            return File.of(base64.b64decode(value["content"], validate=True), lfs=False)
        except binascii.Error:
            raise Refused(400, f"The content of {value['path']} is not base64") from None

    @staticmethod
    def _large(repo: Repository, value: Mapping[str, Any]) -> File:
        data = repo.objects.get(value["oid"])
        if data is None or value.get("size", len(data)) != len(data):
            message = (
                "Your push was rejected because an LFS pointer pointed to a file that does not"
            )
            raise Refused(400, f"{message} exist: {value['path']}")
        return File.of(data, lfs=True)

    @staticmethod
    def _deleted(commit: Commit, key: str, path: str) -> list[str]:
        folder = path.rstrip("/") + "/"
        gone = [
            name
            for name in commit.files
            if (name.startswith(folder) if key == "deletedFolder" else name == path)
        ]
        if not gone:
            what = "file" if key == "deletedFile" else "folder"
            message = f"A {what} with this name doesn't exist: {path}"
            raise Refused(404, message, "EntryNotFound")
        return gone


def failure(status: int, message: str, headers: Mapping[str, str]) -> Answer:
    """An error of the Hub's own, not of the caller's."""
    return Refused(status, message or HTTPStatus(status).phrase, headers=headers).answer
