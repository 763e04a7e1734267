"""The map over the H&E image: one Plotly figure in microns, image y pointing down.

Spots are drawn as discs of their physical size in a vector image that lies over the slide, so they
keep their true size at every zoom; a WebGL scatter with invisible markers carries the hover texts
and the colour bar.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from PIL import Image
from plotly.colors import sample_colorscale

__all__ = [
    "CHART_CONFIG",
    "COLOUR_SCALES",
    "add_anchor",
    "add_values",
    "box_around",
    "disc_layer",
    "jpeg_url",
    "palette",
    "ring_layer",
    "slide_figure",
    "tissue_layer",
]

COLOUR_SCALES = ("Viridis", "Cividis", "Magma", "Inferno")
"""Perceptually uniform scales; Cividis is made for colour-blind readers."""

CHART_CONFIG = {
    "scrollZoom": True,
    "displaylogo": False,
    "doubleClick": "reset",
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d", "resetScale2d"],
    "toImageButtonOptions": {"format": "png", "scale": 3, "filename": "stem-map"},
}
"""Behaviour of every map: the wheel zooms, dragging moves, a double click goes back."""

_MAX_RINGS = 20_000


def jpeg_url(image: NDArray[np.uint8], brightness: float = 1.0, grey: bool = False) -> str:
    """Encode an image as a JPEG data address.

    Parameters
    ----------
    image : uint8 (h, w, 3)
    brightness : float
        1 leaves the image as it is, 0 is black, 2 is white.
    grey : bool
        Take the stain's colour away, so that it does not compete with the map's.
    """
    level = np.arange(256, dtype=np.float32)
    lifted = level * brightness if brightness <= 1 else 255 - (255 - level) * (2 - brightness)
    picture = Image.fromarray(np.clip(lifted, 0, 255).astype(np.uint8)[image])
    if grey:
        picture = picture.convert("L")
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode("ascii")


def tissue_layer(mask: NDArray[np.bool_]) -> str:
    """Encode a tissue mask (h, w) as a PNG data address that veils what is not tissue."""
    veil = np.zeros((*mask.shape, 4), np.uint8)
    veil[~mask] = (15, 40, 60, 115)
    out = io.BytesIO()
    Image.fromarray(veil).save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode("ascii")


@lru_cache(maxsize=16)
def palette(scale: str) -> tuple[str, ...]:
    """Return 256 colours `rgb(r, g, b)` of a Plotly colour scale."""
    return tuple(sample_colorscale(scale, [i / 255 for i in range(256)]))


def _svg_url(body: str, size_um: tuple[float, float]) -> str:
    """Wrap SVG elements, drawn in microns, as a data address."""
    width, height = size_um
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.2f} {height:.2f}" preserveAspectRatio="none">{body}</svg>'
    )
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode("ascii")).decode("ascii")


def disc_layer(
    x_um: NDArray[np.float64],
    y_um: NDArray[np.float64],
    diameter_um: float,
    shade: NDArray[np.uint8],
    colours: Sequence[str],
    size_um: tuple[float, float],
) -> str:
    """Draw filled discs; `shade` (N,) chooses each one's colour of `colours`.

    Returns an SVG data address that covers the slide, 0…width × 0…height µm.
    """
    points = np.array(
        [f"M{x:.1f} {y:.1f}h0" for x, y in zip(x_um, y_um, strict=True)], dtype=object
    )
    order = np.argsort(shade, kind="stable")
    body = "".join(
        f'<path stroke="{colours[value]}" d="{"".join(points[rows])}"/>'
        for value, rows in _runs(shade[order], order)
    )
    head = f'<g fill="none" stroke-linecap="round" stroke-width="{diameter_um:.2f}">'
    return _svg_url(f"{head}{body}</g>", size_um)


def _runs(
    sorted_values: NDArray[np.uint8], order: NDArray[np.intp]
) -> list[tuple[int, NDArray[np.intp]]]:
    """Split `order` where the sorted values change."""
    if not len(order):
        return []
    cuts = np.flatnonzero(np.diff(sorted_values)) + 1
    groups = np.split(order, cuts)
    firsts = np.concatenate(([0], cuts))
    return [(int(sorted_values[i]), rows) for i, rows in zip(firsts, groups, strict=True)]


def ring_layer(
    x_um: NDArray[np.float64],
    y_um: NDArray[np.float64],
    diameter_um: float,
    inside: NDArray[np.bool_],
    size_um: tuple[float, float],
) -> str:
    """Draw spot outlines, blue on tissue and orange off it (discs when there are very many)."""
    colours = ("#d9480f", "#0b5fa5")
    if len(x_um) > _MAX_RINGS:
        return disc_layer(x_um, y_um, diameter_um, inside.astype(np.uint8), colours, size_um)
    r = diameter_um / 2
    arcs = f"a{r:.1f} {r:.1f} 0 1 0 {diameter_um:.1f} 0a{r:.1f} {r:.1f} 0 1 0 {-diameter_um:.1f} 0"
    body = "".join(
        f'<path stroke="{colours[wanted]}" fill="{colours[wanted]}" d="'
        + "".join(
            f"M{x - r:.1f} {y:.1f}{arcs}"
            for x, y in zip(x_um[inside == wanted], y_um[inside == wanted], strict=True)
        )
        + '"/>'
        for wanted in (True, False)
    )
    return _svg_url(
        f'<g fill-opacity="0.16" stroke-width="{diameter_um * 0.1:.2f}">{body}</g>', size_um
    )


def _round_length(width_um: float) -> float:
    """Return the largest of 1, 2, 5 × 10^n µm that is at most a fifth of the width."""
    limit = max(width_um / 5, 1e-3)
    base = 10.0 ** np.floor(np.log10(limit))
    return float(max(step * base for step in (1, 2, 5) if step * base <= limit))


def slide_figure(
    layers: Sequence[tuple[str, float]],
    size_um: tuple[float, float],
    *,
    height_px: int,
    view: str,
    box_um: tuple[float, float, float, float] | None = None,
) -> go.Figure:
    """Lay pictures over each other on axes in microns, with a scale bar.

    Parameters
    ----------
    layers : sequence of (data address, opacity)
        From the bottom to the top; each covers the whole slide.
    size_um : (width, height)
    height_px : int
        Height of the figure on the page.
    view : str
        Name of what is shown: figures of the same name share the zoom (Plotly's `uirevision`).
    box_um : (left, top, right, bottom), optional
        What is seen at first; the whole slide by default.
    """
    width, height = size_um
    left, top, right, bottom = box_um or (0.0, 0.0, width, height)
    figure = go.Figure()
    for place, (source, opacity) in enumerate(layers):
        # plotly.js takes pictures of the very same place for one: a nanometre tells them apart
        figure.add_layout_image(
            source=source, opacity=opacity, xref="x", yref="y", x=0, y=0,
            sizex=width + 1e-3 * place, sizey=height, xanchor="left", yanchor="top",
            sizing="stretch", layer="below",
        )  # fmt: skip
    axis = {"showgrid": False, "zeroline": False, "ticks": "outside", "ticklen": 4, "nticks": 7,
            "separatethousands": True, "exponentformat": "none"}  # fmt: skip
    figure.update_layout(
        height=height_px, margin={"l": 76, "r": 8, "t": 8, "b": 60, "autoexpand": False},
        uirevision=view, dragmode="pan", showlegend=False, hovermode="closest",
        hoverdistance=30,
        hoverlabel={"bgcolor": "#ffffff", "bordercolor": "#7a8794",
                    "font": {"color": "#111111", "size": 13}},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": "#7a8794", "activecolor": "#0b6577"},
        plot_bgcolor="rgba(0,0,0,0)", paper_bgcolor="rgba(0,0,0,0)", separators=".\u202f",
        xaxis={**axis, "range": [left, right],
               "constrain": "domain", "constraintoward": "left"},
        yaxis={**axis, "range": [bottom, top],
               "scaleanchor": "x", "constrain": "domain", "constraintoward": "top"},
    )  # fmt: skip
    # Axis titles as annotations: plotly.js puts its own on top of the tick labels here.
    title = {"xref": "x domain", "yref": "y domain", "showarrow": False, "font": {"size": 13}}
    figure.add_annotation(title, text="x (µm)", x=0.5, y=0, yshift=-28, yanchor="top")
    figure.add_annotation(
        title, text="y (µm)", x=0, y=0.5, xshift=-48, xanchor="right", textangle=-90
    )
    _add_scale_bar(figure, left, bottom, right - left)
    return figure


def box_around(
    x_um: NDArray[np.float64],
    y_um: NDArray[np.float64],
    diameter_um: float,
    size_um: tuple[float, float],
) -> tuple[float, float, float, float]:
    """Return (left, top, right, bottom) around the spots with a margin, within the slide."""
    margin = diameter_um + 0.06 * max(np.ptp(x_um), np.ptp(y_um))
    return (
        max(0.0, float(x_um.min()) - margin),
        max(0.0, float(y_um.min()) - margin),
        min(size_um[0], float(x_um.max()) + margin),
        min(size_um[1], float(y_um.max()) + margin),
    )


def _add_scale_bar(figure: go.Figure, left: float, bottom: float, width: float) -> None:
    """Draw the bar into the lower left corner of the first view, on a pale ground."""
    bar = _round_length(width)
    label = f"{bar / 1000:g} mm" if bar >= 1000 else f"{bar:g} µm"
    pad = 0.02 * width
    figure.add_annotation(
        x=left + pad, y=bottom - pad, text=f"<b>{label}</b>", showarrow=False, xanchor="left",
        yanchor="bottom", yshift=5, font={"size": 13, "color": "#111"},
        bgcolor="rgba(255,255,255,0.8)", borderpad=3,
    )  # fmt: skip
    figure.add_shape(
        type="line", x0=left + pad, x1=left + pad + bar, y0=bottom - pad, y1=bottom - pad,
        line={"width": 5, "color": "#111"},
    )  # fmt: skip


def add_values(
    figure: go.Figure,
    x_um: NDArray[np.float64],
    y_um: NDArray[np.float64],
    values: NDArray[np.float32],
    *,
    ids: Sequence[str],
    details: NDArray[np.float32],
    hover: str,
    scale: str,
    limits: tuple[float, float],
    title: str,
) -> None:
    """Add hover texts and the colour bar: a WebGL scatter whose markers are invisible.

    `details` (N, k) is what `hover`, a Plotly template, shows as `%{customdata[i]}`.
    """
    figure.add_trace(
        go.Scattergl(
            x=np.asarray(x_um, np.float32), y=np.asarray(y_um, np.float32), mode="markers",
            text=list(ids), customdata=np.asarray(details, np.float32), hovertemplate=hover,
            marker={
                "size": 14, "opacity": 0, "color": np.asarray(values, np.float32),
                "colorscale": [[i / 8, palette(scale)[round(i * 255 / 8)]] for i in range(9)],
                "cmin": limits[0], "cmax": limits[1], "showscale": True,
                "colorbar": {
                    "orientation": "h", "x": 0, "xanchor": "left", "y": 1.0, "yanchor": "bottom",
                    "len": 0.62, "thickness": 14, "outlinewidth": 0, "ypad": 4, "xpad": 0,
                    "title": {"text": title, "side": "top"}, "nticks": 7,
                },
            },
        )
    )  # fmt: skip
    figure.update_layout(margin_t=74)


def add_anchor(figure: go.Figure, size_um: tuple[float, float]) -> None:
    """Add an unseen trace: pictures below the traces are drawn only where there is one."""
    figure.add_trace(
        go.Scatter(
            x=[0, size_um[0]], y=[0, size_um[1]], mode="markers", hoverinfo="skip",
            marker={"opacity": 0},
        )
    )  # fmt: skip
