"""What a picture of maps is put together from: header, H&E image, spots, outlines, scale bar."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from app.maps.picture_layout import Layout, Stage
from app.maps.picture_words import end_words, round_length_um, written
from app.maps.scene import Frame, Map, Scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "SlidePart", "draw_header", "draw_regions", "draw_scale_bar", "draw_slide", "draw_spots",
    "visible_spots", "write_line",
]  # fmt: skip

_HALO = (1.0, 1.0, 1.0, 0.9)
_BAR_INK = "#16262c"
_BAR_SHARE = 0.28  # of a map's width, at the most
_LEAST_SPOT_PX = 2.0
_MUTED_COLOUR, _MUTED_COVER = (0x86 / 255, 0x8D / 255, 0x91 / 255), 0.4  # as in the viewer
SlidePart = tuple[NDArray[np.uint8], tuple[int, int, int, int]]
"""An image, uint8 (h, w, 3), and its box on the slide: x, y, width, height in level-0 pixels."""


def draw_header(page: Axes, one: Map, stage: Stage, layout: Layout, ink: str) -> None:
    """Title and note of a map, its colours with three numbers, and their unit."""
    from matplotlib.patches import Rectangle

    panel, font, top = one.panel, layout.font, stage.header_top
    title = write_line(
        page, stage.left, top, panel.title, room=stage.width, size=font, color=ink, weight="bold"
    )
    small: dict[str, Any] = {"size": font * 0.8, "color": ink}
    if note := "  ".join(filter(None, (panel.badge.words if panel.badge else "", panel.note))):
        after = stage.left + _width(title) + font * layout.unit * 0.8
        write_line(page, after, top + font * layout.unit * 0.15, note,
                   room=stage.left + stage.width - after, alpha=0.75, **small)  # fmt: skip
    ramp_top, ramp_height = top + layout.points(1.75), layout.points(0.75)
    ramp = min(0.62 * stage.width, layout.points(20))
    steps = len(panel.palette)
    for place, colour in enumerate(panel.palette):  # each to the end: no seams between colours
        start = ramp * place / steps
        page.add_patch(
            Rectangle((stage.left + start, ramp_top), ramp - start, ramp_height,
                      facecolor=colour, edgecolor="none", linewidth=0)
        )  # fmt: skip
    unit_left = ramp + layout.points(0.6)
    write_line(page, stage.left + unit_left, ramp_top - layout.points(0.12), panel.unit,
               room=stage.width - unit_left, alpha=0.85, **small)  # fmt: skip
    words = end_words(panel, one.values)
    for share, text, side in zip((0, 0.5, 1), words, ("left", "center", "right"), strict=True):
        write_line(page, stage.left + share * ramp, ramp_top + layout.points(1.0), text,
                   ha=side, **small)  # fmt: skip


def draw_slide(
    axes: Axes,
    scene: Scene,
    slide: SlidePart,
    number: int,
) -> None:
    """Lay the H&E image at its place."""
    picture, (x, y, width, height) = slide
    left, top = x * scene.mpp, y * scene.mpp
    extent = (left, left + width * scene.mpp, top + height * scene.mpp, top)
    image = axes.imshow(picture, extent=extent, aspect="auto", interpolation="bilinear", zorder=1)
    image.set_gid(f"slide-{number}")


def draw_spots(
    axes: Axes, one: Map, scene: Scene, frame: Frame, stage: Stage, number: int, vector: bool
) -> None:
    """Draw spots as discs of their size in the map's unit, microns."""
    from matplotlib.collections import EllipseCollection

    shown = visible_spots(one, scene, frame)
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


def visible_spots(one: Map, scene: Scene, frame: Frame) -> NDArray[np.bool_]:
    """Which spots have a value and touch the frame, bool (N,)."""
    x, y = scene.positions.T * scene.mpp
    reach = scene.spot_diameter_um * scene.look.spot_size / 2
    shown: NDArray[np.bool_] = np.isfinite(one.values)
    shown &= (x > frame.left_um - reach) & (x < frame.left_um + frame.width_um + reach)
    shown &= (y > frame.top_um - reach) & (y < frame.top_um + frame.height_um + reach)
    return shown


def draw_regions(axes: Axes, one: Map, scene: Scene, frame: Frame, layout: Layout) -> None:
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


def draw_scale_bar(axes: Axes, frame: Frame, layout: Layout) -> None:
    """Draw a bar of a round length, with its words, in the lower left corner."""
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


def write_line(
    page: Axes, x: float, y: float, text: str, *, room: float = math.inf, **style: Any
) -> Any:
    """Write a line from its top left, shortened to the room there is; not read as a formula.

    `style` is that of matplotlib's `Axes.text`.
    """
    text = written(text)
    line = page.text(x, y, text, va="top", parse_math=False, **style)
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
