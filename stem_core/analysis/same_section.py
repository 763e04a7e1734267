"""Whether a measured file and a predicted slide are one section, as far as can be told.

Names and places of spots are alike on other sections: barcodes of Visium are the same on all, a
dense array has a spot near any place, and the grids of older arrays coincide. The size of the image
and the names of the files tell more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from stem_core.analysis.matching import Measured, section_name
from stem_core.analysis.variogram import Floats
from stem_core.errors import EvaluationError
from stem_core.prediction.result import Prediction

__all__ = ["ImageSize", "doubts_of", "refuse_other_image"]

_SIZE_SLACK = 0.01  # of an image's side: one that differs by more is another image
_APART_PX = 2.0  # positions written as whole numbers are off by less
_MANY_ALONE = 0.1  # of the spots of either side


@dataclass(frozen=True)
class ImageSize:
    """Width and height of an image.

    Attributes
    ----------
    size_px
        float64 (2,), level-0 pixels.
    rounding_px
        How much a side may be off, as it was worked out from a small picture.
    """

    size_px: Floats
    rounding_px: float

    def __str__(self) -> str:
        """Write it for people."""
        return f"{self.size_px[0]:,.0f} × {self.size_px[1]:,.0f} px"


def refuse_other_image(image: ImageSize, prediction: Prediction, source: str) -> None:
    """Refuse a section that was measured on an image of another size than the slide.

    Raises
    ------
    EvaluationError
        A side differs by more than 1 % and what rounding explains; `source` is what the error calls
        the section.
    """
    slide = _image_of(prediction)
    off_px, rounding_px = _off_px(image, slide)
    if (off_px > _SIZE_SLACK * slide.size_px + rounding_px).any():
        msg = (
            f"{source} was measured on an image of about {image}, and this slide has {slide}; is "
            "it another section? If it is this one, give positions in level-0 pixels of this "
            "slide, and leave the picture out."
        )
        raise EvaluationError(msg)


def doubts_of(
    prediction: Prediction, measured: Measured, image: ImageSize | None
) -> tuple[str, ...]:
    """Say what speaks against a prediction and its measurement being of one section.

    Parameters
    ----------
    prediction, measured
        Brought together by `stem_core.analysis.matching.match_measured`.
    image
        That the section was measured on, where its file tells.

    Returns
    -------
    tuple of str
        Sentences: one on names, images and places, and one on spots that only one of the two has.
    """
    facts, found = [], []
    ours = section_name(prediction.slide_name)
    one, other = (set(re.findall(r"[^\W_]+", name.casefold())) for name in (measured.name, ours))
    if measured.name and not (one <= other or other <= one):  # C5_counts is C5
        facts.append(f"the measured file is called {measured.name}, the slide {ours}")
    if image is not None:
        slide = _image_of(prediction)
        off_px, rounding_px = _off_px(image, slide)
        if (off_px > rounding_px).any():
            facts.append(f"the measured image has about {image}, the slide {slide}")
    if measured.apart_px > _APART_PX:
        facts.append(f"spots of one name lie {measured.apart_px:,.0f} px apart (median)")
    if facts:
        text = "; ".join(facts)
        found.append(f"{text[0].upper()}{text[1:]}: make sure that they are one section.")
    n, m, both = len(measured.spots), measured.n_measured, int(measured.spots.sum())
    if n - both > _MANY_ALONE * n or m - both > _MANY_ALONE * m:
        found.append(
            f"{n - both:,} of {n:,} predicted spots were not measured and {m - both:,} of {m:,} "
            "measured ones not predicted: they are left out."
        )
    return tuple(found)


def _off_px(image: ImageSize, slide: ImageSize) -> tuple[Floats, float]:
    """How much the sides of two images differ, and how much they may by rounding, pixels."""
    return np.abs(image.size_px - slide.size_px), image.rounding_px + slide.rounding_px


def _image_of(prediction: Prediction) -> ImageSize:
    recorded = prediction.run.get("slide")
    if isinstance(recorded, dict) and {"width_px", "height_px"} <= recorded.keys():
        sides = recorded["width_px"], recorded["height_px"]
        return ImageSize(np.array(sides, dtype=np.float64), 0.0)
    shown_px = np.array(prediction.thumbnail.shape[1::-1])
    return ImageSize(shown_px / prediction.thumbnail_scale, 2 / prediction.thumbnail_scale)
