"""Where expression is predicted: the one choice of spots that pages and command line share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from stem_core.slides.spots import Spots, lay_out_spots, read_spots

if TYPE_CHECKING:
    from stem_core.slides.reading import Slide
    from stem_core.slides.tissue import TissueMask
    from zoo.manifest import Layout

__all__ = ["place_spots"]


def place_spots(
    slide: Slide,
    tissue: TissueMask,
    trained_on: Layout,
    *,
    file: Path | None = None,
    layout: Literal["visium", "st", "grid"] | None = None,
    pitch_um: float | None = None,
) -> Spots:
    """Return the measured spots of a file, or spots laid out on the tissue.

    Parameters
    ----------
    slide, tissue
        The slide and where there is tissue on it.
    trained_on
        The layout of the model's training platform: taken where neither file nor layout is given;
        its spot diameter is also that of a grid and of measured spots without one of their own.
    file
        Measured spots; layout and pitch then do not matter.
    layout
        A platform's own layout, or a square grid.
    pitch_um
        Another distance between spots that are laid out.

    Raises
    ------
    SpotsError
        The spots file cannot be used, or the layout gives too many spots.
    SettingsError
        The pitch is out of range.
    NoTissueError
        No spot of the layout has enough tissue.
    MppError
        The slide's microns per pixel are not known.
    """
    if file is not None:
        spots = read_spots(file, slide, diameter_um=trained_on.spot_diameter_um)
        return spots.with_tissue(tissue, slide.require_mpp())
    diameter_um = trained_on.spot_diameter_um if layout in (None, "grid") else None
    if layout is None:
        layout = trained_on.kind
        pitch_um = trained_on.pitch_um if pitch_um is None else pitch_um
    return lay_out_spots(slide, tissue, layout, pitch_um=pitch_um, diameter_um=diameter_um)
