"""The preview of a run: slide, tissue and spots in one Plotly figure in microns, image y down.

Spots are drawn at their physical size in a vector image that lies over the slide, so they keep
their true size at every zoom.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from PIL import Image

from app.maps.picture_words import round_length_um

__all__ = [
    "CHART_CONFIG",
    "add_anchor",
    "disc_layer",
    "jpeg_url",
    "ring_layer",
    "slide_figure",
    "tissue_layer",
]

CHART_CONFIG = {
    "scrollZoom": True,
    "displaylogo": False,
    "doubleClick": "reset",
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d", "resetScale2d"],
    "toImageButtonOptions": {"format": "png", "scale": 3, "filename": "stem-map"},
}
"""Behaviour of every map: the wheel zooms, dragging moves, a double click goes back."""

_MAX_RINGS = 20_000


def jpeg_url(image: NDArray[np.uint8]) -> str:
    """Encode an image, uint8 (h, w, 3), as a JPEG data address."""
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode("ascii")


def tissue_layer(mask: NDArray[np.bool_]) -> str:
    """Encode a tissue mask (h, w) as a PNG data address that veils what is not tissue."""
    veil = np.zeros((*mask.shape, 4), np.uint8)
    veil[~mask] = (15, 40, 60, 115)
    out = io.BytesIO()
    Image.fromarray(veil).save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode("ascii")


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


def slide_figure(
    layers: Sequence[tuple[str, float]],
    size_um: tuple[float, float],
    *,
    height_px: int,
    view: str,
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
    """
    width, height = size_um
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
        uirevision=view, dragmode="pan", showlegend=False, hovermode=False,
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": "#7a8794", "activecolor": "#0b6577"},
        plot_bgcolor="rgba(0,0,0,0)", paper_bgcolor="rgba(0,0,0,0)", separators=".\u202f",
        xaxis={**axis, "range": [0.0, width],
               "constrain": "domain", "constraintoward": "left"},
        yaxis={**axis, "range": [height, 0.0],
               "scaleanchor": "x", "constrain": "domain", "constraintoward": "top"},
    )  # fmt: skip
    # Axis titles as annotations: plotly.js puts its own on top of the tick labels here.
    title = {"xref": "x domain", "yref": "y domain", "showarrow": False, "font": {"size": 13}}
    figure.add_annotation(title, text="x (µm)", x=0.5, y=0, yshift=-28, yanchor="top")
    figure.add_annotation(
        title, text="y (µm)", x=0, y=0.5, xshift=-48, xanchor="right", textangle=-90
    )
    _add_scale_bar(figure, width, height)
    return figure


def _add_scale_bar(figure: go.Figure, width: float, bottom: float) -> None:
    """Draw the bar into the lower left corner of the slide, on a pale ground."""
    bar = round_length_um(max(width / 5, 1e-3))
    label = f"{bar / 1000:g} mm" if bar >= 1000 else f"{bar:g} µm"
    pad = 0.02 * width
    figure.add_annotation(
        x=pad, y=bottom - pad, text=f"<b>{label}</b>", showarrow=False, xanchor="left",
        yanchor="bottom", yshift=5, font={"size": 13, "color": "#111"},
        bgcolor="rgba(255,255,255,0.8)", borderpad=3,
    )  # fmt: skip
    figure.add_shape(
        type="line", x0=pad, x1=pad + bar, y0=bottom - pad, y1=bottom - pad,
        line={"width": 5, "color": "#111"},
    )  # fmt: skip


def add_anchor(figure: go.Figure, size_um: tuple[float, float]) -> None:
    """Add an unseen trace: pictures below the traces are drawn only where there is one."""
    figure.add_trace(
        go.Scatter(
            x=[0, size_um[0]], y=[0, size_um[1]], mode="markers", hoverinfo="skip",
            marker={"opacity": 0},
        )
    )  # fmt: skip
