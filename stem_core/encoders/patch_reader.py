"""Read patches of a slide and prepare them for an encoder; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stem_core.encoders.preparation import Preparation, Prepared
from stem_core.slides.patches import read_patches
from stem_core.slides.reading import Slide

__all__ = ["PatchReader"]


@dataclass(frozen=True)
class PatchReader:
    """What is done to places before an encoder embeds them; thread-safe, and can be pickled.

    Attributes
    ----------
    slide, size_px, side_um, side_px
        As for `read_patches`.
    preparation
        Of the encoder.
    """

    slide: Slide
    size_px: int
    side_um: float | None
    side_px: float | None
    preparation: Preparation

    def __call__(self, x_px: NDArray[np.float64], y_px: NDArray[np.float64]) -> Prepared:
        """Read and prepare the patches around places, (N,) each; errors as `read_patches`."""
        patches = read_patches(
            self.slide,
            x_px,
            y_px,
            size_px=self.size_px,
            side_um=self.side_um,
            side_px=self.side_px,
        )
        return self.preparation(patches)
