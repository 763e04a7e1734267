"""What the app's own addresses answer with: headers for private data, and refusals."""

from __future__ import annotations

from starlette.responses import JSONResponse

__all__ = ["PRIVATE_HEADERS", "refusal"]

PRIVATE_HEADERS = {
    "Cache-Control": "private, no-store",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def refusal(status: int, sentence: str) -> JSONResponse:
    """Answer with one sentence that says what to do."""
    return JSONResponse({"error": sentence}, status_code=status, headers=PRIVATE_HEADERS)
