"""Maps as PNG and SVG, drawn without a browser: H&E, spots at their size, scale and colour bars.

Matplotlib's object interface is used, so nothing is shared between drawings but a lock: text
layout in it is not made for threads.
"""

from __future__ import annotations

import base64
import io
import re
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from app.maps.picture_layout import Layout, lay_out
from app.maps.picture_parts import (
    SlidePart,
    draw_header,
    draw_regions,
    draw_scale_bar,
    draw_slide,
    draw_spots,
    visible_spots,
    write_line,
)
from app.maps.picture_words import written
from app.maps.pyramid import Tile
from app.maps.scene import Frame, Scene, frame_of
from app.maps.tiles import encode_jpeg
from stem_core.constants import NOTICE
from stem_core.errors import SettingsError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["KINDS", "MOST_VECTOR_SPOTS", "Picture", "draw_figure", "draw_picture", "shown_slide"]

KINDS = ("png", "svg")
MOST_VECTOR_SPOTS = 20_000
_INKS = {  # paper, text, stage, line
    False: ("#ffffff", "#1c262b", "#f2f5f6", "#d5dde0"),
    True: ("#12181b", "#e6ecee", "#1c2529", "#36434a"),
}
_ONE_AT_A_TIME = threading.Lock()
_PNG_IMAGE = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)")


@dataclass(frozen=True)
class Picture:
    """A drawn picture.

    Attributes
    ----------
    content
        The file's bytes.
    width_px, height_px
        Its size; of an SVG, at the dpi it was asked for.
    note
        A sentence about how it was drawn, else "".
    """

    content: bytes
    width_px: int
    height_px: int
    note: str = ""


def draw_picture(
    scene: Scene,
    kind: str = "png",
    *,
    width_px: int = 1600,
    dpi: float = 150.0,
    dark: bool = False,
    title: str = "",
) -> Picture:
    """Draw what a view shows.

    Parameters
    ----------
    scene
        The view.
    kind
        "png" or "svg". In an SVG only the H&E image is made of pixels; beyond 20,000 spots in view
        the spots are as well, and the picture's note says so.
    width_px, dpi
        Width, 400 to 6,000 px, and pixels per inch, 50 to 1,200; text is 4.5 to 10 points.
    dark
        Light text on a dark ground.
    title
        A line above the maps.

    Raises
    ------
    SettingsError
        Another kind, a size that cannot be, or one that leaves too little room for a map.
    SlideError
        The H&E image cannot be read.
    """
    if kind not in KINDS:
        msg = f"A picture cannot be written as {kind!r}; choose {' or '.join(KINDS)}."
        raise SettingsError(msg)
    frame = frame_of(scene)
    layout = _layout(scene, frame, width_px, dpi, titled=bool(title))
    in_view = sum(int(visible_spots(one, scene, frame).sum()) for one in scene.maps)
    vector = in_view <= MOST_VECTOR_SPOTS
    slide = shown_slide(scene, frame, layout.stages[0].width, layout.stages[0].height)
    with _ONE_AT_A_TIME:
        figure = _figure(scene, frame, layout, slide, dark, title, vector)
        content = _png(figure, scene) if kind == "png" else _svg(figure, scene)
    note = ""
    if kind == "svg" and not vector:
        note = (
            f"More than {MOST_VECTOR_SPOTS:,} spots are in view, so they are an image within the "
            "SVG; zoom in for spots that can be edited."
        )
    return Picture(content, layout.width, layout.height, note)


def draw_figure(scene: Scene, *, width_px: int = 1600, dpi: float = 150.0) -> Figure:
    """Draw what a view shows as a figure of matplotlib; parameters and errors as `draw_picture`."""
    frame = frame_of(scene)
    layout = _layout(scene, frame, width_px, dpi, titled=False)
    slide = shown_slide(scene, frame, layout.stages[0].width, layout.stages[0].height)
    with _ONE_AT_A_TIME:
        return _figure(scene, frame, layout, slide, dark=False, title="", vector=True)


def _layout(scene: Scene, frame: Frame, width_px: int, dpi: float, *, titled: bool) -> Layout:
    foot = (
        written(scene.slide_name), scene.model, *_greyed_words(scene), NOTICE,
        f"{datetime.now(UTC):%d %b %Y}",
    )  # fmt: skip
    shape = frame.height_um / frame.width_um
    return lay_out(len(scene.maps), shape, width_px, dpi, foot, titled=titled)


def shown_slide(scene: Scene, frame: Frame, width: int, height: int) -> SlidePart | None:
    """Read the H&E image of a frame, about as large as it is drawn.

    Returns
    -------
    SlidePart or None
        None where the frame is beside the slide. Never more pixels than the slide has there.
    """
    box = frame.within(scene.width_px, scene.height_px, scene.mpp)
    if box is None:
        return None
    scale = min(1.0, max(width * scene.mpp / frame.width_um, height * scene.mpp / frame.height_um))
    size = max(1, round(box[2] * scale)), max(1, round(box[3] * scale))
    return scene.read(Tile(*box, *size)), box


def _figure(
    scene: Scene,
    frame: Frame,
    layout: Layout,
    slide: SlidePart | None,
    dark: bool,
    title: str,
    vector: bool,
) -> Figure:
    from matplotlib.figure import Figure

    paper, ink, ground, line = _INKS[dark]
    figure = Figure(
        # A bit more than whole pixels, since older matplotlib cuts them off.
        figsize=((layout.width + 1e-6) / layout.dpi, (layout.height + 1e-6) / layout.dpi),
        dpi=layout.dpi,
        facecolor=paper,
    )
    page = figure.add_axes((0, 0, 1, 1))  # in pixels of the picture, downwards
    page.set_axis_off()
    page.set(xlim=(0, layout.width), ylim=(layout.height, 0))
    if slide is not None:
        look = scene.look
        slide = (_toned(slide[0], look.brightness, look.grey), slide[1])
    if title:
        write_line(page, layout.pad, layout.title_top, title, room=layout.width - 2 * layout.pad,
                   size=layout.font * 1.25, color=ink, weight="bold")  # fmt: skip
    for number, (one, stage) in enumerate(zip(scene.maps, layout.stages, strict=True), start=1):
        draw_header(page, one, stage, layout, ink)
        axes = figure.add_axes(
            (
                stage.left / layout.width,
                1 - (stage.top + stage.height) / layout.height,
                stage.width / layout.width,
                stage.height / layout.height,
            )
        )
        axes.set(facecolor=ground, xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(color=line, linewidth=0.6)
        if slide is not None:
            draw_slide(axes, scene, slide, number)
        right_um, bottom_um = frame.left_um + frame.width_um, frame.top_um + frame.height_um
        axes.set(xlim=(frame.left_um, right_um), ylim=(bottom_um, frame.top_um), autoscale_on=False)
        draw_spots(axes, one, scene, frame, stage, number, vector)
        draw_regions(axes, one, scene, frame, layout)
        draw_scale_bar(axes, frame, layout)
    for place, words in enumerate(layout.foot):
        write_line(page, layout.pad, layout.foot_top + place * layout.foot_line, words,
                   room=layout.width - 2 * layout.pad, size=layout.font * 0.8, color=ink,
                   alpha=0.8)  # fmt: skip
    return figure


def _greyed_words(scene: Scene) -> list[str]:
    """Say what grey spots are, if there are any."""
    why = dict.fromkeys(
        f"{mute.words} above {mute.above:g} {mute.unit}".strip()
        for one in scene.maps for mute in one.panel.mutes
    )  # fmt: skip
    return [f"Grey spots: {' or '.join(why)}"] if why else []


def _toned(picture: NDArray[np.uint8], brightness: float, grey: bool) -> NDArray[np.uint8]:
    """1 leaves the image as it is, 0 is black, 2 is white, as in the viewer."""
    if grey:
        picture = np.repeat(np.asarray(Image.fromarray(picture).convert("L"))[..., None], 3, axis=2)
    if brightness == 1:
        return picture
    level = np.arange(256, dtype=np.float32)
    lifted = level * brightness if brightness <= 1 else 255 - (255 - level) * (2 - brightness)
    toned: NDArray[np.uint8] = np.clip(lifted, 0, 255).round().astype(np.uint8)[picture]
    return toned


def _png(figure: Figure, scene: Scene) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    facts = PngInfo()
    facts.add_itxt("Title", written(scene.slide_name))
    facts.add_itxt("Description", f"{scene.model}. {NOTICE}")
    out = io.BytesIO()
    dpi = float(figure.dpi)
    Image.fromarray(pixels).save(out, "PNG", dpi=(dpi, dpi), pnginfo=facts, compress_level=6)
    return out.getvalue()


def _svg(figure: Figure, scene: Scene) -> bytes:
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    out = io.StringIO()
    facts = {"Title": written(scene.slide_name), "Description": f"{scene.model}. {NOTICE}"}
    FigureCanvasSVG(figure).print_svg(out, metadata=facts)
    return _PNG_IMAGE.sub(_as_jpeg, out.getvalue()).encode("utf-8")


def _as_jpeg(found: re.Match[str]) -> str:
    """Write an image that covers all that lies behind it as JPEG: a tenth of the bytes."""
    with Image.open(io.BytesIO(base64.b64decode(found[1]))) as image:
        pixels = np.asarray(image.convert("RGBA"))
    if (pixels[..., 3] < 255).any():
        return found[0]
    content = encode_jpeg(np.ascontiguousarray(pixels[..., :3]))
    return "data:image/jpeg;base64," + base64.b64encode(content).decode("ascii")
