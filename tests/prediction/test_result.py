"""A prediction as AnnData: what it holds, who can read it, and that it comes back the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import anndata
import h5py
import matplotlib
import numpy as np
import pandas as pd
import pytest

from stem_core.constants import NOTICE
from stem_core.errors import ModelError, OutputError
from stem_core.prediction.export import write_prediction
from stem_core.prediction.result import Prediction, read_prediction, to_anndata
from stem_core.prediction.values import PredictedArrays
from stem_core.slides.spots import Spots

matplotlib.use("Agg")


def make_prediction(n_spots: int = 12, slide_name: str = "C5.tif") -> Prediction:
    """A prediction with awkward content: odd names, values of all sizes, gaps in the gene table."""
    rng = np.random.default_rng(7)
    symbols = ("GAPDH", "HLA-DRA", "RP11-1.2", "XBP1", "7SK")
    shape = (n_spots, len(symbols))
    mean = (rng.gamma(0.7, 1.0, shape) * 10.0 ** rng.integers(-9, 2, shape)).astype(np.float32)
    std = rng.gamma(2.0, 0.3, shape).astype(np.float32)
    mean[0, 0] = 0.0
    spots = Spots(
        ids=tuple(f"{row // 4}x{row % 4}" for row in range(n_spots)),
        x_px=rng.uniform(0, 4000, n_spots),
        y_px=rng.uniform(0, 3000, n_spots),
        diameter_um=100.0,
        pitch_um=200.0,
        source="measured",
        array_row=np.arange(n_spots, dtype=np.int32) // 4,
        array_col=np.arange(n_spots, dtype=np.int32) % 4,
        in_tissue=np.arange(n_spots) % 3 > 0,
        tissue_fraction=rng.uniform(0, 1, n_spots).astype(np.float32),
    )
    table = pd.DataFrame(
        {
            "ensembl": ["ENSG00000111640", "", "", "ENSG00000100219", ""],
            "pcc": [0.61, 0.1 + 0.2, np.nan, 0.5, -0.04],
            "rvd": np.linspace(0.1, 0.9, 5),
            "calibrated": [True, True, False, True, False],
        },
        index=pd.Index(symbols, name="symbol"),
    )
    return Prediction(
        slide_name=slide_name,
        spots=spots,
        mpp=0.69,
        symbols=symbols,
        ensembl=tuple(table["ensembl"]),
        values=PredictedArrays(
            mean=mean,
            std=std,
            q05=(mean - std).astype(np.float32),
            q95=(mean + std).astype(np.float32),
        ),
        domain_distance=rng.gamma(2.0, 1.0, n_spots).astype(np.float32),
        gene_table=table,
        run={"model": "tiny", "seed": 0, "command": "stem predict C5.tif"},
        thumbnail=rng.integers(0, 255, (30, 40, 3), dtype=np.uint8),
        thumbnail_scale=0.01,
    )


def test_anndata_has_the_promised_parts() -> None:
    prediction = make_prediction()
    adata = to_anndata(prediction)

    assert adata.X.dtype == np.float32
    np.testing.assert_array_equal(adata.X, prediction.mean)
    assert set(adata.layers) - {None} == {"std", "q05", "q95"}  # anndata 0.13 lists X as None
    assert list(adata.obs) == [
        "x_px", "y_px", "x_um", "y_um", "array_row", "array_col", "in_tissue",
        "tissue_fraction", "domain_distance",
    ]  # fmt: skip
    assert list(adata.obs_names) == list(prediction.spots.ids)
    assert list(adata.var_names) == list(prediction.symbols)
    assert list(adata.var) == ["ensembl", "pcc", "rvd", "calibrated"]
    np.testing.assert_array_equal(
        adata.obsm["spatial"], np.c_[prediction.spots.x_px, prediction.spots.y_px]
    )
    np.testing.assert_allclose(adata.obs["x_um"], prediction.spots.x_px * 0.69)
    assert set(adata.obs["in_tissue"]) == {0, 1}
    library = adata.uns["spatial"]["C5.tif"]
    assert library["images"]["hires"].dtype == np.uint8
    assert library["scalefactors"]["tissue_hires_scalef"] == 0.01
    assert library["scalefactors"]["spot_diameter_fullres"] == pytest.approx(100 / 0.69)
    assert adata.uns["log1p"]["base"] == 2
    assert json.loads(adata.uns["stem"])["notice"] == NOTICE


def test_reading_gives_back_what_was_written(tmp_path: Path) -> None:
    prediction = make_prediction()
    paths = write_prediction(prediction, tmp_path / "out")
    back = read_prediction(paths["prediction.h5ad"])

    for name in ("mean", "std", "q05", "q95", "domain_distance", "thumbnail"):
        np.testing.assert_array_equal(getattr(back, name), getattr(prediction, name), err_msg=name)
        assert getattr(back, name).dtype == getattr(prediction, name).dtype
    for name in ("slide_name", "mpp", "symbols", "ensembl", "thumbnail_scale"):
        assert getattr(back, name) == getattr(prediction, name)
    for name in Spots.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(back.spots, name), getattr(prediction.spots, name))
    assert back.run == {"notice": NOTICE, **prediction.run}
    pd.testing.assert_frame_equal(back.genes(), prediction.genes())


def test_a_model_without_a_reference_gives_no_domain_distance(tmp_path: Path) -> None:
    prediction = replace(make_prediction(), domain_distance=None)
    paths = write_prediction(prediction, tmp_path / "out")
    assert read_prediction(paths["prediction.h5ad"]).domain_distance is None


def test_the_ridge_baseline_goes_with_a_result(tmp_path: Path) -> None:
    plain = make_prediction()
    path = write_prediction(plain, tmp_path / "out")["prediction.h5ad"]
    assert read_prediction(path).ridge is None
    prediction = replace(plain, values=replace(plain.values, ridge=plain.mean + 1))
    path = write_prediction(prediction, tmp_path / "with")["prediction.h5ad"]
    np.testing.assert_array_equal(read_prediction(path).ridge, plain.mean + 1)
    np.testing.assert_array_equal(to_anndata(prediction).layers["ridge"], plain.mean + 1)
    with pytest.raises(ValueError, match="ridge has shape"):
        replace(plain, values=replace(plain.values, ridge=plain.mean[1:]))


def test_a_single_spot_has_no_pitch(tmp_path: Path) -> None:
    prediction = make_prediction(1)
    prediction = replace(prediction, spots=replace(prediction.spots, pitch_um=None))
    back = read_prediction(write_prediction(prediction, tmp_path / "out")["prediction.h5ad"])
    assert back.spots.pitch_um is None


@pytest.mark.parametrize(
    "name", ["a/b\\c.svs", "..", "", "Präparat 3 µm.tif", "x\x00y", "b\udce4d"]
)
def test_any_file_name_can_be_the_slide_name(tmp_path: Path, name: str) -> None:
    paths = write_prediction(make_prediction(slide_name=name), tmp_path / "out")
    adata = anndata.read_h5ad(paths["prediction.h5ad"])
    assert len(adata.uns["spatial"]) == 1
    assert "images" in next(iter(adata.uns["spatial"].values()))


def test_older_anndata_understands_the_encodings(tmp_path: Path) -> None:
    """anndata 0.10 knows these encodings, and not the nullable strings of newer versions."""
    paths = write_prediction(make_prediction(), tmp_path / "out")
    known = {"anndata", "dataframe", "array", "string-array", "string", "dict", "numeric-scalar"}
    found = {}
    with h5py.File(paths["prediction.h5ad"]) as file:
        file.visititems(lambda name, item: found.update({name: item.attrs.get("encoding-type")}))
        assert dict(file.attrs) == {"encoding-type": "anndata", "encoding-version": "0.1.0"}
        for table in ("obs", "var"):
            index = file[table].attrs["_index"]
            assert file[f"{table}/{index}"].attrs["encoding-type"] == "string-array"
    assert found["var/ensembl"] == "string-array"
    assert found["uns/stem"] == "string"
    assert set(found.values()) <= known, {
        name: kind for name, kind in found.items() if kind not in known
    }


def test_scanpy_draws_it_unchanged(tmp_path: Path) -> None:
    scanpy = pytest.importorskip("scanpy")
    paths = write_prediction(make_prediction(), tmp_path / "out")
    adata = scanpy.read_h5ad(paths["prediction.h5ad"])
    axes = scanpy.pl.spatial(adata, color=["XBP1", "domain_distance"], show=False)
    assert len(axes) == 2
    for axis in axes:
        assert axis.images, "the slide lies under the spots"
        assert len(axis.collections[0].get_offsets()) + len(axis.patches) >= 1
    matplotlib.pyplot.close("all")


@pytest.mark.parametrize("array", ["mean", "std", "q05", "q95", "domain_distance"])
def test_values_that_are_not_finite_are_refused(array: str) -> None:
    prediction = make_prediction()
    spoilt = getattr(prediction, array).copy()
    spoilt[3] = np.nan
    with pytest.raises(ModelError, match=r"not finite numbers .*0x3"):
        if array == "domain_distance":
            replace(prediction, domain_distance=spoilt)
        else:
            replace(prediction, values=replace(prediction.values, **{array: spoilt}))


def test_shapes_are_checked() -> None:
    prediction = make_prediction()
    with pytest.raises(ValueError, match=r"std has shape \(12, 4\)"):
        replace(prediction, values=replace(prediction.values, std=prediction.std[:, :4]))
    with pytest.raises(ValueError, match="4 Ensembl ids for 5 genes"):
        replace(prediction, ensembl=prediction.ensembl[:4])


def test_a_file_that_is_no_prediction_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no file"):
        read_prediction(tmp_path / "missing.h5ad")
    damaged = tmp_path / "damaged.h5ad"
    damaged.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(OutputError, match="damaged"):
        read_prediction(damaged)
    other = tmp_path / "other.h5ad"
    anndata.AnnData(np.zeros((2, 2), np.float32)).write_h5ad(other)
    with pytest.raises(OutputError, match="no column x_px"):
        read_prediction(other)
