"""All that one view of a result shows, gathered: what pictures and pages to send are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.maps.layers import Layer
from app.maps.panels import COLOUR_SCALES, Look, Panel, View, panels_of
from app.maps.picture_layout import MOST_MAPS
from app.maps.pyramid import Tile
from app.maps.run import Run
from app.maps.tiles import slide_box, thumbnail_box
from app.maps.values import MapValues
from stem_core.analysis.regions import Region
from stem_core.errors import SettingsError, SlideError
from stem_core.prediction.result import Prediction
from stem_core.slides.reading import Slide

__all__ = [
    "Frame",
    "Map",
    "Scene",
    "frame_of",
    "scene_of_layers",
    "scene_of_result",
    "scene_of_run",
]

_FLATTEST, _TALLEST = 0.5, 1.4
_MARGIN = 0.04  # of the spots' extent, as the viewer has it

Values = NDArray[np.float32]


@dataclass(frozen=True)
class Map:
    """One map: its panel, and a value for each of N spots."""

    panel: Panel
    values: Values


@dataclass(frozen=True)
class Scene:
    """What one view shows.

    Attributes
    ----------
    slide_name, model
        Whose maps these are, and what predicted them; text for people.
    width_px, height_px, mpp
        Size of the slide at level 0, microns per pixel.
    spot_diameter_um
        Diameter of a spot.
    positions
        Centres x, y of the N spots in level-0 pixels, float32 (N,2).
    ids
        Their names.
    maps
        One to six.
    look
        How they are drawn.
    view
        The part that is seen; None is all spots.
    regions
        Outlines to draw.
    read
        Gives the H&E image of a box of the slide as uint8 (h, w, 3).
    layer
        Gives the values of any layer of the result, float32 (N,).
    """

    slide_name: str
    model: str
    width_px: int
    height_px: int
    mpp: float
    spot_diameter_um: float
    positions: Values
    ids: tuple[str, ...]
    maps: tuple[Map, ...]
    look: Look
    view: View | None
    regions: tuple[Region, ...]
    read: Callable[[Tile], NDArray[np.uint8]]
    layer: Callable[[Layer], Values]

    def muted(self, one: Map) -> NDArray[np.bool_]:
        """Return which spots of a map are greyed out, bool (N,)."""
        grey = np.zeros(len(self.positions), bool)
        for mute in one.panel.mutes:
            grey |= self.layer(mute.layer) > np.float32(mute.above)
        return grey


@dataclass(frozen=True)
class Frame:
    """The box that is seen, in microns from the slide's corner."""

    left_um: float
    top_um: float
    width_um: float
    height_um: float

    def within(self, width_px: int, height_px: int, mpp: float) -> tuple[int, int, int, int] | None:
        """Return the part that lies on the slide as x, y, width, height in whole level-0 pixels."""
        left = max(0, int(np.floor(self.left_um / mpp)))
        top = max(0, int(np.floor(self.top_um / mpp)))
        right = min(width_px, int(np.ceil((self.left_um + self.width_um) / mpp)))
        bottom = min(height_px, int(np.ceil((self.top_um + self.height_um) / mpp)))
        return (left, top, right - left, bottom - top) if right > left and bottom > top else None


def frame_of(scene: Scene) -> Frame:
    """Return the box that a scene's view shows.

    A view says where its centre is and how wide it is; its height follows the shape of all the
    spots together with a margin on the slide, which is what is shown where there is no view.
    """
    whole = np.array([[0.0, 0.0], [scene.width_px, scene.height_px]]) * scene.mpp
    places = scene.positions * scene.mpp
    box = np.array([places.min(axis=0), places.max(axis=0)]) if len(places) else whole
    margin = scene.spot_diameter_um + _MARGIN * float((box[1] - box[0]).max())
    box = np.array([np.maximum(box[0] - margin, whole[0]), np.minimum(box[1] + margin, whole[1])])
    width, height = (float(side) for side in np.maximum(box[1] - box[0], scene.spot_diameter_um))
    x, y = (float(middle) for middle in box.mean(axis=0))
    shape = min(_TALLEST, max(_FLATTEST, height / width))
    if scene.view is not None:
        x, y, width = scene.view.x_um, scene.view.y_um, scene.view.width_um
    else:
        width = max(width, height / shape)
    height = width * shape
    return Frame(x - width / 2, y - height / 2, width, height)


def _model_words(run: dict[str, Any]) -> str:
    """Return the model and the program that made a result, as its run record has them."""
    model, program = run.get("model"), run.get("program")
    parts = []
    if isinstance(model, dict) and model.get("name"):
        parts.append(f"model {model['name']} {model.get('version', '')}".strip())
    if isinstance(program, dict) and program.get("version"):
        parts.append(f"Stem {program['version']}")
    return ", ".join(parts) or "model not recorded"


def scene_of_run(run: Run, panels: Sequence[Panel], look: Look, view: View | None) -> Scene:
    """Gather what a view of a finished run shows, its regions with it.

    Raises
    ------
    SettingsError
        The result does not have one of the layers.
    """
    width_px, height_px = run.size_px
    return Scene(
        **_of_result(run.prediction, run.values, panels), look=look, view=view,
        regions=run.regions, width_px=width_px, height_px=height_px,
        read=lambda box: slide_box(run.id, box),
    )  # fmt: skip


def scene_of_result(
    prediction: Prediction,
    values: MapValues,
    panels: Sequence[Panel],
    look: Look,
    view: View | None = None,
    regions: Sequence[Region] = (),
    slide: Slide | None = None,
) -> Scene:
    """Gather what a view of a result shows; the H&E image is the slide's, else the result's own.

    Raises
    ------
    SlideError
        The slide is another than the one that was predicted.
    SettingsError
        The result does not have one of the layers.
    """
    recorded = prediction.run.get("slide")
    recorded = recorded if isinstance(recorded, dict) else {}
    if slide is None:
        height, width = values.thumbnail.shape[:2]
        width_px = int(recorded.get("width_px", 0)) or round(width / values.thumbnail_scale)
        height_px = int(recorded.get("height_px", 0)) or round(height / values.thumbnail_scale)
    else:
        _check_slide(slide, recorded)
        width_px, height_px = slide.width_px, slide.height_px

    def read(box: Tile) -> NDArray[np.uint8]:
        if slide is None:
            return thumbnail_box(values, box)
        return slide.read_box(
            box.x_px, box.y_px, box.width_px, box.height_px, box.out_width, box.out_height
        )

    return Scene(
        **_of_result(prediction, values, panels), look=look, view=view, regions=tuple(regions),
        width_px=width_px, height_px=height_px, read=read,
    )  # fmt: skip


def scene_of_layers(
    prediction: Prediction,
    layers: Sequence[str],
    *,
    colours: str = "Viridis",
    opacity: float = 0.85,
    own_range: bool = False,
    view: View | None = None,
    slide: Slide | None = None,
) -> Scene:
    """Gather layers of a result that are named by text, such as "mean:GNAS" or "domain".

    Parameters
    ----------
    prediction
        Result.
    layers
        One to six names of layers.
    colours
        Colour scale, one of `app.maps.panels.COLOUR_SCALES` in any case.
    opacity
        Of the spots, above 0 and up to 1.
    own_range
        Give each map a colour range of its own, instead of one for each unit.
    view, slide
        As `scene_of_result`.

    Raises
    ------
    SettingsError
        More than six layers, one that the result does not have, or a value out of range.
    SlideError
        The slide is another than the one that was predicted.
    """
    if not 1 <= len(layers) <= MOST_MAPS:
        msg = f"1 to {MOST_MAPS} maps are drawn at once, not {len(layers)}; name other layers."
        raise SettingsError(msg)
    if not 0 < opacity <= 1:
        msg = f"The opacity {opacity:g} is not between 0 and 1; choose one like 0.85."
        raise SettingsError(msg)
    scale = next((s for s in COLOUR_SCALES if s.lower() == colours.lower()), None)
    if scale is None:
        msg = f"There are no colours {colours!r}; choose one of {', '.join(COLOUR_SCALES)}."
        raise SettingsError(msg)
    values = MapValues(prediction)
    shown = [values.parse(layer) for layer in layers]
    panels = panels_of(values, shown, scale, (1, 99), shared=not own_range)
    return scene_of_result(prediction, values, panels, Look(opacity), view, (), slide)


def _of_result(
    prediction: Prediction, values: MapValues, panels: Sequence[Panel]
) -> dict[str, Any]:
    """Return what a scene has from its result and panels."""
    return {
        "slide_name": prediction.slide_name,
        "model": _model_words(prediction.run),
        "mpp": values.mpp,
        "spot_diameter_um": values.spot_diameter_um,
        "positions": values.positions(),
        "ids": prediction.spots.ids,
        "maps": tuple(Map(panel, values.layer(panel.layer)) for panel in panels),
        "layer": values.layer,
    }


def _check_slide(slide: Slide, recorded: dict[str, Any]) -> None:
    """Refuse a slide that is not the one the result was made from, where that was recorded."""
    if recorded.get("fingerprint", slide.fingerprint()) != slide.fingerprint():
        msg = (
            f"{slide.path.name} is not the slide this result was made from (its content differs); "
            "give that one, or none to draw the small picture in the result."
        )
        raise SlideError(msg)
