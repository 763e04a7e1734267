"""The sources of a slide: upload, large upload, the synthetic sample, the server's folder."""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from app import paths, uploads
from app.components.slide_cache import slide_facts
from app.components.wording import own_names, plain
from app.jobs.model import check_upload_id
from app.state import ChosenFile, Keys
from stem_core.errors import StemError

__all__ = ["big_upload", "draw_sample", "show_slide_sources", "store_chosen"]

UPLOAD_LIMIT_MB = 2000


def show_slide_sources() -> None:
    """Offer all sources of a slide; the chosen slide is in the session state afterwards."""
    upload, other = st.columns([3, 2], gap="medium")
    with upload:
        turn = st.session_state[Keys.UPLOADER_TURN]
        file = st.file_uploader(
            f"H&E image, up to {UPLOAD_LIMIT_MB / 1000:g} GB",
            type=[suffix[1:] for suffix in uploads.SLIDE_SUFFIXES],
            max_upload_size=UPLOAD_LIMIT_MB,
            key=f"slide_upload_{turn}",
            help="Whole-slide formats, and plain TIFF, PNG or JPEG: 8-bit brightfield colour.",
        )
        if file is not None:
            with st.spinner("Checking the image …", show_time=True):
                _take(file)
            st.session_state[Keys.UPLOADER_TURN] += 1  # a new widget: the page forgets the bytes
            st.rerun()
        if st.session_state[Keys.SLIDE_FAULT]:
            st.error(st.session_state[Keys.SLIDE_FAULT], icon=":material/error:")
        with st.expander("A larger file: straight to the server's disk"):
            large = big_upload(f"big_upload_{turn}")
            if large is not None:
                _choose(large)
                st.rerun()
    with other:
        st.markdown("No image at hand?")
        st.button(
            "Open the synthetic sample", icon=":material/science:", key="open_sample",
            on_click=_choose_sample,
        )  # fmt: skip
        st.caption("Drawn by this program, not a patient's tissue: for trying things out only.")
        if paths.slide_dir() is not None:
            _show_server_folder()


def draw_sample() -> None:
    """Draw the chosen sample if it is not there yet; without it, offer the sources again.

    On each run of the page: another click, made while it was being drawn, must not lose the choice.
    """
    try:
        with st.spinner("Opening the sample; it is drawn on first use …", show_time=True):
            uploads.register_sample()
    except StemError as error:
        st.session_state[Keys.SLIDE] = None
        st.session_state[Keys.SLIDE_FAULT] = plain(str(error))
        st.rerun()


def store_chosen(file: UploadedFile) -> ChosenFile:
    """Write an uploaded file to disk; its name is kept for display only."""
    return ChosenFile(uploads.store_upload(file, file.name).id, file.name)


def _choose_sample() -> None:
    st.session_state[Keys.SLIDE] = ChosenFile(uploads.SAMPLE_UPLOAD_ID, "Synthetic sample")
    st.session_state[Keys.SLIDE_FAULT] = st.session_state[Keys.SPOTS_FILE] = None


def _take(file: UploadedFile) -> None:
    try:
        chosen = store_chosen(file)
    except StemError as error:
        st.session_state[Keys.SLIDE_FAULT] = plain(str(error))
        return
    _choose(chosen)


def _choose(chosen: ChosenFile) -> None:
    """Keep the slide if it can be opened, else the reason."""
    st.session_state[Keys.SLIDE] = None
    st.session_state[Keys.SLIDE_FAULT] = None
    try:
        slide_facts(chosen.upload_id, None)
    except StemError as error:
        st.session_state[Keys.SLIDE_FAULT] = plain(own_names(str(error), chosen.name))
        uploads.remove_upload(chosen.upload_id)
        return
    st.session_state[Keys.SLIDE] = chosen
    st.session_state[Keys.SPOTS_FILE] = None


def _show_server_folder() -> None:
    places = uploads.list_server_slides()
    if not places:
        st.caption("The server's slide folder is empty.")
        return
    place = st.selectbox(
        "Slide on the server", places, index=None, placeholder="Type to search", key="server_slide"
    )
    if st.button("Open", disabled=place is None, key="open_server_slide") and place:
        try:
            _choose(ChosenFile(uploads.register_server_slide(place).id, place.rsplit("/", 1)[-1]))
        except StemError as error:
            st.session_state[Keys.SLIDE_FAULT] = plain(str(error))
        st.rerun()


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
