"""Where expression is predicted: the one choice of spots that pages and command line share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stem_core.model.config import LayoutKind, SpotLayout
from stem_core.slides.spots import Spots, lay_out_spots, read_spots

if TYPE_CHECKING:
    from stem_core.slides.reading import Slide
    from stem_core.slides.tissue import TissueMask

__all__ = ["domain_words", "layout_words", "place_spots", "platform_name", "unlike_training"]

_PLATFORMS = {"visium": "Visium", "st": "ST", "grid": "square grid"}
_UNLIKE = 0.25
_MANY_FAR = 0.25  # where 5 % are usual


def place_spots(
    slide: Slide,
    tissue: TissueMask,
    trained_on: SpotLayout,
    *,
    file: Path | None = None,
    layout: LayoutKind | None = None,
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


def unlike_training(spots: Spots, trained_on: SpotLayout) -> str | None:
    """Return a warning if the spots are unlike those the model was trained on, else None.

    The distance of neighbours and the spot diameter may differ by a quarter; measured spots are
    judged by the distance alone, since their file does not say how large they are.
    """
    unlike = _differs(spots.pitch_um, trained_on.pitch_um) or (
        spots.source != "measured" and _differs(spots.diameter_um, trained_on.spot_diameter_um)
    )
    pattern = spots.source != "measured" and "visium" in {spots.source, trained_on.kind}
    if not unlike and not (pattern and spots.source != trained_on.kind):
        return None
    here = f"{spots.diameter_um:g} µm"
    if spots.pitch_um is not None:
        here += f", {spots.pitch_um:.0f} µm apart"
    name = "Measured" if spots.source == "measured" else platform_name(spots.source)
    name = name[0].upper() + name[1:]
    return (
        f"These spots ({name}: {here}) are unlike the ones this model was trained on "
        f"({layout_words(trained_on)}). A spot's counts depend on its size and platform, so the "
        "predicted level may be wrong and the held-out figures do not apply."
    )


def domain_words(domain: NDArray[np.float32] | None) -> tuple[str, bool]:
    """Describe how unlike the training tissue the spots look.

    Parameters
    ----------
    domain
        Domain distance of each spot, (N,); None of a model that has none.

    Returns
    -------
    str, bool
        The sentences, and whether so many spots are far that they are a warning.
    """
    if domain is None:
        return (
            "Nothing here tells how far this tissue is from what the model was trained on: the "
            "model came without the statistics of its training tissue."
        ), False
    far = float((domain > 1).mean())
    words = (
        f"Domain distance: median {np.median(domain):.2f}; {100 * far:.0f}\u00a0% of the spots are "
        "above 1. At 1 a spot looks as unusual as the most unusual 5\u00a0% of the training spots."
    )
    if far <= _MANY_FAR:
        return words, False
    return (
        "Much of this tissue looks unlike what the model was trained on, so take its values with "
        f"care. {words}"
    ), True


def _differs(value: float | None, reference: float) -> bool:
    return value is not None and abs(value / reference - 1) > _UNLIKE


def platform_name(kind: str) -> str:
    """Return the usual name of a layout kind."""
    return _PLATFORMS.get(kind, kind)


def layout_words(layout: SpotLayout) -> str:
    """Return a training layout in words."""
    return (
        f"{platform_name(layout.kind)}, {layout.spot_diameter_um:g} µm spots, "
        f"{layout.pitch_um:g} µm apart"
    )
