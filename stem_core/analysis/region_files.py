"""Regions as GeoJSON that QuPath writes and reads.

A feature collection in level-0 pixels; each annotation is a feature with a polygon or several,
its name and class in the properties (QuPath documentation, "Exporting annotations").
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np

from stem_core.analysis.regions import Region
from stem_core.errors import SettingsError

__all__ = ["MAX_REGIONS", "read_regions", "write_regions"]

MAX_REGIONS = 1000
_MAX_POINTS = 1_000_000
_COLOUR = "#377eb8"
_EXPECTED = "give GeoJSON as QuPath exports it (polygons in pixels of the full-resolution slide)"


def write_regions(regions: Sequence[Region]) -> str:
    """Return regions as the text of a GeoJSON file.

    Raises
    ------
    SettingsError
        A region was chosen spot by spot and has no outline.
    """
    features = []
    for region in regions:
        if not region.polygons:
            msg = (
                f"The region {region.name!r} was chosen spot by spot and has no outline to write; "
                "draw it with the lasso."
            )
            raise SettingsError(msg)
        rings = [[*ring.tolist(), ring[0].tolist()] for ring in region.polygons]
        if len(rings) == 1:
            geometry: dict[str, Any] = {"type": "Polygon", "coordinates": rings}
        else:
            geometry = {"type": "MultiPolygon", "coordinates": _nested(region)}
        red, green, blue = bytes.fromhex(region.colour.removeprefix("#"))
        colour = [red, green, blue]
        features.append(
            {
                "type": "Feature",
                "id": str(uuid.uuid4()),
                "geometry": geometry,
                "properties": {
                    "objectType": "annotation",
                    "name": region.name,
                    "color": colour,
                    "classification": {"name": region.name, "color": colour},
                },
            }
        )
    collection = {"type": "FeatureCollection", "features": features}
    return json.dumps(collection, allow_nan=False, ensure_ascii=False)


def read_regions(
    text: str | bytes, width_px: float, height_px: float, source: str = "The file"
) -> tuple[Region, ...]:
    """Read regions from GeoJSON.

    Parameters
    ----------
    text
        The file's content: a feature collection, a list of features, or one feature.
    width_px, height_px
        Size of the slide at level 0, which the regions must touch; infinite where any will do.
    source
        What errors call the file.

    Returns
    -------
    tuple of Region
        In the order of the file; those without a name are "Region 1", "Region 2", …

    Raises
    ------
    SettingsError
        Not JSON, no features, more than 1,000, a geometry that is not a polygon, coordinates that
        are not numbers, or a region outside the slide.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        msg = f"{source} is not JSON; {_EXPECTED}."
        raise SettingsError(msg) from error
    features = _features(content, source)
    if len(features) > MAX_REGIONS:
        msg = (
            f"{source} holds {len(features):,} regions, and at most {MAX_REGIONS:,} are read; "
            "export fewer."
        )
        raise SettingsError(msg)
    regions = []
    for number, feature in enumerate(features, start=1):
        name = _name(feature) or f"Region {number}"
        rings = _rings(feature, name, source)
        corners = np.concatenate(rings)
        if not (
            corners[:, 0].max() > 0
            and corners[:, 1].max() > 0
            and corners[:, 0].min() < width_px
            and corners[:, 1].min() < height_px
        ):
            msg = (
                f"{source} has the region {name!r} outside the slide of {width_px:,} × "
                f"{height_px:,} px; import the regions of this slide, in its full resolution."
            )
            raise SettingsError(msg)
        regions.append(Region(name, rings, colour=_colour(feature)))
    return tuple(regions)


def _features(content: Any, source: str) -> list[dict[str, Any]]:
    if isinstance(content, dict) and content.get("type") == "FeatureCollection":
        content = content.get("features")
    elif isinstance(content, dict) and content.get("type") == "Feature":
        content = [content]
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        msg = f"{source} is JSON but holds no features; {_EXPECTED}."
        raise SettingsError(msg)
    if not content:
        msg = f"{source} holds no region; draw some before they are exported."
        raise SettingsError(msg)
    return content


def _rings(feature: dict[str, Any], name: str, source: str) -> tuple[Any, ...]:
    """Outlines and holes of a feature, (P,2) each, not closed."""
    geometry = feature.get("geometry")
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    if not isinstance(geometry, dict) or kind not in ("Polygon", "MultiPolygon"):
        msg = (
            f"{source} has the region {name!r} with a geometry of type {kind}, and only Polygon "
            "and MultiPolygon have an inside; export it as one of these."
        )
        raise SettingsError(msg)
    parts = geometry.get("coordinates")
    polygons = [parts] if kind == "Polygon" else parts
    wrong = (
        f"{source} has the region {name!r} with coordinates that are not rings of at least 3 "
        f"points (x, y); {_EXPECTED}."
    )
    if not isinstance(polygons, list) or not all(isinstance(part, list) for part in polygons):
        raise SettingsError(wrong)
    out = []
    for ring in (ring for polygon in polygons for ring in polygon):
        try:
            corners = np.array([point[:2] for point in ring], dtype=np.float64)
        except (TypeError, ValueError, KeyError, OverflowError) as error:
            raise SettingsError(wrong) from error
        if corners.ndim != 2 or corners.shape[1] != 2 or not np.isfinite(corners).all():
            raise SettingsError(wrong)
        if len(corners) > 1 and (corners[0] == corners[-1]).all():
            corners = corners[:-1]
        if not 3 <= len(corners) <= _MAX_POINTS:
            raise SettingsError(wrong)
        out.append(corners)
    if not out:
        raise SettingsError(wrong)
    return tuple(out)


def _nested(region: Region) -> list[list[list[list[float]]]]:
    """Polygons of a region: each outline with the holes that lie in it."""
    rings = list(region.polygons)
    depth = [sum(_within(ring, other) for other in rings if other is not ring) for ring in rings]
    closed = [[*ring.tolist(), ring[0].tolist()] for ring in rings]
    out = []
    for ring, level, outline in zip(rings, depth, closed, strict=True):
        if level % 2 == 0:
            holes = [
                hole
                for inner, deep, hole in zip(rings, depth, closed, strict=True)
                if deep == level + 1 and _within(inner, ring)
            ]
            out.append([outline, *holes])
    return out


def _within(ring: Any, other: Any) -> bool:
    """Whether a ring's first corner lies in another ring."""
    one = Region("", (other,)).inside(ring[:1, 0], ring[:1, 1])
    return bool(one[0])


def _properties(feature: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    properties = feature.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    kind = properties.get("classification")
    return properties, kind if isinstance(kind, dict) else {}


def _name(feature: dict[str, Any]) -> str:
    properties, kind = _properties(feature)
    for value in (properties.get("name"), kind.get("name")):
        if isinstance(value, str) and value.strip():
            return " ".join(value.split())[:100]
    return ""


def _colour(feature: dict[str, Any]) -> str:
    properties, kind = _properties(feature)
    for value in (properties.get("color"), kind.get("color"), kind.get("colorRGB")):
        if isinstance(value, list) and len(value) == 3 and all(map(_is_level, value)):
            return "#" + bytes(round(part) for part in value).hex()
        if isinstance(value, int) and not isinstance(value, bool):
            return f"#{value & 0xFFFFFF:06x}"  # older QuPath: one number
    return _COLOUR


def _is_level(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and 0 <= value <= 255
