"""Results: a run's progress until it is done, then its gene maps and its files."""

from __future__ import annotations

import streamlit as st

from app.components import map_controls
from app.components.downloads import show_downloads
from app.components.gene_choice import pick_gene, pick_order
from app.components.maps_viewer import maps_viewer
from app.components.model_cards import manifests_by_name
from app.components.run_choice import chosen_run
from app.components.run_progress import show_progress
from app.components.trust import show_domain
from app.components.wording import STATE_BADGES, band_words, own_names, plain, run_words
from app.maps.layers import KINDS
from app.maps.panels import Panel, details_of, hex_colours
from app.maps.run import Run
from app.state import Keys, job_queue
from stem_core.errors import StemError

MAP_HEIGHT_PX = 660

run_id, status = chosen_run("Results")
manifest = manifests_by_name().get(status.request.model)
words, icon, colour = STATE_BADGES[status.state]
with st.container(horizontal=True, vertical_alignment="center"):
    st.subheader(plain(status.request.slide_name), width="content")
    if status.state != "done":
        st.badge(words, icon=icon, color=colour)
    else:
        st.page_link(
            "views/maps.py", label="Compare maps side by side, measure regions",
            icon=":material/grid_view:", query_params={Keys.RUN_PARAMETER: run_id},
        )  # fmt: skip
st.caption(run_words(status, manifest))

if not status.finished:
    show_progress(run_id)
    st.stop()
if status.state != "done":
    if status.state == "failed":
        st.error(
            plain(own_names(status.message, status.request.slide_name)), icon=":material/error:"
        )
    else:
        st.markdown("This run was cancelled; it has no result.")
    st.page_link("views/predict.py", label="Start another prediction", icon=":material/biotech:")
    st.stop()

result_dir = job_queue().result_dir(run_id)
try:
    run = Run.open(run_id)
except StemError as error:
    st.error(plain(str(error)), icon=":material/error:")
    st.stop()
prediction, values = run.prediction, run.values
head = st.container()
place, controls = st.columns([5, 2], gap="medium")
with controls:
    order = pick_order(prediction)
with head:
    gene = pick_gene(prediction, order)
with controls:
    layer = map_controls.pick_layer(gene, has_domain=values.has_domain)
    limits = map_controls.pick_limits(values.layer(layer), layer.unit)
    scale, look = map_controls.pick_look()
title = KINDS[layer.kind].words
panel = Panel(
    layer, title if layer.kind == "domain" else f"{gene}: {title.lower()}", layer.unit,
    hex_colours(scale), *limits,
    spread=layer.another("std") if layer.kind == "mean" else None,
    details=details_of(layer, has_domain=values.has_domain),
)  # fmt: skip
with place:
    maps_viewer(
        "map",
        base=run.base,
        slide=run.slide,
        panels=[panel],
        look=look,
        spot_diameter_um=values.spot_diameter_um,
        height_px=MAP_HEIGHT_PX,
    )
    size = "at" if look.spot_size == 1 else f"{look.spot_size:.2g} times as large as"
    st.caption(
        f"Spots are drawn {size} their physical size ({values.spot_diameter_um:g} µm) and grow "
        "with the zoom. Wheel: zoom · drag: move · double click: all spots."
    )
    if run.slide.get("note"):
        st.caption(plain(own_names(str(run.slide["note"]), status.request.slide_name)))

show_domain(prediction.domain_distance)

if manifest is not None:
    st.caption(band_words(manifest))

st.markdown("**Download**")
show_downloads(run_id, result_dir)
