"""Repositories in memory, with the object ids git and git-lfs would give them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

LFS_SUFFIXES = (".safetensors", ".pt", ".h5")
LFS_ABOVE_BYTES = 10_000
GITATTRIBUTES = "".join(
    f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES
)
FIRST_COMMIT = datetime(2024, 1, 1, tzinfo=UTC)


def is_lfs(path: str, size: int) -> bool:
    """Whether this Hub keeps a file in LFS. Empty files never are, as on the real one."""
    return size > LFS_ABOVE_BYTES or (size > 0 and path.endswith(LFS_SUFFIXES))


def git_id(kind: str, content: bytes) -> str:
    """SHA-1 that git gives an object."""
    return hashlib.sha1(b"%s %d\0%s" % (kind.encode(), len(content), content)).hexdigest()


@dataclass(frozen=True)
class File:
    """Content of one file with its ids; `oid` is of the pointer where the file is in LFS."""

    data: bytes = field(repr=False)
    lfs: bool
    oid: str
    sha256: str
    pointer_size: int

    @classmethod
    def of(cls, data: bytes, *, lfs: bool) -> File:
        sha256 = hashlib.sha256(data).hexdigest()
        pointer = (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {len(data)}\n"
        ).encode()
        return cls(data, lfs, git_id("blob", pointer if lfs else data), sha256, len(pointer))

    @property
    def size(self) -> int:
        return len(self.data)

    @property
    def etag(self) -> str:
        """What the Hub's client names the cached blob after."""
        return self.sha256 if self.lfs else self.oid


@dataclass(frozen=True)
class Commit:
    """One revision: every file of it, and the id of every folder (`""` is the root)."""

    sha: str
    parent: str | None
    title: str
    date: datetime
    files: Mapping[str, File] = field(repr=False)
    folders: Mapping[str, str] = field(repr=False)

    @property
    def iso_date(self) -> str:
        return self.date.strftime("%Y-%m-%dT%H:%M:%S.000Z")

    def under(self, folder: str, *, recursive: bool) -> Iterator[str]:
        """Paths of files and folders below `folder`, in order."""
        prefix = f"{folder}/" if folder else ""
        for path in sorted({*self.files, *self.folders} - {""}):
            if path.startswith(prefix) and (recursive or "/" not in path[len(prefix) :]):
                yield path


class Repository:
    """A line of commits on `main`; older ones stay until they are forgotten."""

    def __init__(self, repo_id: str, repo_type: str, *, private: bool, gated: str | bool) -> None:
        self.repo_id = repo_id
        self.repo_type = repo_type
        self.private = private
        self.gated = "auto" if gated is True else gated
        self.granted = False
        self.objects: dict[str, bytes] = {}
        self.commits: dict[str, Commit] = {}
        self.head = ""

    @property
    def web_path(self) -> str:
        """`/owner/name`, with the prefix that all but models have."""
        return f"/{self.repo_id}" if self.repo_type == "model" else f"/{self.api_path}"

    @property
    def api_path(self) -> str:
        return f"{self.repo_type}s/{self.repo_id}"

    def at(self, revision: str) -> Commit | None:
        """The commit a branch name or full id stands for."""
        return self.commits.get(self.head if revision == "main" else revision)

    def commit(
        self, changes: Mapping[str, File], delete: Iterable[str], title: str, serial: int
    ) -> Commit:
        """Put a commit on `main`; `serial` counts those of a whole Hub, so that ids differ."""
        parent = self.commits.get(self.head)
        files = dict(parent.files) if parent else {}
        for path in delete:
            del files[path]
        for path, file in changes.items():
            if any(part in ("", ".", "..") for part in path.split("/")):
                message = f"{path!r} is not a path inside a repository"
                raise ValueError(message)
            files[path] = file
            if file.lfs:
                self.objects[file.sha256] = file.data
        folders = _folder_ids(files)
        date = datetime.fromtimestamp(FIRST_COMMIT.timestamp() + serial, UTC)
        who = f"{self.repo_id} <hub@loopback> {int(date.timestamp())} +0000"
        lines = [f"tree {folders['']}", *([f"parent {parent.sha}"] if parent else [])]
        text = "\n".join([*lines, f"author {who}", f"committer {who}", "", title])
        sha = git_id("commit", text.encode())
        made = Commit(sha, parent.sha if parent else None, title, date, files, folders)
        self.commits[sha] = made
        self.head = sha
        return made

    def forget(self, sha: str) -> None:
        """Drop a commit, as a squashed history does; `main` falls back to what came before it."""
        gone = self.commits.pop(sha)
        if self.head == sha:
            if gone.parent not in self.commits:
                self.commits[sha] = gone
                message = f"{sha} is the only commit of {self.repo_id}: make another one first"
                raise ValueError(message)
            self.head = gone.parent


def _folder_ids(files: Mapping[str, File]) -> dict[str, str]:
    """The id of the git tree of every folder."""
    entries: dict[str, list[tuple[str, str, str]]] = {"": []}
    for path, file in files.items():
        entries.setdefault(_parent(path), []).append(("100644", _name(path), file.oid))
        folder = _parent(path)
        while folder:
            entries.setdefault(folder, [])
            folder = _parent(folder)
            entries.setdefault(folder, [])
    ids: dict[str, str] = {}
    for folder in sorted(entries, key=lambda path: path.count("/") + bool(path), reverse=True):
        inside = sorted(entries[folder], key=lambda e: e[1] + ("/" if e[0] == "40000" else ""))
        ids[folder] = git_id(
            "tree",
            b"".join(
                f"{mode} {name}\0".encode() + bytes.fromhex(oid) for mode, name, oid in inside
            ),
        )
        if folder:
            entries[_parent(folder)].append(("40000", _name(folder), ids[folder]))
    return ids


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _name(path: str) -> str:
    return path.rpartition("/")[2]
