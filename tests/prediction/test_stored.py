"""A prediction read gene by gene from its file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from stem_core.errors import OutputError
from stem_core.prediction.export import write_prediction
from stem_core.prediction.result import Prediction, open_prediction
from stem_core.prediction.values import FileValues
from stem_core.slides.spots import Spots
from tests.prediction.test_result import make_prediction

ARRAYS = ("mean", "std", "q05", "q95")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_prediction(make_prediction(), tmp_path / "out")["prediction.h5ad"]


def read_in_full(stored: Prediction) -> int:
    """How many of its (N, G) arrays were read."""
    assert isinstance(stored.values, FileValues)
    return stored.values._all.cache_info().currsize


def test_it_is_what_was_written_and_reads_values_when_asked(file: Path) -> None:
    prediction = make_prediction()
    stored = open_prediction(file)
    for name in ("slide_name", "mpp", "symbols", "ensembl", "thumbnail_scale"):
        assert getattr(stored, name) == getattr(prediction, name)
    for name in Spots.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(stored.spots, name), getattr(prediction.spots, name))
    np.testing.assert_array_equal(stored.domain_distance, prediction.domain_distance)
    np.testing.assert_array_equal(stored.thumbnail, prediction.thumbnail)
    pd.testing.assert_frame_equal(stored.genes(), prediction.genes())
    for name in ARRAYS:
        for place in range(len(prediction.symbols)):
            column = stored.values.column(name, place)
            np.testing.assert_array_equal(column, getattr(prediction, name)[:, place])
            assert column.dtype == np.float32 and not column.flags.writeable
    assert read_in_full(stored) == 0
    np.testing.assert_array_equal(stored.std, prediction.std)
    assert stored.std is stored.std and read_in_full(stored) == 1
    np.testing.assert_array_equal(stored.values.column("std", 1), prediction.std[:, 1])


def test_the_ridge_baseline_is_read_where_there_is_one(file: Path, tmp_path: Path) -> None:
    assert open_prediction(file).ridge is None
    prediction = make_prediction()
    values = dataclasses.replace(prediction.values, ridge=prediction.mean + 1)
    prediction = dataclasses.replace(prediction, values=values)
    stored = open_prediction(write_prediction(prediction, tmp_path / "r")["prediction.h5ad"])
    assert read_in_full(stored) == 0
    np.testing.assert_array_equal(stored.ridge, prediction.ridge)
    np.testing.assert_array_equal(stored.values.column("ridge", 2), prediction.mean[:, 2] + 1)


def test_damage_and_loss_are_told_in_a_sentence(file: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="There is no file"):
        open_prediction(tmp_path / "missing.h5ad")
    other = tmp_path / "other.h5ad"
    other.write_bytes(b"no HDF5")
    with pytest.raises(OutputError, match=r"other\.h5ad is damaged or was not written"):
        open_prediction(other)
    stored = open_prediction(file)
    with h5py.File(file, "r+") as opened:
        del opened["layers/q95"]
    with pytest.raises(OutputError, match="damaged"):
        stored.values.column("q95", 0)
    with pytest.raises(OutputError, match="damaged"):
        open_prediction(file)
    with h5py.File(file, "r+") as opened:
        opened["layers/q95"] = np.zeros((3, 2), np.float32)
    with pytest.raises(OutputError, match="q95 is not an array of 12 spots and 5 genes"):
        open_prediction(file)
    file.unlink()
    with pytest.raises(OutputError, match="There is no file"):
        _ = stored.mean
