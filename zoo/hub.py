"""The way to the Hugging Face Hub: list a repository, fetch its files, put files there.

Built on `huggingface_hub`. A file is fetched into a partial file, so that a download that a crash
broke off continues where it stopped, and enters the store (`zoo.store`) only when its hash is
right. What other programs have in the Hub's own cache is taken from there.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from stem_core.errors import Cancelled, HashError, HubError
from stem_core.files import file_sha256, unwritable_as
from zoo.entries import FileEntry
from zoo.hub_access import TRIES, may_pass, pause, retry, token, translate_hub_errors
from zoo.places import zoo_dir
from zoo.store import blob_path, keep_blob, take_turn

# isort: split
import huggingface_hub
from huggingface_hub import CommitOperationAdd, HfApi, constants, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    build_hf_headers,
    hf_raise_for_status,
    http_stream_backoff,
    httpx,
)

__all__ = [
    "Listing",
    "RemoteFile",
    "check_access",
    "fetch",
    "fetch_dataset_file",
    "known_listing",
    "listing",
    "upload",
]

_PIECE_BYTES = 1 << 18
_LIBRARY = "stem-in-a-browser"


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository: size in bytes, and sha256 (LFS) or git blob id (others)."""

    path: str
    size: int
    sha256: str | None
    blob_id: str


@dataclass(frozen=True)
class Listing:
    """A repository at a commit of 40 digits."""

    repo: str
    revision: str
    files: dict[str, RemoteFile]


def _api() -> HfApi:
    return HfApi(token=token(), library_name=_LIBRARY)


def listing(repo: str, revision: str | None) -> Listing:
    """Ask for the files of a repository; None takes the newest commit.

    Raises
    ------
    HubError
        See its kinds.
    """
    with translate_hub_errors(repo, revision):
        # Asked in any case: without a network this fails at once, the tree only after a while.
        commit = retry(lambda: _api().model_info(repo, revision=revision)).sha
        found = retry(
            lambda: list(_api().list_repo_tree(repo, recursive=True, revision=commit)), tries=1
        )
    files = {
        f.path: RemoteFile(f.path, f.size, f.lfs.sha256 if f.lfs else None, f.blob_id)
        for f in found
        if isinstance(f, RepoFile)
    }
    return Listing(repo, str(commit), files)


def check_access(repo: str) -> str:
    """Try whether the token opens a repository, downloading nothing; "" or why it does not."""
    try:
        with translate_hub_errors(repo, None):
            retry(lambda: _api().auth_check(repo))
    except HubError as error:
        return str(error)
    return ""


def upload(repo: str, files: Mapping[str, Path], *, private: bool, message: str) -> str:
    """Put files into a repository, made where it does not exist, in one commit.

    Returns
    -------
    str
        The commit, 40 digits.

    Raises
    ------
    HubError
        See its kinds.
    """
    api = _api()
    with translate_hub_errors(repo, None):
        retry(lambda: api.create_repo(repo, private=private, exist_ok=True))
        operations = [
            CommitOperationAdd(path_in_repo=path, path_or_fileobj=file)
            for path, file in files.items()
        ]
        done = retry(lambda: api.create_commit(repo, operations, commit_message=message))
    return str(done.oid)


def known_listing(repo: str, revision: str, files: Iterable[FileEntry]) -> Listing | None:
    """List recorded files that are all on this machine, in the store or the Hub's own cache.

    Never asks the network; None where a file or its hash is missing.
    """
    found = {}
    for file in files:
        cached = _cached_file(repo, revision, file.path)
        here = [p for p in (blob_path(file.sha256 or "-"), cached) if p is not None and p.is_file()]
        if not here or file.sha256 is None:
            return None
        size = here[0].stat().st_size
        found[file.path] = RemoteFile(file.path, size, file.sha256, "")
    return Listing(repo, revision, found) if found else None


def _cached_file(repo: str, revision: str, path: str) -> Path | None:
    """Return a file that another program put into the Hub's cache, or None."""
    found = huggingface_hub.try_to_load_from_cache(repo, path, revision=revision)
    return Path(found) if isinstance(found, str) else None


def fetch_dataset_file(repo: str, path: str, revision: str | None) -> Path:
    """Fetch a small file of a dataset, or take it from the cache where there is no network.

    Raises
    ------
    HubError
        See its kinds.
    """
    with translate_hub_errors(repo, revision):
        return Path(
            retry(
                lambda: huggingface_hub.hf_hub_download(
                    repo, path, repo_type="dataset", revision=revision, token=token()
                ),
                tries=2,
            )
        )


def fetch(
    listed: Listing,
    path: str,
    received: Callable[[int], None],
    should_stop: Callable[[], bool],
) -> FileEntry:
    """Fetch one file into the store of artifacts, checked, and describe it.

    Parameters
    ----------
    listed
        From `listing`.
    path
        One of its files.
    received
        Told of bytes as they come; also of those that an earlier try left here, and, with a
        negative number, of bytes that have to come again.
    should_stop
        Asked with every piece.

    Returns
    -------
    FileEntry
        With size and sha256, by which the store has it.

    Raises
    ------
    HubError
        See its kinds.
    HashError
        What came is not what the Hub says the file is.
    OutputError
        The disk is full or cannot be written.
    Cancelled
        `should_stop` said so; what came is kept for the next time.
    """
    remote = listed.files[path]
    key = remote.sha256 or remote.blob_id
    partial = zoo_dir("partial") / key
    advice = "Free space on the disk or set STEM_HOME to a folder that can be written."
    with take_turn(key, should_stop=should_stop), unwritable_as(partial, advice):
        if remote.sha256 is not None and blob_path(remote.sha256).is_file():
            if file_sha256(blob_path(remote.sha256)) == remote.sha256:
                received(remote.size)
                return FileEntry(path=path, size=remote.size, sha256=remote.sha256)
            blob_path(remote.sha256).unlink()
        if (cached := _cached_file(listed.repo, listed.revision, path)) is not None:
            shutil.copyfile(cached, partial)
            received(remote.size)
            if not _is_right(partial, remote):  # damaged there
                partial.unlink()
                received(-remote.size)
        if not partial.is_file() or partial.stat().st_size != remote.size:
            with translate_hub_errors(listed.repo, listed.revision):
                _download(listed, remote, partial, received, should_stop)
        if not _is_right(partial, remote):
            partial.unlink()
            received(-remote.size)
            msg = (
                f"The file {path} of {listed.repo} came damaged: its hash is not the one the Hub "
                "states; nothing was installed. Pull again; should it happen again, tell its "
                "authors."
            )
            raise HashError(msg)
        sha256 = remote.sha256 or file_sha256(partial)
        keep_blob(partial, sha256)
    return FileEntry(path=path, size=remote.size, sha256=sha256)


def _is_right(file: Path, remote: RemoteFile) -> bool:
    """Compare a file with what the Hub says of it: sha256, or the id of a git blob."""
    if remote.sha256 is not None:
        return file_sha256(file) == remote.sha256
    content = file.read_bytes()
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
    return blob.hexdigest() == remote.blob_id


def _download(
    listed: Listing,
    remote: RemoteFile,
    partial: Path,
    received: Callable[[int], None],
    should_stop: Callable[[], bool],
) -> None:
    """Fetch a file, continuing what an earlier try left."""
    done = partial.stat().st_size if partial.is_file() else 0
    if done > remote.size:
        partial.unlink()
        done = 0
    partial.touch()
    received(done)
    url = hf_hub_url(listed.repo, remote.path, revision=listed.revision)
    failures = 0
    while done < remote.size:
        before = done
        try:
            for piece in _stream(url, done):
                if should_stop():
                    msg = "The pull was stopped."
                    raise Cancelled(msg)
                if piece is None:  # the server starts from the beginning
                    partial.write_bytes(b"")
                    received(-done)
                    done = before = 0
                    continue
                with partial.open("ab") as file:
                    file.write(piece)
                done += len(piece)
                received(len(piece))
        except (httpx.TransportError, HfHubHTTPError) as error:
            failures = 1 if done > before else failures + 1
            if failures == TRIES or not may_pass(error):
                raise
            pause(error, failures - 1)
        else:
            if done < remote.size and done == before:  # an answer without content
                msg = f"The Hub sent nothing of {remote.path}; wait some minutes and try again."
                raise HubError(msg)


def _stream(url: str, start: int) -> Iterator[bytes | None]:
    """Give a file's content from a byte on, in pieces; None first where it starts at 0 instead."""
    headers = build_hf_headers(token=token(), library_name=_LIBRARY)
    headers["Accept-Encoding"] = "identity"
    if start:
        headers["Range"] = f"bytes={start}-"
    with http_stream_backoff(
        "GET",
        url,
        headers=headers,
        timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
        retry_on_exceptions=(),
        retry_on_status_codes=(),
    ) as response:
        hf_raise_for_status(response)
        if start and response.status_code != 206:
            yield None
        yield from response.iter_bytes(chunk_size=_PIECE_BYTES)
