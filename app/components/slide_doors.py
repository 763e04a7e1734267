"""The ways in for a slide: upload, the synthetic sample, the server's own folder."""

from __future__ import annotations

import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from app import paths, uploads
from app.components.big_upload import big_upload
from app.components.slide_cache import slide_facts
from app.components.wording import own_names, plain
from app.state import ChosenFile, Keys
from stem_core.errors import StemError

__all__ = ["draw_sample", "show_slide_doors", "store_chosen"]

UPLOAD_LIMIT_MB = 2000


def show_slide_doors() -> None:
    """Show the doors; a slide that came through one lies in the session state afterwards."""
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
    """Draw the chosen sample if it is not there yet; without it, go back to the doors.

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
