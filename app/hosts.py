"""Under which names this server may be addressed.

A page of another site can make a browser send requests to a server on the same machine under a name
of its own (DNS rebinding). So a server that listens on loopback answers to loopback names alone,
and any server answers only to the names in `STEM_ALLOWED_HOSTS` where that is set
(comma-separated, `*.example.org` allowed; needed behind a reverse proxy).
"""

from __future__ import annotations

import os

from starlette.datastructures import Headers

__all__ = ["allowed_hosts", "from_same_origin", "public_names"]

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1", "[::1]")


def public_names() -> list[str]:
    """Return the names in `STEM_ALLOWED_HOSTS`, in order; empty where it is not set."""
    return [
        name.strip() for name in os.environ.get("STEM_ALLOWED_HOSTS", "").split(",") if name.strip()
    ]


def allowed_hosts(listening_on: str | None) -> list[str]:
    """Return the host names to answer to, given the address that is listened on."""
    names = public_names()
    if not names and listening_on not in LOOPBACK_NAMES:
        return ["*"]
    return [*LOOPBACK_NAMES, *names]


def from_same_origin(headers: Headers) -> bool:
    """Whether a request that changes something comes from a page of this very server.

    Browsers send `Origin` with every such request and pages cannot forge it; without it the
    request is refused.
    """
    origin, host = headers.get("origin", ""), headers.get("host", "")
    if headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return False
    return bool(host) and origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}")
