"""Maps: up to six gene maps over the slide at full resolution, side by side, with regions."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from app.components import map_controls
from app.components.gene_finder import Genes
from app.components.gene_lists import show_gene_lists
from app.components.grey_out import greyed_words, mutes_of, pick_limits
from app.components.map_address import view_of_address
from app.components.map_exports import show_map_exports
from app.components.map_panels import offer_more_panels, pick_panels, show_maps
from app.components.measured_tools import show_measured
from app.components.model_cards import manifests_by_name
from app.components.region_tools import (
    offer_lost_regions,
    regions_of,
    show_regions,
)
from app.components.run_choice import chosen_run
from app.components.trust import offer_model_details, show_domain, show_model, trust_badge
from app.components.wording import own_names, plain, run_words
from app.maps.panels import panels_of
from app.maps.run import Run
from app.maps.runs import measured_version
from app.state import Keys
from stem_core.errors import StemError

# On a narrow page the gene lists leave the maps little room: no wide margins there.
NARROW_STYLE = (
    "<style>@media (max-width: 1100px) {[data-testid=stMainBlockContainer] "
    "{padding-left: 1.5rem; padding-right: 1.5rem}}</style>"
)
MODES = {"pan": "Move", "lasso": "Lasso", "box": "Box"}

st.html(NARROW_STYLE)
offer_lost_regions()
run_id, status = chosen_run("Maps")
manifest = manifests_by_name().get(status.request.model)
with st.container(horizontal=True, vertical_alignment="center"):
    st.subheader(f"Maps of {plain(status.request.slide_name)}", width="content")
    if manifest is not None:
        offer_model_details(manifest)
st.caption(run_words(status, manifest))
if status.state != "done":
    st.markdown("This run has no result (yet).")
    st.page_link("views/results.py", label="See how it is doing", icon=":material/map:")
    st.stop()
try:
    run = Run.open(run_id)
except StemError as error:
    st.error(plain(str(error)), icon=":material/error:")
    st.stop()
run = replace(run, regions=regions_of(run_id))
prediction, values = run.prediction, run.values

show_model(manifest, status.request.model)
show_domain(prediction.domain_distance)
with st.container():  # one element, however many choices: the maps below stay the same ones
    layers, active = pick_panels(values, Genes.of(prediction), status.request.model)
with st.container(horizontal=True, vertical_alignment="center"):
    mode = st.segmented_control(
        "Dragging", list(MODES), default="pan", required=True, format_func=MODES.__getitem__,
        key="maps_mode", label_visibility="collapsed", width="content",
    )  # fmt: skip
    shared = st.toggle(
        "Shared colour range", value=True, key="maps_shared",
        help="Maps of one unit have one range; spreads have one of their own.",
    )  # fmt: skip
    with st.popover("Look", icon=":material/tune:"):
        percentiles = st.slider(
            "Colour range, percentiles of the spots", 0, 100, (1, 99), format="%d %%",
            key="maps_percentiles",
        )  # fmt: skip
        scale, look = map_controls.pick_look()
    limits = pick_limits(run_id, has_domain=values.has_domain)
    offer_more_panels(layers, active)
    save_place = st.container(width="content")
panels = panels_of(
    values, layers, scale, percentiles, shared=shared, version=measured_version(run_id)
)
panels = [
    replace(
        panel,
        badge=None  # the figures are those of the mean of all draws
        if panel.layer.kind in ("draw", "baseline")
        else trust_badge(prediction, panel.layer.genes, manifest),
        mutes=mutes_of(values, panel.layer, limits),
    )
    for panel in panels
]
with save_place:
    show_map_exports(run, panels, look, view_of_address)
show_maps(run, panels=panels, look=look, mode=mode or "pan")
for words in greyed_words(values, layers, limits):
    st.caption(f":material/blur_on: {words}")
if run.slide.get("note"):
    st.caption(plain(own_names(str(run.slide["note"]), status.request.slide_name)))
st.caption(
    "Wheel: zoom · drag: move · double click: all spots · the address keeps maps and view. Spots "
    f"are drawn at their physical size ({prediction.spots.diameter_um:g} µm)."
    if look.spot_size == 1
    else "Wheel: zoom · drag: move · double click: all spots · the address keeps maps and view."
)
with st.sidebar:
    show_gene_lists(run, layers, active)
show_regions(run, layers)
genes = [gene for layer in layers for gene in layer.genes]
show_measured(run, genes[0] if genes else prediction.symbols[0])
st.page_link(
    "views/results.py", label="Back to the result and its files", icon=":material/map:",
    query_params={Keys.RUN_PARAMETER: run_id},
)  # fmt: skip
st.page_link(
    "views/compare.py", label="Compare with another run of this slide", icon=":material/compare:",
    query_params={Keys.RUN_PARAMETER: run_id},
)  # fmt: skip
