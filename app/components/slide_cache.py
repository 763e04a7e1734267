"""What the pages need of an uploaded slide, kept between reruns.

Keyed by the upload's unguessable id, so that nobody meets another's slide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from app import uploads
from app.jobs.model import JobRequest
from app.jobs.spots_file import choose_spots
from stem_core.model.config import SpotLayout
from stem_core.slides.reading import open_slide
from stem_core.slides.spots import Spots
from stem_core.slides.tissue import TissueMask, find_tissue

__all__ = ["SlideFacts", "slide_facts", "slide_spots", "slide_thumbnail", "slide_tissue"]

THUMBNAIL_PX = 1400


@dataclass(frozen=True)
class SlideFacts:
    """What a slide says about itself; `mpp` in microns per level-0 pixel."""

    width_px: int
    height_px: int
    mpp: float | None
    mpp_source: str
    format: str


@st.cache_data(max_entries=64, show_spinner=False)
def slide_facts(upload_id: str, mpp: float | None) -> SlideFacts:
    """Open a slide and tell about it; raises SlideError."""
    with open_slide(uploads.upload_path(upload_id), mpp=mpp) as slide:
        return SlideFacts(
            slide.width_px, slide.height_px, slide.mpp, slide.mpp_source, slide.format
        )


@st.cache_data(max_entries=8, show_spinner=False)
def slide_thumbnail(upload_id: str) -> NDArray[np.uint8]:
    """Return a small picture of the whole slide."""
    with open_slide(uploads.upload_path(upload_id)) as slide:
        return slide.thumbnail(THUMBNAIL_PX)


@st.cache_data(max_entries=8, show_spinner=False)
def slide_tissue(upload_id: str) -> TissueMask:
    """Return where there is tissue; raises NoTissueError."""
    with open_slide(uploads.upload_path(upload_id)) as slide:
        return find_tissue(slide)


@st.cache_data(max_entries=16, show_spinner=False)
def slide_spots(request_json: str, trained_on: tuple[str, float, float]) -> Spots:
    """Return the spots a run with this request would have; raises SpotsError, SettingsError."""
    request = JobRequest.from_json(request_json)
    kind, pitch_um, diameter_um = trained_on
    layout = SpotLayout.model_validate(
        {"kind": kind, "pitch_um": pitch_um, "spot_diameter_um": diameter_um}
    )
    with open_slide(uploads.upload_path(request.upload_id), mpp=request.mpp) as slide:
        return choose_spots(request, layout, slide, slide_tissue(request.upload_id))
