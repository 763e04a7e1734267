"""The way to the Hugging Face Hub: list a repository, fetch its files, put files there.

Built on `huggingface_hub`, whose own cache holds the files. Large files (LFS) are fetched into a
partial file of ours, so that a download that a crash broke off goes on where it stopped, and enter
the cache only when their sha256 is right.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stem_core.errors import Cancelled, HashError, HubError, OutputError
from zoo.hub_access import TRIES, may_pass, pause, retry, token, translate_hub_errors
from zoo.places import zoo_dir

# isort: split
import huggingface_hub
from huggingface_hub import CommitOperationAdd, HfApi, constants, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    build_hf_headers,
    hf_raise_for_status,
    http_stream_backoff,
    httpx,
)
from huggingface_hub.utils import tqdm as hub_tqdm  # type: ignore[attr-defined]

__all__ = [
    "Listing",
    "RemoteFile",
    "cached_file",
    "check_access",
    "fetch",
    "fetch_dataset_file",
    "forget",
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


def cached_file(repo: str, revision: str, path: str, *, repo_type: str = "model") -> Path | None:
    """Return a file of the Hub's cache, or None; never asks the network."""
    found = huggingface_hub.try_to_load_from_cache(
        repo, path, revision=revision, repo_type=repo_type
    )
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
) -> Path:
    """Fetch one file into the Hub's cache, checked, and return where it lies.

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
    if (here := cached_file(listed.repo, listed.revision, path)) is not None:
        received(remote.size)
        return here
    try:
        with translate_hub_errors(listed.repo, listed.revision):
            if remote.sha256 is not None:
                _fetch_large(listed, remote, remote.sha256, received, should_stop)
            # Everything large is in the cache by now: this links it, and fetches what is small.
            out = retry(
                lambda: huggingface_hub.hf_hub_download(
                    listed.repo,
                    path,
                    revision=listed.revision,
                    token=token(),
                    tqdm_class=_meter(lambda n: None, should_stop),
                ),
                tries=2,
            )
    except OSError as error:
        if isinstance(error, HubError | OutputError | HfHubHTTPError):
            raise
        msg = (
            f"The file {path} cannot be stored ({error.strerror or error}); free space on the disk "
            "or set HF_HOME to a folder that can be written."
        )
        raise OutputError(msg) from error
    found = Path(out)
    if remote.sha256 is None:
        content = found.read_bytes()
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
        if blob.hexdigest() != remote.blob_id:
            forget(found)
            raise HashError(_wrong_hash(path, listed.repo))
        received(remote.size)
    return found


def _fetch_large(
    listed: Listing,
    remote: RemoteFile,
    sha256: str,
    received: Callable[[int], None],
    should_stop: Callable[[], bool],
) -> None:
    """Put a large file's content into the cache, going on with what an earlier try left."""
    storage = Path(constants.HF_HUB_CACHE) / repo_folder_name(
        repo_id=listed.repo, repo_type="model"
    )
    blob = storage / "blobs" / sha256
    if blob.is_file():
        received(remote.size)
        return
    partial = zoo_dir("partial") / sha256
    done = partial.stat().st_size if partial.is_file() else 0
    if done > remote.size:
        partial.unlink()
        done = 0
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
                    partial.unlink(missing_ok=True)
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
    with partial.open("rb") as file:
        right = hashlib.file_digest(file, "sha256").hexdigest() == sha256
    if not right:
        partial.unlink()
        received(-remote.size)
        raise HashError(_wrong_hash(remote.path, listed.repo))
    blob.parent.mkdir(parents=True, exist_ok=True)
    try:
        partial.replace(blob)
    except OSError:  # the cache is on another disk
        import shutil

        aside = blob.with_name(f"{sha256}.{os.getpid()}.incomplete")
        shutil.copyfile(partial, aside)
        aside.replace(blob)
        partial.unlink()


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


def _wrong_hash(path: str, repo: str) -> str:
    return (
        f"The file {path} of {repo} came damaged: its sha256 is not the one the Hub states; "
        "nothing was installed. Pull the model again; should it happen again, tell its authors."
    )


def forget(link: Path) -> None:
    """Take a file out of the cache, with the content it points to."""
    content = link.resolve()
    link.unlink(missing_ok=True)
    content.unlink(missing_ok=True)


def _meter(received: Callable[[int], None], should_stop: Callable[[], bool]) -> type[Any]:
    """Make what the Hub's client takes for a progress bar: it shows nothing, and can stop."""

    class Meter(hub_tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            if should_stop():
                msg = "The pull was stopped."
                raise Cancelled(msg)
            received(int(n or 0))

    return Meter
