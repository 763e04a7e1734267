"""The five files: complete or absent, exact, and never over something else."""

from __future__ import annotations

import hashlib
import json
import math
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stem_core.constants import NOTICE
from stem_core.errors import OutputError
from stem_core.prediction import export
from stem_core.prediction.export import (
    FILE_NAMES,
    claim_output_dir,
    write_prediction,
    zip_prediction,
)
from stem_core.prediction.result import read_prediction
from tests.prediction.test_result import make_prediction


def listing(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.rglob("*"))


def test_the_csv_files_equal_the_h5ad_to_the_last_bit(tmp_path: Path) -> None:
    prediction = make_prediction(60)
    paths = write_prediction(prediction, tmp_path / "deep" / "out")
    assert sorted(paths) == sorted(FILE_NAMES)
    back = read_prediction(paths["prediction.h5ad"])
    for name, values in (("expression", back.mean), ("uncertainty", back.std)):
        table = pd.read_csv(paths[f"{name}.csv"], dtype={"spot": str})
        assert list(table)[:5] == ["spot", "x_px", "y_px", "x_um", "y_um"]
        assert tuple(table)[5:] == prediction.symbols
        assert tuple(table["spot"]) == prediction.spots.ids
        np.testing.assert_array_equal(table.iloc[:, 5:].to_numpy(np.float32), values)
        positions = pd.read_csv(paths[f"{name}.csv"], float_precision="round_trip")
        np.testing.assert_array_equal(positions["x_px"], prediction.spots.x_px)
        np.testing.assert_array_equal(positions["y_px"], prediction.spots.y_px)


def test_two_runs_give_the_same_bytes(tmp_path: Path) -> None:
    sums = []
    for name in ("a", "b"):
        paths = write_prediction(make_prediction(), tmp_path / name)
        sums.append(
            {key: hashlib.sha256(path.read_bytes()).hexdigest() for key, path in paths.items()}
        )
    assert sums[0] == sums[1]


def test_genes_and_run_record(tmp_path: Path) -> None:
    prediction = make_prediction()
    paths = write_prediction(prediction, tmp_path / "out")
    genes = pd.read_csv(paths["genes.csv"], index_col="symbol", float_precision="round_trip")
    assert list(genes) == ["ensembl", "pcc", "rvd", "calibrated"]
    assert genes.loc["HLA-DRA", "pcc"] == 0.1 + 0.2
    assert math.isnan(genes.loc["RP11-1.2", "pcc"])
    run = json.loads(paths["run.json"].read_text(encoding="utf-8"))
    assert run == {"notice": NOTICE, **prediction.run}
    assert "research use only" in NOTICE


def test_nothing_but_the_five_files_is_left(tmp_path: Path) -> None:
    write_prediction(make_prediction(), tmp_path / "out")
    assert listing(tmp_path / "out") == sorted(FILE_NAMES)


def test_a_folder_with_files_needs_overwrite(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"not empty \(it holds notes.txt\).*--overwrite"):
        write_prediction(make_prediction(), out)
    assert listing(out) == ["notes.txt"]
    write_prediction(make_prediction(), out, overwrite=True)
    assert listing(out) == sorted([*FILE_NAMES, "notes.txt"])
    assert (out / "notes.txt").read_text() == "mine"

    other = replace(make_prediction(), run={"seed": 9})
    write_prediction(other, out, overwrite=True)
    assert json.loads((out / "run.json").read_text())["seed"] == 9


def test_claiming_leaves_no_trace(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    assert claim_output_dir(out) == out
    assert listing(tmp_path) == []
    (tmp_path / "a").mkdir()
    claim_output_dir(tmp_path / "a")
    assert listing(tmp_path) == ["a"]


def test_folders_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(OutputError, match="is a file, not a folder"):
        claim_output_dir(file)
    with pytest.raises(OutputError, match="cannot be written"):
        claim_output_dir(file / "out")
    with pytest.raises(OutputError, match="cannot be written"):
        claim_output_dir(tmp_path / ("x" * 400))
    (tmp_path / "out" / "expression.csv").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"a folder named expression.csv"):
        claim_output_dir(tmp_path / "out", overwrite=True)


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> None:
    """The disk fills up, or the user stops, after the first CSV file was written aside."""
    write_csv = export._write_csv

    def failing(*args: object) -> None:
        path = args[-1]
        assert isinstance(path, Path)
        if path.name == "uncertainty.csv":
            raise fault
        write_csv(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(export, "_write_csv", failing)
    expected = OutputError if isinstance(fault, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        write_prediction(make_prediction(), tmp_path / "out")
    assert not (tmp_path / "out").exists()

    earlier = tmp_path / "earlier"
    monkeypatch.undo()
    write_prediction(make_prediction(), earlier)
    before = {name: (earlier / name).read_bytes() for name in FILE_NAMES}
    monkeypatch.setattr(export, "_write_csv", failing)
    with pytest.raises(expected):
        write_prediction(make_prediction(20), earlier, overwrite=True)
    assert {name: (earlier / name).read_bytes() for name in listing(earlier)} == before


def test_zip_holds_the_same_files(tmp_path: Path) -> None:
    paths = write_prediction(make_prediction(), tmp_path / "out")
    target = zip_prediction(tmp_path / "out", tmp_path / "result.zip")
    with zipfile.ZipFile(target) as archive:
        assert archive.namelist() == list(FILE_NAMES)
        assert archive.testzip() is None
        for name, path in paths.items():
            assert archive.read(name) == path.read_bytes()
    assert listing(tmp_path) == sorted(["out", *FILE_NAMES, "result.zip"])

    paths["genes.csv"].unlink()
    with pytest.raises(OutputError, match=r"genes\.csv missing"):
        zip_prediction(tmp_path / "out", tmp_path / "second.zip")
    assert not (tmp_path / "second.zip").exists()
