"""Who we are to the Hub, and what it answers: token and address, patience, sentences.

The token comes from `HF_TOKEN` alone and appears in no message. Every failure becomes one sentence.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

# Before the client is imported, which reads it once: no telemetry.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from huggingface_hub import constants
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
from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

from stem_core.errors import HubAccessError, HubError, HubMissingError, HubOfflineError

__all__ = [
    "TRIES",
    "endpoint",
    "is_offline",
    "may_pass",
    "pause",
    "retry",
    "token",
    "translate_hub_errors",
]

TRIES = 5
_LONGEST_WAIT_S = 30.0
_PAUSE_S = 1.0
T = TypeVar("T")


def token() -> str | bool:
    """Return the token of the environment, or False: none that lies stored on this machine."""
    return os.environ.get("HF_TOKEN", "").strip() or False


def endpoint() -> str:
    """Return the address of the Hub or its mirror (`HF_ENDPOINT`)."""
    return constants.ENDPOINT


def is_offline() -> bool:
    """Tell whether `HF_HUB_OFFLINE` forbids the network."""
    return bool(constants.is_offline_mode())


def may_pass(error: Exception) -> bool:
    """Tell whether asking again may help: no connection, too many requests, the Hub is down."""
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        return status in (408, 429) or status >= 500
    return isinstance(error, httpx.TransportError) and not isinstance(error, httpx.ConnectError)


def pause(error: Exception, attempt: int) -> None:
    """Wait before asking again: as long as the Hub asks for, or twice as long as the last time."""
    wait_s = _PAUSE_S * 2**attempt
    if isinstance(error, HfHubHTTPError):
        asked = error.response.headers.get("Retry-After", "")
        if asked.isdigit():
            wait_s = float(asked)
    time.sleep(min(wait_s, _LONGEST_WAIT_S))


def retry(ask: Callable[[], T], tries: int = TRIES) -> T:
    """Ask again, a few times, what may pass; once what the client itself asks again."""
    for attempt in range(tries):
        try:
            return ask()
        except (httpx.TransportError, HfHubHTTPError) as error:
            if attempt == tries - 1 or not may_pass(error):
                raise
            pause(error, attempt)
    raise AssertionError


@contextmanager
def translate_hub_errors(repo: str, revision: str | None) -> Iterator[None]:
    """Turn what the client raises into our errors."""
    try:
        yield
    except (HfHubHTTPError, httpx.TransportError, OfflineModeIsEnabled) as error:
        raise _translated(error, repo, revision) from error
    except LocalEntryNotFoundError as error:
        cause = error.__cause__
        known = isinstance(cause, HfHubHTTPError | httpx.TransportError | OfflineModeIsEnabled)
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
    if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
        return HubMissingError(
            f"The repository {repo} does not have a file of the model at revision "
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
