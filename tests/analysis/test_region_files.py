import json
import uuid

import numpy as np
import pytest

from stem_core.analysis.region_files import read_regions, write_regions
from stem_core.analysis.regions import Region
from stem_core.errors import SettingsError

BOX = np.array([(100.5, 200.25), (300, 200), (300, 400), (100, 400)], dtype=float)


def feature(geometry: object, **properties: object) -> str:
    return json.dumps({"type": "Feature", "geometry": geometry, "properties": properties})


def test_regions_come_back_as_they_were() -> None:
    hole = np.array([(150, 250), (200, 250), (200, 300)], dtype=float)
    regions = [Region("Tumour · é", (BOX,), colour="#c80000"), Region("B", (BOX + 500, hole + 500))]
    text = write_regions(regions)
    back = read_regions(text, 2000, 2000)
    assert [(one.name, one.colour) for one in back] == [(o.name, o.colour) for o in regions]
    for one, other in zip(regions, back, strict=True):
        assert all(map(np.array_equal, one.polygons, other.polygons))


def test_the_file_is_as_qupath_has_it() -> None:
    island = BOX + 1000
    hole = np.array([(150, 250), (200, 250), (200, 300)], dtype=float)
    text = write_regions([Region("T", (BOX,), colour="#c80010"), Region("M", (BOX, hole, island))])
    content = json.loads(text)
    assert content["type"] == "FeatureCollection"
    one, many = content["features"]
    assert one["type"] == "Feature" and uuid.UUID(one["id"]) != uuid.UUID(many["id"])
    assert one["properties"]["objectType"] == "annotation"
    assert one["properties"]["classification"] == {"name": "T", "color": [200, 0, 16]}
    assert one["geometry"]["type"] == "Polygon"
    ring = one["geometry"]["coordinates"][0]
    assert ring[0] == [100.5, 200.25] and ring[0] == ring[-1] and len(ring) == 5
    assert many["geometry"]["type"] == "MultiPolygon"
    assert [len(part) for part in many["geometry"]["coordinates"]] == [2, 1]  # outline and hole


def test_what_qupath_writes_is_read() -> None:
    ring = [[10, 10], [50, 10], [50, 50], [10, 10]]
    unnamed = {"type": "Polygon", "coordinates": [ring]}
    text = feature(
        unnamed, objectType="annotation", classification={"name": "Stroma", "colorRGB": -3670016}
    )
    (region,) = read_regions(text, 100, 100)
    assert region.name == "Stroma" and region.colour == "#c80000"
    (region,) = read_regions(feature(unnamed).encode(), 100, 100)
    assert region.name == "Region 1" and len(region.polygons[0]) == 3
    (region,) = read_regions("[" + feature(unnamed, color=["x", 1, 2]) + "]", 100, 100)
    assert region.colour.startswith("#")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{not json", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("{}", "holds no features"),
        ("[1, 2]", "holds no features"),
        ('{"type": "FeatureCollection", "features": []}', "holds no region"),
        (feature({"type": "Point", "coordinates": [1, 2]}, name="P"), "'P' .*type Point"),
        (feature(None, name="P"), "'P' .*type None"),
        (feature({"type": "Polygon", "coordinates": [[[1, 2], [3, 4]]]}), "at least 3 points"),
        (feature({"type": "Polygon", "coordinates": [[["a", 2], [3, 4], [5, 6]]]}), "not rings"),
        (feature({"type": "Polygon", "coordinates": [[[1, float("nan")]] * 4]}), "not rings"),
        (feature({"type": "Polygon", "coordinates": 7}), "not rings"),
        (feature({"type": "Polygon", "coordinates": []}), "not rings"),
        (feature({"type": "MultiPolygon", "coordinates": [[[[1, 2], [3]], 5]]}), "not rings"),
        (
            feature({"type": "Polygon", "coordinates": [[[900, 1], [950, 1], [950, 9]]]}, name="Q"),
            "'Q' outside the slide of 800 × 600",
        ),
        (
            json.dumps([{"type": "Feature", "geometry": None}] * 1001),
            "1,001 regions",
        ),
    ],
)
def test_a_bad_file_is_refused_with_a_sentence(text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        read_regions(text, 800, 600, "regions.geojson")
    assert str(caught.value).startswith("regions.geojson") and str(caught.value).endswith(".")


def test_regions_without_an_outline_are_not_written() -> None:
    with pytest.raises(SettingsError, match="no outline"):
        write_regions([Region("picked", spots=(1, 2))])
