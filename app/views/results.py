"""Results: a run's progress until it is done, then its gene maps and its files."""

from __future__ import annotations

import numpy as np
import streamlit as st

from app.components import map_controls, slide_map
from app.components.downloads import show_downloads
from app.components.gene_choice import pick_gene, pick_order
from app.components.map_view import box_to_show, watch_view
from app.components.model_cards import manifests_by_name
from app.components.run_choice import chosen_run, opened
from app.components.run_progress import show_progress
from app.components.wording import STATE_BADGES, band_words, own_names, plain, run_words
from app.state import Keys, job_queue
from stem_core.errors import StemError

MAP_HEIGHT_PX = 660
UNITS = "log2(1 + count)"
MANY_FAR = 0.25  # where 5 % are usual


@st.cache_data(max_entries=24, show_spinner=False)
def backdrop(path: str, modified_ns: int, brightness: float, grey: bool) -> str:
    """Return the picture behind the map as a data address."""
    return slide_map.jpeg_url(opened(path, modified_ns).thumbnail, brightness, grey)


run_id, status = chosen_run("Results")
manifest = manifests_by_name().get(status.request.model)
words, icon, colour = STATE_BADGES[status.state]
with st.container(horizontal=True, vertical_alignment="center"):
    st.subheader(plain(status.request.slide_name), width="content")
    if status.state != "done":
        st.badge(words, icon=icon, color=colour)
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
file = result_dir / "prediction.h5ad"
version = (str(file), file.stat().st_mtime_ns)
with st.skeleton(height=MAP_HEIGHT_PX):
    try:
        prediction = opened(*version)
    except StemError as error:
        st.error(plain(str(error)), icon=":material/error:")
        st.stop()
spots = prediction.spots
head = st.container()
place, controls = st.columns([5, 2], gap="medium")
with controls:
    order = pick_order(prediction)
with head:
    gene = pick_gene(prediction, order)
    st.page_link(
        "views/maps.py", label="Compare maps side by side, zoom to the cells, measure regions",
        icon=":material/grid_view:", query_params={Keys.RUN_PARAMETER: run_id},
    )  # fmt: skip
column = prediction.symbols.index(gene)
mean, std = prediction.mean[:, column], prediction.std[:, column]
lower, upper = prediction.q05[:, column], prediction.q95[:, column]
domain = prediction.domain_distance
if domain is None:
    domain = np.full(len(spots), np.nan, np.float32)

with controls:
    layer = map_controls.pick_layer(has_domain=prediction.domain_distance is not None)
    values = {
        "prediction": mean, "spread": std, "lower": lower, "upper": upper,
    }.get(layer, domain)  # fmt: skip
    unit = "" if layer == "domain" else UNITS
    limits = map_controls.pick_limits(values, unit)
    look = map_controls.pick_look()

height_px, width_px = prediction.thumbnail.shape[:2]
um_per_px = prediction.mpp / prediction.thumbnail_scale
size_um = (width_px * um_per_px, height_px * um_per_px)
x_um, y_um = spots.x_px * prediction.mpp, spots.y_px * prediction.mpp
shade = np.clip((values - limits[0]) / (limits[1] - limits[0]) * 255, 0, 255).astype(np.uint8)
discs = slide_map.disc_layer(
    x_um, y_um, spots.diameter_um * look.spot_size, shade, slide_map.palette(look.scale), size_um
)
figure = slide_map.slide_figure(
    [(backdrop(*version, look.brightness, look.grey), 1.0), (discs, look.opacity)],
    size_um,
    height_px=MAP_HEIGHT_PX,
    view=run_id,
    box_um=box_to_show(
        run_id,
        (gene, layer, limits, look),
        slide_map.box_around(x_um, y_um, spots.diameter_um, size_um),
    ),
)
domain_words = "domain distance %{customdata[4]:.2f}<br>"
if prediction.domain_distance is None:
    domain_words = ""
slide_map.add_values(
    figure, x_um, y_um, values,
    ids=spots.ids,
    details=np.column_stack([mean, std, lower, upper, domain]),
    hover=(
        f"<b>{gene}  %{{customdata[0]:.2f}} ± %{{customdata[1]:.2f}}</b> {UNITS}<br>"
        "90 % band %{customdata[2]:.2f} to %{customdata[3]:.2f}<br>"
        f"{domain_words}"
        "spot %{text}<br>x %{x:,.0f} µm, y %{y:,.0f} µm<extra></extra>"
    ),
    scale=look.scale, limits=limits,
    title=(
        "Domain distance" if layer == "domain"
        else f"{gene}: {map_controls.LAYERS[layer].lower()}, {UNITS}"
    ),
)  # fmt: skip
with place:
    st.plotly_chart(
        figure, key="map", config=slide_map.CHART_CONFIG,
        alt=f"{map_controls.LAYERS[layer]} of {gene} over the H&E image",
    )  # fmt: skip
    size = "at" if look.spot_size == 1 else f"{look.spot_size:.2g} times as large as"
    st.caption(
        f"Spots are drawn {size} their physical size ({spots.diameter_um:g} µm) and grow with the "
        "zoom. Wheel: zoom · drag: move · double click: back."
    )
    watch_view("map", run_id)

far = float((domain > 1).mean())
if prediction.domain_distance is None:
    trust = (
        "Nothing here tells how far this tissue is from what the model was trained on: the model "
        "came without the statistics of its training tissue."
    )
else:
    trust = (
        f"Domain distance: median {np.median(domain):.2f}; "
        f"{far:.0%} of the spots are above 1. ".replace("%", " %")
        + "At 1 a spot looks as unusual as the most unusual 5 % of the training spots."
    )
if far > MANY_FAR:
    st.warning(
        f"Much of this tissue looks unlike what the model was trained on, so take its values with "
        f"care. {trust}",
        icon=":material/warning:",
    )
else:
    st.caption(trust)

if manifest is not None:
    st.caption(band_words(manifest))

st.markdown("**Download**")
show_downloads(run_id, result_dir)
