"""An upload for large files: from the browser straight to the server's disk.

Streamlit's own uploader holds a file in memory as long as its page is open; this one sends it to
the route of `app.server`, which writes it in pieces.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app import uploads
from app.jobs.model import check_upload_id
from app.state import ChosenFile
from stem_core.errors import StemError

__all__ = ["big_upload"]

UPLOAD_ADDRESS = "/api/uploads"
_HTML = """
<label>Large file<input type="file" /></label>
<progress max="1" hidden></progress>
<button type="button" hidden>Stop</button>
<output></output>
"""
_CSS = """
:host { font: inherit; }
label, output { display: block; color: var(--st-text-color); font-size: 0.875rem; }
input { display: block; margin: 0.4rem 0; color: var(--st-text-color); font: inherit;
  max-width: 100%; }
progress { width: 100%; accent-color: var(--st-primary-color); }
button { font: inherit; color: var(--st-text-color); background: var(--st-background-color);
  border: 1px solid var(--st-border-color); border-radius: var(--st-base-radius);
  padding: 0.2rem 0.7rem; cursor: pointer; }
"""
_component = st.components.v2.component(
    "stem_big_upload",
    html=_HTML,
    css=_CSS,
    js=Path(__file__).with_name("big_upload.js").read_text(encoding="utf-8"),
)


def big_upload(key: str) -> ChosenFile | None:
    """Show the upload; return the file once, in the rerun after it has arrived whole."""
    limit_gb = uploads.max_upload_bytes() / 1e9
    result = _component(
        key=key,
        data={
            "address": UPLOAD_ADDRESS,
            "label": f"H&E image, up to {limit_gb:g} GB",
            "accept": ",".join(uploads.SLIDE_SUFFIXES),
        },
        on_uploaded_change=lambda: None,
    )
    told = result.uploaded
    if not told:
        return None
    try:
        upload_id = check_upload_id(told.get("upload_id"))
        uploads.upload_path(upload_id)
    except StemError:
        return None  # a made-up id
    return ChosenFile(upload_id, str(told.get("name", ""))[:255] or "slide")
