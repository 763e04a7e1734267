"""The way to the Hugging Face Hub: list a repository, fetch its files, say what went wrong.

Built on `huggingface_hub`, whose own cache holds the files. Three things are added. Large files
(LFS) are fetched into a partial file of ours, so that a download that a crash broke off goes on
where it stopped, and enter the cache only when their sha256 is right. The token comes from
`HF_TOKEN` alone and appears in no message. And every failure becomes one sentence.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

# Before the client is imported, which reads it once: nothing is told to anybody.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import huggingface_hub
from huggingface_hub import CommitOperationAdd, HfApi, constants, hf_hub_url
from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    build_hf_headers,
    hf_raise_for_status,
    http_stream_backoff,
    httpx,
)
from huggingface_hub.utils import tqdm as hub_tqdm  # type: ignore[attr-defined]

from stem_core.errors import (
    Cancelled,
    HashError,
    HubAccessError,
    HubError,
    HubMissingError,
    HubOfflineError,
    OutputError,
)
from zoo.places import zoo_dir

__all__ = [
    "Listing",
    "RemoteFile",
    "cached_file",
    "check_access",
    "endpoint",
    "fetch",
    "fetch_dataset_file",
    "forget",
    "is_offline",
    "listing",
    "token",
    "upload",
]

_TRIES = 5
_PIECE_BYTES = 1 << 18
T = TypeVar("T")
_LONGEST_WAIT_S = 30.0
_PAUSE_S = 1.0
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


def token() -> str | bool:
    """Return the token of the environment, or False: none that lies stored on this machine."""
    return os.environ.get("HF_TOKEN", "").strip() or False


def endpoint() -> str:
    """Return the address of the Hub or its mirror (`HF_ENDPOINT`)."""
    return constants.ENDPOINT


def is_offline() -> bool:
    """Tell whether `HF_HUB_OFFLINE` forbids the network."""
    return bool(constants.is_offline_mode())


def _api() -> HfApi:
    return HfApi(token=token(), library_name=_LIBRARY)


def listing(repo: str, revision: str | None) -> Listing:
    """Ask for the files of a repository; None takes the newest commit.

    Raises
    ------
    HubError
        See its kinds.
    """
    with _sentences(repo, revision):
        commit = revision or _patiently(lambda: _api().model_info(repo)).sha
        found = _patiently(
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
        with _sentences(repo, None):
            _patiently(lambda: _api().auth_check(repo))
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
    with _sentences(repo, None):
        _patiently(lambda: api.create_repo(repo, private=private, exist_ok=True))
        operations = [
            CommitOperationAdd(path_in_repo=path, path_or_fileobj=file)
            for path, file in files.items()
        ]
        done = _patiently(lambda: api.create_commit(repo, operations, commit_message=message))
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
    with _sentences(repo, revision):
        return Path(
            _patiently(
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
        with _sentences(listed.repo, listed.revision):
            if remote.sha256 is not None:
                _fetch_large(listed, remote, remote.sha256, received, should_stop)
            # Everything large is in the cache by now: this links it, and fetches what is small.
            out = _patiently(
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
                if piece is None:  # the server starts anew
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
            if failures == _TRIES or not _passes(error):
                raise
            _pause(error, failures - 1)
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


def _passes(error: Exception) -> bool:
    """Tell whether asking again may help: no connection, too many requests, the Hub is down."""
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        return status in (408, 429) or status >= 500
    return isinstance(error, httpx.TransportError) and not isinstance(error, httpx.ConnectError)


def _pause(error: Exception, attempt: int) -> None:
    wait_s = _PAUSE_S * 2**attempt
    if isinstance(error, HfHubHTTPError):
        asked = error.response.headers.get("Retry-After", "")
        if asked.isdigit():
            wait_s = float(asked)
    time.sleep(min(wait_s, _LONGEST_WAIT_S))


def _patiently(ask: Callable[[], T], tries: int = _TRIES) -> T:
    """Ask again, a few times, what may pass; once what the client itself asks again."""
    for attempt in range(tries):
        try:
            return ask()
        except (httpx.TransportError, HfHubHTTPError) as error:
            if attempt == tries - 1 or not _passes(error):
                raise
            _pause(error, attempt)
    raise AssertionError


@contextmanager
def _sentences(repo: str, revision: str | None) -> Iterator[None]:
    """Turn what the client raises into our errors."""
    try:
        yield
    except (HfHubHTTPError, httpx.TransportError, OfflineModeIsEnabled) as error:
        raise _translated(error, repo, revision) from error
    except LocalEntryNotFoundError as error:
        cause = error.__cause__
        known = isinstance(cause, HfHubHTTPError | httpx.TransportError)
        raise _translated(cause if known else error, repo, revision) from error


def _translated(error: BaseException | None, repo: str, revision: str | None) -> HubError:
    """Make the sentence; the order is that of the client's class tree."""
    if isinstance(error, GatedRepoError):
        return HubAccessError(_access(repo, "is gated", error))
    if isinstance(error, RepositoryNotFoundError):
        if error.response.status_code == 401:
            return HubAccessError(_access(repo, "does not exist or is private", error))
        return HubMissingError(
            f"The Hub at {endpoint()} has no repository {repo}, or the token may not see it; "
            "check the name, or ask its owner."
        )
    if isinstance(error, RevisionNotFoundError):
        return HubMissingError(
            f"The repository {repo} has no revision {revision} any more: its history was changed "
            "since it was recorded. Ask its authors; where the registry does not pin it, pull "
            "with --update to take its newest revision instead."
        )
    if isinstance(error, EntryNotFoundError):
        return HubMissingError(
            f"The repository {repo} lacks a file of the model at revision "
            f"{(revision or 'main')[:12]}; tell its authors, or choose another model."
        )
    if isinstance(error, DisabledRepoError):
        return HubError(f"The Hub has disabled the repository {repo}; choose another model.")
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        if status in (401, 403):
            return HubAccessError(_access(repo, "refused this", error))
        if status == 429:
            why = "asks for fewer requests (429), several times over; wait some minutes"
        elif status >= 500:
            why = f"is not well (error {status}), several times over; wait some minutes"
        else:
            why = f"answered {status} about {repo}; wait some minutes"
        return HubError(f"The Hub at {endpoint()} {why} and try again: what came is kept.")
    return HubOfflineError(_offline(repo))


def _offline(repo: str) -> str:
    why = (
        "the network is forbidden (HF_HUB_OFFLINE is set)"
        if is_offline()
        else f"{endpoint()} cannot be reached"
    )
    return f"Nothing can be fetched from {repo}: {why}."


def _access(repo: str, what: str, error: HfHubHTTPError) -> str:
    has_token = bool(token())
    ask = f"ask for access at {endpoint()}/{repo}"
    if error.response.status_code == 403 or (has_token and "gated" in what):
        then = f"the token in HF_TOKEN was not let in: {ask} with the account it belongs to"
    elif has_token:
        then = "the token in HF_TOKEN does not open it: check both"
    else:
        then = f"{ask}, make a token there and put it into the environment as HF_TOKEN"
    return f"The repository {repo} {what}; {then}, then start the program again."
