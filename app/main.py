"""The entry of the pages: navigation and what every page shows."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app.state import start_session
from stem_core.constants import NOTICE

# An icon of our own: browsers fetch Streamlit's from another server.
ICON = Path(__file__).with_name("icon.svg")
# Streamlit writes white on all primary buttons, which cannot be read on the dark theme's colour.
STYLE = "<style>.stApp [kind^=primary] {color: light-dark(#fff, #0b1316)}</style>"

st.set_page_config(page_title="Stem in a browser", page_icon=ICON, layout="wide")
start_session()
st.html(STYLE)
page = st.navigation(
    [
        st.Page(
            "views/predict.py", title="Predict", icon=":material/biotech:",
            url_path="predict", default=True,
        ),
        st.Page("views/zoo.py", title="Models", icon=":material/category:", url_path="models"),
        st.Page("views/runs.py", title="Runs", icon=":material/list:", url_path="runs"),
        st.Page("views/results.py", title="Results", icon=":material/map:", url_path="results"),
        st.Page("views/maps.py", title="Maps", icon=":material/grid_view:", url_path="maps"),
        st.Page(
            "views/compare.py", title="Compare", icon=":material/compare:", url_path="compare"
        ),
    ],
    position="top",
)  # fmt: skip
# Above the page, because a page may stop early.
with st.container(horizontal=True, vertical_alignment="center", gap="small"):
    st.markdown("**Stem in a browser**", width="content")
    st.caption(NOTICE, width="content")
page.run()
