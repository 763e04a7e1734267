"""Under which names this server may be addressed.

A page of another site can make a browser send requests to a server on the same machine under a name
of its own (DNS rebinding). So a server that listens on loopback answers to loopback names alone,
and any server answers only to the names in `STEM_ALLOWED_HOSTS` where that is set
(comma-separated, `*.example.org` allowed; needed behind a reverse proxy).
"""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["OwnPagesOnly", "allowed_hosts", "from_same_origin", "public_names"]

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


class OwnPagesOnly:
    """Middleware: a WebSocket is opened by this server's own pages, or by those of a public name.

    Streamlit checks this too, but asks a public service for this machine's address to do so.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on but the WebSockets of other sites' pages."""
        if scope["type"] == "websocket":
            headers = Headers(scope=scope)
            origin = urlsplit(headers.get("origin", ""))
            known = (headers.get("host", "").lower(), *public_names())
            if "origin" in headers and origin.netloc.lower() not in known:
                await send({"type": "websocket.close", "code": 1008})
                return
        await self.app(scope, receive, send)
