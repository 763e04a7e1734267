"""One view as a file to send: the viewer itself with its data inside, which needs no server.

The file is opened from a disk or a mail. Its policy forbids every request, so nothing can leave it;
all text from outside is escaped.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.maps.layers import Layer
from app.maps.panels import Panel
from app.maps.picture_words import written
from app.maps.pictures import shown_slide
from app.maps.scene import Frame, Map, Scene, frame_of
from app.maps.tiles import encode_jpeg
from app.maps.viewer_text import module_text, viewer_style
from stem_core.constants import NOTICE
from stem_core.errors import SettingsError

__all__ = ["MOST_IMAGE_PX", "share_page"]

MOST_IMAGE_PX = 4000
_LEAST_IMAGE_PX = 256
_OVERVIEW_PX = 1024
_HEIGHT_PX = 660
_MOST_TOLD_SPOTS = 30_000  # beyond, a page holds what is drawn and no more
_FOLDER = Path(__file__).parents[1] / "components"
_POLICY = (
    "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)


def share_page(
    scene: Scene, *, notes: Sequence[str] = (), image_px: int = 2400, address: str = ""
) -> bytes:
    """Return a view as one HTML file that shows its maps to pan, zoom and hover.

    Parameters
    ----------
    scene
        The view.
    notes
        Sentences to say under the maps, such as how well the genes were predicted.
    image_px
        Long side of the H&E image of the view, 256 to 4,000 px; the rest of the slide comes with it
        at 1,024 px.
    address
        Where the view lies on the server, for those who can reach it.

    Raises
    ------
    SettingsError
        An image size that cannot be.
    SlideError
        The H&E image cannot be read.
    """
    if not _LEAST_IMAGE_PX <= image_px <= MOST_IMAGE_PX:
        msg = (
            f"The image of a page cannot be {image_px:,} px large; choose {_LEAST_IMAGE_PX} to "
            f"{MOST_IMAGE_PX:,} px."
        )
        raise SettingsError(msg)
    carried, pictures = _pictures(scene, image_px)
    carried["map/spots"] = _floats(scene.positions)
    carried["map/ids"] = _text_bytes(
        json.dumps([written(name) for name in scene.ids], allow_nan=False)
    )
    panels = []
    for one in scene.maps:
        panel = one.panel
        if len(scene.positions) > _MOST_TOLD_SPOTS:
            panel = replace(panel, details=())
        for layer in _layers(panel):
            carried[f"map/values?{layer}"] = _floats(scene.layer(layer))
        panels.append(
            {
                **panel.as_data(), "title": written(panel.title),
                "note": written(panel.note),
            }
        )  # fmt: skip
    frame = frame_of(scene)
    data = {
        "base": "",
        "slide": {
            "width_px": scene.width_px, "height_px": scene.height_px, "mpp": scene.mpp,
            "tiles": False, "pictures": pictures,
        },
        "panels": panels,
        "look": asdict(scene.look),
        "spot_diameter_um": scene.spot_diameter_um,
        "view": None if scene.view is None else {
            "x_um": frame.left_um + frame.width_um / 2,
            "y_um": frame.top_um + frame.height_um / 2,
            "width_um": frame.width_um,
        },
        "regions": [
            {"name": written(r.name), "colour": r.colour, "spots": list(r.spots),
             "polygons": [np.asarray(ring).round(1).tolist() for ring in r.polygons]}
            for r in scene.regions
        ],
        "mode": "pan", "height_px": _HEIGHT_PX, "turn": 0,
    }  # fmt: skip
    return _page(scene, data, carried, notes, address).encode("utf-8")


def _pictures(scene: Scene, image_px: int) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Return the H&E images, base64 by name, and their description for the viewer, finest last."""
    whole = Frame(0.0, 0.0, scene.width_px * scene.mpp, scene.height_px * scene.mpp)
    seen = frame_of(scene)
    carried, told = {}, []
    for name, frame, most_px in (
        ("overview", whole, min(_OVERVIEW_PX, image_px)),
        ("view", seen, image_px),
    ):
        long_um = max(frame.width_um, frame.height_um)
        read = shown_slide(
            scene, frame,
            max(1, round(most_px * frame.width_um / long_um)),
            max(1, round(most_px * frame.height_um / long_um)),
        )  # fmt: skip
        if read is None:
            continue
        picture, (x, y, width, height) = read
        carried[name] = base64.b64encode(encode_jpeg(picture)).decode("ascii")
        told.append({"name": name, "box": [x, y, x + width, y + height]})
    return carried, told


def _layers(panel: Panel) -> dict[Layer, None]:
    """Return the layers that a panel draws, greys out by, and tells of a spot."""
    told = (layer for detail in panel.details for layer in detail.layers)
    layers = (panel.layer, panel.spread, *(mute.layer for mute in panel.mutes), *told)
    return {layer: None for layer in layers if layer is not None}


def _text_bytes(text: str) -> str:
    return base64.b64encode(text.encode("utf-8")).decode("ascii")


def _floats(values: NDArray[np.float32]) -> str:
    return base64.b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode("ascii")


def _page(
    scene: Scene, data: dict[str, Any], carried: dict[str, str], notes: Sequence[str], address: str
) -> str:
    said = html.escape
    name = said(written(scene.slide_name))
    legend = "".join(
        f"<tr><td>{said(written(one.panel.title))}</td><td><code>{said(str(one.panel.layer))}</code>"
        f"</td><td>{said(one.panel.unit)}</td><td>{said(written(_trust(one)))}</td></tr>"
        for one in scene.maps
    )
    lines = "".join(f"<p>{said(written(note))}</p>" for note in notes if note)
    link = f"<p>On the server: <code>{said(address)}</code></p>" if address else ""
    shell = (_FOLDER / "maps_share.html").read_text(encoding="utf-8")
    pieces = {
        "POLICY": _POLICY,
        "NAME": name,
        "STYLE": viewer_style(),
        "FACTS": f"{said(written(scene.model))} · {len(scene.positions):,} spots of "
        f"{scene.spot_diameter_um:g} µm · {datetime.now(UTC):%d %b %Y}",
        "NOTICE": said(NOTICE),
        "LEGEND": legend,
        "LINES": lines + link,
        "DATA": _script_json({"view": data, "carried": carried}),
        "VIEWER": module_text("maps_share"),
    }
    # In one pass, so that what was filled in is not filled again.
    out = []
    for place, part in enumerate(shell.split("@@")):
        out.append(pieces[part] if place % 2 else part)
    return "".join(out)


def _trust(one: Map) -> str:
    badge = one.panel.badge
    words = badge.more[:1] if badge else ()
    return " ".join(filter(None, (one.panel.note, *words)))


def _script_json(value: Any) -> str:
    """Return JSON that cannot end the script it stands in, nor open a comment there."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
