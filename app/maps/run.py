"""A finished run, opened for a page: one value that the parts of the page are given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from app.maps.runs import open_values
from app.maps.tiles import slide_description
from app.maps.values import MapValues
from stem_core.analysis.regions import Region
from stem_core.prediction.result import Prediction

__all__ = ["Run"]


@dataclass(frozen=True)
class Run:
    """What the pages show of a finished run.

    Attributes
    ----------
    id
        Of the run.
    values
        What was predicted, measured and drawn, layer by layer.
    slide
        What the viewer needs to show the slide, see `app.maps.tiles`.
    regions
        Regions as the page has them, in order.
    """

    id: str
    values: MapValues
    slide: dict[str, Any]
    regions: tuple[Region, ...] = ()

    @classmethod
    def open(cls, run_id: str) -> Run:
        """Open a run by its id; what was read before is kept while there is room.

        Raises
        ------
        JobError
            The id is malformed or unknown, or the run has no result (yet).
        OutputError
            A file of the result is damaged.
        """
        return cls(run_id, open_values(run_id), slide_description(run_id))

    @property
    def prediction(self) -> Prediction:
        """The result."""
        return self.values.prediction

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of the slide in level-0 pixels."""
        return int(self.slide["width_px"]), int(self.slide["height_px"])

    @property
    def base(self) -> str:
        """Address of its tiles and values on this server."""
        return f"/api/runs/{self.id}"
