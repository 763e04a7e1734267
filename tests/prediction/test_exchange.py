"""Results for other programs: what they hold, read back, and what is refused."""

from __future__ import annotations

import csv
import json
import math
import sys
import uuid
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from stem_core.constants import UNITS
from stem_core.errors import OutputError, SettingsError
from stem_core.prediction.exchange import write_qupath, write_spatialdata, write_tissuumaps
from stem_core.prediction.export import write_prediction
from tests.prediction.test_result import make_prediction


def test_qupath_detections_have_its_structure(tmp_path: Path) -> None:
    """As QuPath 0.4 and newer write and read it: PathObjectTypeAdapters, ROITypeAdapters."""
    prediction = make_prediction(12)
    path = write_qupath(prediction, tmp_path / "spots.geojson", genes=["XBP1", "GAPDH", "XBP1"])
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["type"] == "FeatureCollection" and len(content["features"]) == 12
    radius = 100.0 / prediction.mpp / 2
    ids = set()
    for row, feature in enumerate(content["features"]):
        assert feature["type"] == "Feature"
        ids.add(uuid.UUID(feature["id"]))
        geometry, properties = feature["geometry"], feature["properties"]
        assert geometry["type"] == "Polygon" and geometry["isEllipse"] is True
        [ring] = geometry["coordinates"]
        assert ring[0] == ring[-1] and len(ring) > 8
        corners = np.array(ring)
        centre = (corners.min(axis=0) + corners.max(axis=0)) / 2  # QuPath takes the bounding box
        expected = prediction.spots.x_px[row], prediction.spots.y_px[row]
        np.testing.assert_allclose(centre, expected, atol=0.02)
        np.testing.assert_allclose(np.ptp(corners, axis=0), 2 * radius, atol=0.04)
        assert properties["objectType"] == "detection"
        assert properties["name"] == prediction.spots.ids[row]
        measured = properties["measurements"]
        assert list(measured) == [
            f"GAPDH: prediction, {UNITS}", f"GAPDH: spread, {UNITS}", f"XBP1: prediction, {UNITS}",
            f"XBP1: spread, {UNITS}", "Tissue fraction", "Domain distance, edges of training",
        ]  # fmt: skip
        assert all(isinstance(v, int | float) and math.isfinite(v) for v in measured.values())
        value = measured[f"XBP1: prediction, {UNITS}"]
        assert value == pytest.approx(float(prediction.mean[row, 3]), rel=1e-5)
    assert len(ids) == 12
    again = write_qupath(prediction, path, genes=["GAPDH", "XBP1"])  # replaces, and is the same
    assert json.loads(again.read_text(encoding="utf-8")) == content
    assert [item.name for item in tmp_path.iterdir()] == ["spots.geojson"]


def test_tissuumaps_project_names_what_lies_beside_it(tmp_path: Path) -> None:
    prediction = replace(make_prediction(9), slide_name='odd "name"\udcff</script>.tif')
    folder = write_tissuumaps(prediction, tmp_path / "project")
    project = json.loads((folder / "stem.tmap").read_text(encoding="utf-8"))
    [layer], [markers] = project["layers"], project["markerFiles"]
    image = tifffile.imread(folder / layer["tileSource"].removesuffix(".dzi"))
    np.testing.assert_array_equal(image, prediction.thumbnail)
    with (folder / markers["path"]).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    header = markers["expectedHeader"]
    scale = prediction.thumbnail_scale
    for row, x, y in zip(rows, prediction.spots.x_px, prediction.spots.y_px, strict=True):
        assert float(row[header["X"]]) == pytest.approx(x * scale)
        assert float(row[header["Y"]]) == pytest.approx(y * scale)
    chosen = [option["expectedHeader.cb_col"] for option in markers["dropdownOptions"]]
    assert set(chosen) <= set(rows[0]) and header["cb_col"] in chosen
    assert len(chosen) == 2 * len(prediction.symbols) + 1
    values = np.array([float(row["gene XBP1"]) for row in rows], np.float32)
    np.testing.assert_array_equal(values, prediction.mean[:, 3])
    assert {"name", "title", "uid", "expectedRadios"} <= set(markers)
    assert (folder / "run.json").is_file()
    packed = write_tissuumaps(prediction, tmp_path / "project.zip", genes=["7SK"])
    with zipfile.ZipFile(packed) as archive:
        assert sorted(archive.namelist()) == ["run.json", "slide.tif", "spots.csv", "stem.tmap"]
        head = archive.read("spots.csv").decode("utf-8").splitlines()[0]
    assert head == "spot,x,y,x_um,y_um,domain distance,gene 7SK,spread 7SK"
    with pytest.raises(OutputError, match="exists already"):
        write_tissuumaps(prediction, folder)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["project", "project.zip"]


def test_genes_and_places_that_cannot_be(tmp_path: Path) -> None:
    prediction = make_prediction(3)
    for genes, said in ((["NOPE", "XBP1", "NO"], "'NO' \\(nor 1 more"), ([], "No gene was named")):
        with pytest.raises(SettingsError, match=said):
            write_qupath(prediction, tmp_path / "q.geojson", genes=genes)
    with pytest.raises(OutputError, match="Make the folder"):
        write_qupath(prediction, tmp_path / "no" / "q.geojson")
    with pytest.raises(OutputError, match="it is a folder"):
        write_qupath(prediction, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore")
def test_spatialdata_reads_it_back(tmp_path: Path) -> None:
    spatialdata = pytest.importorskip("spatialdata")
    from spatialdata.transformations import get_transformation

    prediction = make_prediction(12)
    path = write_spatialdata(prediction, tmp_path / "result.zarr")
    store = spatialdata.read_zarr(path)
    table, spots, image = store["table"], store["spots"], store["slide"]
    np.testing.assert_array_equal(table.X, prediction.mean)
    np.testing.assert_array_equal(table.layers["std"], prediction.std)
    assert list(table.obs["spot"]) == list(spots.index) == list(prediction.spots.ids)
    np.testing.assert_allclose(spots.geometry.x, prediction.spots.x_px)
    np.testing.assert_allclose(spots.radius, 100.0 / prediction.mpp / 2)
    np.testing.assert_array_equal(np.moveaxis(image.to_numpy(), 0, 2), prediction.thumbnail)
    axes = ("x", "y")
    to_um = get_transformation(spots, "microns").to_affine_matrix(axes, axes)
    assert to_um[0, 0] == pytest.approx(prediction.mpp)
    to_px = get_transformation(image, "global").to_affine_matrix(axes, axes)
    assert to_px[1, 1] == pytest.approx(1 / prediction.thumbnail_scale)
    with pytest.raises(OutputError, match="exists already"):
        write_spatialdata(prediction, path)


def test_without_spatialdata_one_sentence_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "spatialdata", None)  # as where it is not installed
    with pytest.raises(OutputError, match=r'pip install "stem-in-a-browser\[spatialdata\]"'):
        write_spatialdata(make_prediction(3), tmp_path / "result.zarr")
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore")
def test_squidpy_draws_the_h5ad(tmp_path: Path) -> None:
    squidpy = pytest.importorskip("squidpy")
    import anndata
    from matplotlib.figure import Figure

    prediction = make_prediction(12)
    paths = write_prediction(prediction, tmp_path / "out")
    adata = anndata.read_h5ad(paths["prediction.h5ad"])
    axes = Figure().subplots()
    squidpy.pl.spatial_scatter(adata, color="XBP1", ax=axes)
    [image] = axes.get_images()
    assert image.get_array().shape[2] in (3, 4)
    scale = prediction.thumbnail_scale
    circles = [path for collection in axes.collections for path in collection.get_paths()]
    drawn = np.array([circle.get_extents().get_points().mean(axis=0) for circle in circles])
    expected = np.column_stack([prediction.spots.x_px, prediction.spots.y_px]) * scale
    np.testing.assert_allclose(np.sort(drawn, axis=0), np.sort(expected, axis=0), atol=1)
