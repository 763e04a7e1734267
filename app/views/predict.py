"""Predict: choose a slide, a model and the spots, look at what will be predicted, run."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import streamlit as st

from app.components import slide_map
from app.components.model_cards import pick_model
from app.components.run_settings import Quality, pick_quality, pick_spots
from app.components.slide_cache import (
    slide_facts,
    slide_spots,
    slide_thumbnail,
    slide_tissue,
)
from app.components.slide_sources import draw_sample, show_slide_sources
from app.components.wording import count, length, own_names, plain
from app.jobs.model import JobRequest
from app.spots import unlike_training
from app.state import Keys, job_queue
from stem_core.errors import StemError
from stem_core.slides.tissue import TissueMask

PREVIEW_HEIGHT_PX = 520

run_id = st.query_params.get(Keys.RUN_PARAMETER)
if run_id:  # an address of a run: its progress and its result are on one page
    st.switch_page("views/results.py", query_params=st.query_params.to_dict())

st.title("Predict gene expression from an H&E image")

st.header("1 · Slide", divider="gray")
slide = st.session_state[Keys.SLIDE]
mpp = None
facts = None
if slide is None:
    show_slide_sources()
else:
    if slide.is_sample:
        draw_sample()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f":material/image: **{plain(slide.name)}**", width="content")
        if slide.is_sample:
            st.badge("Synthetic, not a patient's tissue", color="orange")
        if st.button("Choose another slide", icon=":material/swap_horiz:", key="other_slide"):
            st.session_state[Keys.SLIDE] = None
            st.session_state[Keys.SPOTS_FILE] = None
            st.rerun()
    facts = slide_facts(slide.upload_id, None)
    if facts.mpp is None:
        mpp = st.number_input(
            "Microns per pixel of this image (µm/px)", value=None, step=0.01, format="%.4f",
            placeholder="The file does not say; ask who scanned it", key=f"mpp_{slide.upload_id}",
            width=420, persist_state="session",
            help="At full resolution: usually about 0.25 for a 40× scan and 0.5 for 20×. "
            "A wrong value gives patches of the wrong size and a wrong prediction.",
        )  # fmt: skip
        if mpp is not None:
            try:
                facts = slide_facts(slide.upload_id, float(mpp))
            except StemError as error:
                st.error(plain(own_names(str(error), slide.name)), icon=":material/error:")
                mpp = None
    size_px = f"{facts.width_px:,} × {facts.height_px:,} px".replace(",", "\u202f")
    if facts.mpp is None:
        st.caption(f"{size_px}. The image cannot be measured without its microns per pixel.")
    else:
        origin = "from the file" if facts.mpp_source == "metadata" else "given by you"
        width, height = (length(side * facts.mpp) for side in (facts.width_px, facts.height_px))
        st.caption(
            f"{size_px} · {facts.mpp:.4g} µm/px ({origin}) · so the image covers "
            f"{width} × {height}; check that this fits the section."
        )

st.header("2 · Model", divider="gray")
st.caption("Nothing in an image tells its organ: choose the model that matches the tissue.")
entry = pick_model()

st.header("3 · Spots and run", divider="gray")
if slide is None or facts is None or facts.mpp is None or entry is None:
    missing = [
        words
        for words, lacks in (
            ("a slide", slide is None),
            ("its microns per pixel", facts is not None and facts.mpp is None),
            ("a model", entry is None),
        )
        if lacks
    ]
    st.caption(f"Still to choose: {', '.join(missing)}.")
    st.session_state.pop(Keys.RUN_ASKED, None)
    st.stop()

manifest = entry.manifest
trained_on = manifest.layout
controls, preview = st.columns([2, 3], gap="large")
with controls:
    choice = pick_spots(trained_on)
    notes = st.empty()
    notes.caption(":material/hourglass_empty: Finding the tissue and placing the spots …")
    quality_place = st.container()
    run_place = st.container()

spots = None
spots_file = st.session_state[Keys.SPOTS_FILE]
spots_name = spots_file.name if spots_file else None
draft = JobRequest(
    upload_id=slide.upload_id, slide_name=slide.name, model=entry.name,
    mpp=None if mpp is None else float(mpp), **asdict(Quality.of_preset(manifest, "standard", 0)),
    spots_kind="layout" if choice is None else choice.kind,
    layout=choice.layout if choice else None, pitch_um=choice.pitch_um if choice else None,
    spots_upload_id=choice.spots_upload_id if choice else None,
)  # fmt: skip
with preview, st.skeleton(height=PREVIEW_HEIGHT_PX):
    fault = None
    tissue: TissueMask | None = None
    try:
        tissue = slide_tissue(slide.upload_id)
        if choice is not None:
            spots = slide_spots(
                draft.to_json(),
                (trained_on.kind, trained_on.pitch_um, trained_on.spot_diameter_um),
            )
    except StemError as error:
        fault = plain(own_names(str(error), slide.name, spots_name))
    size_um = (facts.width_px * facts.mpp, facts.height_px * facts.mpp)
    layers = [(slide_map.jpeg_url(slide_thumbnail(slide.upload_id)), 1.0)]
    if tissue is not None:
        layers.append((slide_map.tissue_layer(tissue.mask), 1.0))
    if spots is not None:
        x_um, y_um = spots.x_px * facts.mpp, spots.y_px * facts.mpp
        layers.append(
            (slide_map.ring_layer(x_um, y_um, spots.diameter_um, spots.in_tissue, size_um), 1.0)
        )
    figure = slide_map.slide_figure(
        layers, size_um, height_px=PREVIEW_HEIGHT_PX, view=slide.upload_id
    )
    slide_map.add_anchor(figure, size_um)
    st.plotly_chart(
        figure, key="preview", config=slide_map.CHART_CONFIG,
        alt=f"Tissue and spots on {slide.name}",
    )  # fmt: skip
    if tissue is not None:
        words = (
            f"Tissue covers {100 * tissue.fraction():.0f}\u00a0% of the image (the rest is veiled)."
        )
        if spots is not None:
            off = int(np.count_nonzero(~spots.in_tissue))
            words += f" Circles show the spots at their size: {spots.diameter_um:g} µm."
            if off:
                words += f" Orange: {count(off, 'spot')} off the tissue, predicted all the same."
        st.caption(words)

with notes.container():
    if fault:
        st.error(fault, icon=":material/error:")
    elif spots is not None:
        st.markdown(f"**{count(len(spots), 'spot')}** will be predicted.")
        warning = unlike_training(spots, trained_on)
        if warning:
            st.warning(warning, icon=":material/warning:")
with quality_place:
    tissue_um2 = None if tissue is None else tissue.fraction() * size_um[0] * size_um[1]
    quality = pick_quality(manifest, len(spots) if spots is not None else None, tissue_um2)
with run_place:
    # Remembered, so that another click, made before the page got here, does not lose it.
    st.button(
        "Run prediction", type="primary", icon=":material/play_arrow:", width="stretch",
        disabled=spots is None, key="run_prediction",
        on_click=lambda: st.session_state.update({Keys.RUN_ASKED: True}),
    )  # fmt: skip
    if st.session_state.pop(Keys.RUN_ASKED, False) and spots is not None:
        request = replace(draft, **asdict(quality))
        try:
            new_run = job_queue().submit(request)
        except StemError as error:
            st.error(plain(str(error)), icon=":material/error:")
        else:
            st.session_state[Keys.LAST_RUN] = new_run
            st.switch_page("views/results.py", query_params={Keys.RUN_PARAMETER: new_run})
    if not job_queue().worker_alive():
        st.caption(
            ":material/hourglass_empty: No worker answers at the moment: the run will wait until "
            "one is there."
        )
