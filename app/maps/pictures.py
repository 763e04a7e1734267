"""Maps as PNG and SVG, drawn without a browser: H&E, spots at their size, scale and colour bars.

Matplotlib's object interface is used, so nothing is shared between drawings but a lock: text
layout in it is not made for threads.
"""

from __future__ import annotations

import base64
import io
import math
import re
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from app.maps.picture_layout import Layout, Stage, lay_out
from app.maps.picture_words import end_words, round_length_um, written
from app.maps.pyramid import Tile
from app.maps.scene import Frame, Map, Scene, frame_of
from app.maps.tiles import encode_jpeg
from stem_core.errors import SettingsError
from stem_core.prediction.result import NOTICE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["KINDS", "MOST_VECTOR_SPOTS", "Picture", "SlidePart", "draw_picture", "shown_slide"]

KINDS = ("png", "svg")
MOST_VECTOR_SPOTS = 20_000
_INKS = {  # paper, text, stage, line
    False: ("#ffffff", "#1c262b", "#f2f5f6", "#d5dde0"),
    True: ("#12181b", "#e6ecee", "#1c2529", "#36434a"),
}
_HALO = (1.0, 1.0, 1.0, 0.9)
_BAR_INK = "#16262c"
_BAR_SHARE = 0.28  # of a map's width, at the most
_LEAST_SPOT_PX = 2.0
_MUTED_COLOUR, _MUTED_COVER = (0x86 / 255, 0x8D / 255, 0x91 / 255), 0.4  # as in the viewer
SlidePart = tuple[NDArray[np.uint8], tuple[int, int, int, int]]
"""An image, uint8 (h, w, 3), and its box on the slide: x, y, width, height in level-0 pixels."""
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
    foot = (
        written(scene.slide_name), scene.model, *_greyed_words(scene), NOTICE,
        f"{datetime.now(UTC):%d %b %Y}",
    )  # fmt: skip
    layout = lay_out(
        len(scene.maps), frame.height_um / frame.width_um, width_px, dpi, foot, titled=bool(title)
    )
    slide = shown_slide(scene, frame, layout.stages[0].width, layout.stages[0].height)
    vector = sum(int(_visible(one, scene, frame).sum()) for one in scene.maps) <= MOST_VECTOR_SPOTS
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
        figsize=(layout.width / layout.dpi, layout.height / layout.dpi),
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
        _write(page, layout.pad, layout.title_top, title, layout.font * 1.25, ink, weight="bold",
               room=layout.width - 2 * layout.pad)  # fmt: skip
    for number, (one, stage) in enumerate(zip(scene.maps, layout.stages, strict=True), start=1):
        _draw_header(page, one, stage, layout, ink)
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
            _draw_slide(axes, scene, slide, number)
        right_um, bottom_um = frame.left_um + frame.width_um, frame.top_um + frame.height_um
        axes.set(xlim=(frame.left_um, right_um), ylim=(bottom_um, frame.top_um), autoscale_on=False)
        _draw_spots(axes, one, scene, frame, stage, number, vector)
        _draw_regions(axes, one, scene, frame, layout)
        _draw_scale_bar(axes, frame, layout)
    for place, words in enumerate(layout.foot):
        _write(page, layout.pad, layout.foot_top + place * layout.foot_line, words,
               layout.font * 0.8, ink, alpha=0.8, room=layout.width - 2 * layout.pad)  # fmt: skip
    return figure


def _draw_header(page: Axes, one: Map, stage: Stage, layout: Layout, ink: str) -> None:
    """Title and note of a map, its colours with three numbers, and their unit."""
    from matplotlib.patches import Rectangle

    panel, font, top = one.panel, layout.font, stage.header_top
    title = _write(page, stage.left, top, panel.title, font, ink, weight="bold", room=stage.width)
    if note := "  ".join(filter(None, (one.badge.words if one.badge else "", panel.note))):
        after = stage.left + _width(title) + font * layout.unit * 0.8
        _write(page, after, top + font * layout.unit * 0.15, note, font * 0.8, ink,
               alpha=0.75, room=stage.left + stage.width - after)  # fmt: skip
    ramp_top, ramp_height = top + layout.points(1.75), layout.points(0.75)
    ramp = min(0.62 * stage.width, layout.points(20))
    steps = len(panel.palette)
    for place, colour in enumerate(panel.palette):  # each to the end: no seams between colours
        start = ramp * place / steps
        page.add_patch(
            Rectangle((stage.left + start, ramp_top), ramp - start, ramp_height,
                      facecolor=colour, edgecolor="none", linewidth=0)
        )  # fmt: skip
    _write(page, stage.left + ramp + layout.points(0.6), ramp_top - layout.points(0.12), panel.unit,
           font * 0.8, ink, alpha=0.85, room=stage.width - ramp - layout.points(0.6))  # fmt: skip
    words = end_words(panel, one.values)
    for share, text, side in zip((0, 0.5, 1), words, ("left", "center", "right"), strict=True):
        _write(page, stage.left + share * ramp, ramp_top + layout.points(1.0), text, font * 0.8,
               ink, ha=side)  # fmt: skip


def _draw_slide(
    axes: Axes,
    scene: Scene,
    slide: SlidePart,
    number: int,
) -> None:
    picture, (x, y, width, height) = slide
    left, top = x * scene.mpp, y * scene.mpp
    extent = (left, left + width * scene.mpp, top + height * scene.mpp, top)
    image = axes.imshow(picture, extent=extent, aspect="auto", interpolation="bilinear", zorder=1)
    image.set_gid(f"slide-{number}")


def _draw_spots(
    axes: Axes, one: Map, scene: Scene, frame: Frame, stage: Stage, number: int, vector: bool
) -> None:
    from matplotlib.collections import EllipseCollection

    shown = _visible(one, scene, frame)
    if not shown.any():
        return
    diameter = max(
        scene.spot_diameter_um * scene.look.spot_size,
        _LEAST_SPOT_PX * frame.width_um / stage.width,
    )
    panel = one.panel
    shades = _shades(one.values[shown], panel.low, panel.high, len(panel.palette))
    colours = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in panel.palette]) / 255
    inks = np.column_stack([colours[shades], np.full(len(shades), scene.look.opacity)])
    inks[scene.muted(one)[shown]] = (*_MUTED_COLOUR, _MUTED_COVER * scene.look.opacity)
    spots = EllipseCollection(
        [diameter], [diameter], [0.0], units="xy",
        offsets=scene.positions[shown].astype(np.float64) * scene.mpp,
        offset_transform=axes.transData, facecolors=inks, edgecolors="none",
        linewidths=0, zorder=2,
    )  # fmt: skip
    spots.set_gid(f"spots-{number}")
    spots.set_rasterized(not vector)
    axes.add_collection(spots, autolim=False)


def _shades(
    values: NDArray[np.float32], low: float, high: float, colours: int
) -> NDArray[np.int64]:
    """Return the palette's index of each value; what lies beyond the ends takes their colours."""
    places = (values - low) * (colours / ((high - low) or 1.0))
    shades: NDArray[np.int64] = np.clip(places, 0, colours - 1).astype(np.int64)
    return shades


def _visible(one: Map, scene: Scene, frame: Frame) -> NDArray[np.bool_]:
    """Which spots have a value and touch the frame, bool (N,)."""
    x, y = scene.positions.T * scene.mpp
    reach = scene.spot_diameter_um * scene.look.spot_size / 2
    shown: NDArray[np.bool_] = np.isfinite(one.values)
    shown &= (x > frame.left_um - reach) & (x < frame.left_um + frame.width_um + reach)
    shown &= (y > frame.top_um - reach) & (y < frame.top_um + frame.height_um + reach)
    return shown


def _draw_regions(axes: Axes, one: Map, scene: Scene, frame: Frame, layout: Layout) -> None:
    """Outlines with a light edge, so that they stand out from any colour, and their names."""
    from matplotlib.patheffects import Normal, Stroke

    width = layout.font * 0.14
    outlined = [Stroke(linewidth=width * 2.2, foreground=_HALO), Normal()]
    lettered = [Stroke(linewidth=layout.font * 0.3, foreground=_HALO), Normal()]
    for region in scene.regions:
        rings = [np.asarray(ring, np.float64) * scene.mpp for ring in region.polygons]
        for ring in rings:
            closed = np.vstack([ring, ring[:1]])
            axes.plot(closed[:, 0], closed[:, 1], color=region.colour, linewidth=width,
                      path_effects=outlined, zorder=3)  # fmt: skip
        if not rings:
            places = scene.positions.astype(np.float64)
            rings = [places[region.inside(*places.T)] * scene.mpp]
            axes.plot(*rings[0].T, "o", color="none", markeredgecolor=region.colour, zorder=3,
                      markeredgewidth=width, markersize=layout.font * 0.6)  # fmt: skip
        corners = np.concatenate(rings)
        if not len(corners):
            continue
        x, y = corners[corners[:, 1].argmin()]
        line_um = layout.points(1.4) * frame.width_um / layout.stages[0].width
        if not frame.left_um < x < frame.left_um + frame.width_um:
            continue
        y = min(max(y - line_um * 0.25, frame.top_um + line_um), frame.top_um + frame.height_um)
        axes.text(x, y, written(region.name), fontsize=layout.font * 0.9, color=region.colour,
                  ha="center", va="bottom", weight="bold", path_effects=lettered, clip_on=True,
                  parse_math=False, zorder=4)  # fmt: skip


def _draw_scale_bar(axes: Axes, frame: Frame, layout: Layout) -> None:
    from matplotlib.patches import Rectangle

    length = round_length_um(frame.width_um * _BAR_SHARE)
    words = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"
    um = frame.width_um / layout.stages[0].width  # microns of a pixel
    font, unit = layout.font * 0.85, layout.points(0.85)
    label = axes.text(0, 0, words, fontsize=font, color=_BAR_INK, ha="center", va="baseline",
                      weight="bold", parse_math=False, zorder=6)  # fmt: skip
    inner = max(length / um, _width(label))
    left = frame.left_um + (0.8 * unit + 0.7 * unit + (inner - length / um) / 2) * um
    bottom = frame.top_um + frame.height_um - 0.8 * unit * um
    axes.add_patch(
        Rectangle((frame.left_um + 0.8 * unit * um, bottom), (inner + 1.4 * unit) * um,
                  -2.4 * unit * um, facecolor="#ffffff", alpha=0.85, linewidth=0, zorder=5)
    )  # fmt: skip
    bar = Rectangle((left, bottom - 0.5 * unit * um), length, -0.3 * unit * um, linewidth=0,
                    facecolor=_BAR_INK, zorder=6)  # fmt: skip
    bar.set_gid("scale-bar")
    axes.add_patch(bar)
    label.set_position((left + length / 2, bottom - 1.15 * unit * um))


def _greyed_words(scene: Scene) -> list[str]:
    """Say what grey spots are, if there are any."""
    why = dict.fromkeys(
        f"{mute.words} above {mute.above:g} {mute.unit}".strip()
        for one in scene.maps for mute in one.mutes
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


def _write(
    page: Axes, x: float, y: float, text: str, size: float, colour: str, *, alpha: float = 1.0,
    weight: str = "normal", ha: str = "left", room: float = math.inf,
) -> Any:  # fmt: skip
    """Write a line from its top left, shortened to the room there is; not read as a formula."""
    text = written(text)
    line = page.text(x, y, text, fontsize=size, color=colour, alpha=alpha, weight=weight, ha=ha,
                     va="top", parse_math=False)  # fmt: skip
    while len(text) > 1 and _width(line) > room:
        text = text[: max(1, min(len(text) - 1, int(len(text) * room / _width(line))))]
        line.set_text(text.rstrip() + "…")
    return line


def _width(line: Any) -> float:
    """Width of a written line in pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = line.get_figure()
    canvas = figure.canvas
    if not isinstance(canvas, FigureCanvasAgg):
        canvas = FigureCanvasAgg(figure)
    return float(line.get_window_extent(canvas.get_renderer()).width)


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
