"""Measured sections from files: h5ad, Space Ranger's folder and a zip of it; and wrong ones."""

from __future__ import annotations

import dataclasses
import stat
import zipfile
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from PIL import Image
from scipy.sparse import csr_matrix

from stem_core.analysis.measured_files import read_measured
from stem_core.errors import EvaluationError
from stem_core.prediction.result import Prediction
from stem_core.prediction.values import PredictedArrays
from stem_core.slides.counts_files import read_counts_matrix
from stem_core.slides.spots import Spots
from stem_core.slides.spots_files import read_table
from tests.space_ranger import write_outs

N = 30
SYMBOLS = ("GNAS", "ERBB2", "KRT19", "TMSB10")
COUNTS = np.random.default_rng(0).poisson(4, (N, 4)).astype(np.int32)
MATRIX = "filtered_feature_bc_matrix.h5"


def a_prediction(
    ids: Sequence[str], x_px: np.ndarray, y_px: np.ndarray, symbols: Sequence[str], mpp: float = 1.0
) -> Prediction:
    n, shape = len(ids), (len(ids), len(symbols))
    mean = np.random.default_rng(1).random(shape, dtype=np.float32)
    spots = Spots(
        ids=tuple(ids), x_px=x_px, y_px=y_px, diameter_um=55.0, pitch_um=100.0, source="measured",
        array_row=np.arange(n, dtype=np.int32), array_col=np.arange(n, dtype=np.int32),
        in_tissue=np.ones(n, bool), tissue_fraction=np.ones(n, np.float32),
    )  # fmt: skip
    return Prediction(
        slide_name="a", spots=spots, mpp=mpp, symbols=tuple(symbols), ensembl=("",) * len(symbols),
        values=PredictedArrays(mean=mean, std=mean, q05=mean, q95=mean), domain_distance=None,
        gene_table=pd.DataFrame(index=list(symbols)), run={},
        thumbnail=np.zeros((2, 2, 3), dtype=np.uint8), thumbnail_scale=0.01,
    )  # fmt: skip


@pytest.fixture
def prediction() -> Prediction:
    row, col = np.divmod(np.arange(N), 6)
    ids = [f"ACGT{n:04d}-1" for n in range(N)]
    return a_prediction(ids, 300.0 + col * 100, 900.0 + row * 100, SYMBOLS)


def outs_of(folder: Path, prediction: Prediction, *, header: bool = True) -> Path:
    """What Space Ranger writes of a section whose first 20 spots lie in tissue."""
    spots = prediction.spots
    return write_outs(
        folder / "case" / "outs", spots.ids, spots.x_px, spots.y_px, COUNTS, SYMBOLS,
        in_tissue=np.arange(N) < 20, header=header,
    )  # fmt: skip


def zipped(folder: Path, archive: Path) -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for path in sorted(folder.rglob("*")):
            out.write(path, path.relative_to(folder))
    return archive


@pytest.mark.parametrize("header", [True, False])
def test_a_space_ranger_section_is_read_from_folder_and_zip(
    prediction: Prediction, tmp_path: Path, header: bool
) -> None:
    outs = outs_of(tmp_path, prediction, header=header)
    archive = zipped(tmp_path / "case", tmp_path / "case.zip")
    for given in (outs, outs.parent, archive):
        found = read_measured(given, prediction)
        assert found.matched_by == "name" and found.genes.all()
        assert list(np.flatnonzero(found.spots)) == list(range(20))
        np.testing.assert_allclose(found.values[:20], np.log2(1 + COUNTS[:20]), rtol=1e-6)
    other_names = dataclasses.replace(
        prediction.spots,
        ids=tuple(f"p{n}" for n in range(N)), x_px=prediction.spots.x_px + 20,
    )  # fmt: skip
    found = read_measured(archive, dataclasses.replace(prediction, spots=other_names))
    assert found.matched_by == "position"
    np.testing.assert_allclose(found.values[:20], np.log2(1 + COUNTS[:20]), rtol=1e-6)


def test_barcodes_are_the_same_on_every_section(prediction: Prediction, tmp_path: Path) -> None:
    outs = outs_of(tmp_path, prediction)
    moved = dataclasses.replace(prediction.spots, x_px=prediction.spots.x_px + 5000)
    with pytest.raises(EvaluationError, match=r"lie elsewhere.*5,000 px off; is it another sec"):
        read_measured(outs, dataclasses.replace(prediction, spots=moved))


def test_archives_that_are_not_what_they_say(prediction: Prediction, tmp_path: Path) -> None:
    outs = outs_of(tmp_path, prediction)
    matrix, positions = outs / MATRIX, outs / "spatial" / "tissue_positions.csv"
    archive = tmp_path / "x.zip"

    def refused(match: str) -> None:
        with pytest.raises(EvaluationError, match=match):
            read_measured(archive, prediction)

    with zipfile.ZipFile(archive, "w") as out:
        out.write(positions, "outs/spatial/tissue_positions.csv")
    refused("x.zip holds no filtered_feature_bc_matrix.h5")
    with zipfile.ZipFile(archive, "w") as out:
        out.write(matrix, f"outs/{MATRIX}")
    refused("holds no tissue_positions.csv")
    with zipfile.ZipFile(archive, "a") as out:
        out.write(positions, "a/tissue_positions.csv")
        out.write(positions, "b/tissue_positions.csv")
    refused("tissue_positions.csv more than once")
    with zipfile.ZipFile(archive, "w") as out:
        link = zipfile.ZipInfo(f"outs/{MATRIX}")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        out.writestr(link, "/etc/passwd")
    refused("as a link to another file")
    whole = zipped(tmp_path / "case", archive).read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    refused("damaged or unusual zip")
    # names that lead out of the folder are read by their last part, and nothing is written there
    with zipfile.ZipFile(archive, "w") as out:
        out.write(matrix, f"../../../{MATRIX}")
        out.write(positions, "/etc/tissue_positions.csv")
    assert read_measured(archive, prediction).spots.sum() == 20
    assert not (tmp_path.parent / MATRIX).exists()


def test_an_archive_that_swells_is_refused(
    prediction: Prediction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stem_core.analysis import measured_archives

    outs = outs_of(tmp_path, prediction)
    (outs / "spatial" / "tissue_positions.csv").write_bytes(b"0" * 3_000_000)
    archive = zipped(tmp_path / "case", tmp_path / "x.zip")
    assert archive.stat().st_size < 100_000
    monkeypatch.setitem(measured_archives._WANTED_BYTES, "tissue_positions.csv", 1_000_000)
    with pytest.raises(EvaluationError, match="too large for one section"):
        read_measured(archive, prediction)


def written(prediction: Prediction, path: Path, values: object, names: Sequence[str]) -> Path:
    table = AnnData(values)
    table.obs_names, table.var_names = list(prediction.spots.ids), list(names)
    table.write_h5ad(path)
    return path


def test_what_speaks_against_one_section_is_said(prediction: Prediction, tmp_path: Path) -> None:
    def doubts(
        name: str = "a.h5ad", *, shift_px: float = 0.0, image_px: int = 1200, first: int = 0,
        last: int = N,
    ) -> tuple[str, ...]:  # fmt: skip
        table = AnnData(COUNTS[first:last])
        spots = prediction.spots
        table.obs_names, table.var_names = list(spots.ids[first:last]), list(SYMBOLS)
        x_px, y_px = spots.x_px[first:last] + shift_px, spots.y_px[first:last]
        table.obsm["spatial"] = np.column_stack([x_px, y_px])
        table.uns["spatial"] = {"x": {
            "images": {"lowres": np.zeros((150, image_px // 10, 3), np.uint8)},
            "scalefactors": {"tissue_lowres_scalef": 0.1},
        }}  # fmt: skip
        table.write_h5ad(tmp_path / name)
        return read_measured(tmp_path / name, slide).doubts

    # the slide's size is recorded, and a small picture's is rounded
    slide = dataclasses.replace(
        prediction, slide_name="a.tif", run={"slide": {"width_px": 1208, "height_px": 1497}}
    )
    assert doubts() == doubts("A_counts.h5ad") == doubts(shift_px=1.0) == ()
    assert doubts("b.h5ad") == (
        "The measured file is called b, the slide a: make sure that they are one section.",
    )
    assert doubts(image_px=1190) == (
        "The measured image has about 1,190 × 1,500 px, the slide 1,208 × 1,497 px: make sure that "
        "they are one section.",
    )
    assert doubts("c.h5ad", shift_px=30.0) == (
        "The measured file is called c, the slide a; spots of one name lie 30 px apart (median): "
        "make sure that they are one section.",
    )
    assert doubts(first=3) == ()  # 27 of 30
    assert doubts(first=2, last=N - 2) == (
        "4 of 30 predicted spots were not measured and 0 of 26 measured ones not predicted: they "
        "are left out.",
    )
    # names and places fit, and so would those of another section
    with pytest.raises(EvaluationError, match=r"image of about 1,150 × 1,500 px.*1,208 × 1,497"):
        doubts(image_px=1150)


def test_a_folder_is_named_by_the_one_it_lies_in(prediction: Prediction, tmp_path: Path) -> None:
    outs = outs_of(tmp_path, prediction)
    for given in (outs, outs.parent, zipped(outs, tmp_path / "case.zip")):
        assert read_measured(given, prediction).name == "case"
    assert read_measured(outs, prediction, source="outs.zip").name == ""
    (said, left) = read_measured(outs, prediction).doubts
    assert said.startswith("The measured file is called case, the slide a:")
    assert left.startswith("10 of 30 predicted spots were not measured and 0 of 20 measured")


def test_values_that_are_no_counts(prediction: Prediction, tmp_path: Path) -> None:
    normalised = np.log1p(COUNTS / COUNTS.sum(1, keepdims=True) * 1e4).astype(np.float32)
    for values in (normalised, csr_matrix(normalised)):
        path = written(prediction, tmp_path / "n.h5ad", values, SYMBOLS)
        with pytest.raises(EvaluationError, match="not whole numbers, so they were normalised"):
            read_measured(path, prediction)
    table = AnnData(normalised, layers={"counts": csr_matrix(COUNTS)})
    table.obs_names, table.var_names = list(prediction.spots.ids), list(SYMBOLS)
    table.write_h5ad(tmp_path / "layer.h5ad")
    found = read_measured(tmp_path / "layer.h5ad", prediction)
    np.testing.assert_allclose(found.values, np.log2(1 + COUNTS), rtol=1e-6)


def test_genes_of_another_species(prediction: Prediction, tmp_path: Path) -> None:
    mouse = [symbol.capitalize() for symbol in SYMBOLS]
    path = written(prediction, tmp_path / "m.h5ad", COUNTS, mouse)
    with pytest.raises(EvaluationError, match=r"another species.*\(Gnas, GNAS\)"):
        read_measured(path, prediction)
    path = written(prediction, tmp_path / "low.h5ad", COUNTS, [s.lower() for s in SYMBOLS])
    assert read_measured(path, prediction).genes.all()  # careless writing makes no other species


def test_files_that_are_no_section(prediction: Prediction, tmp_path: Path) -> None:
    outs = outs_of(tmp_path, prediction)
    with pytest.raises(EvaluationError, match="does not say where its spots lie; give a zip"):
        read_measured(outs / MATRIX, prediction)
    (tmp_path / "empty.h5ad").write_bytes(b"")
    whole = written(prediction, tmp_path / "whole.h5ad", COUNTS, SYMBOLS).read_bytes()
    (tmp_path / "half.h5ad").write_bytes(whole[: len(whole) // 2])
    for name in ("empty.h5ad", "half.h5ad"):
        with pytest.raises(EvaluationError, match=f"{name} cannot be read as h5ad"):
            read_measured(tmp_path / name, prediction)
    with h5py.File(tmp_path / "huge.h5ad", "w") as file:
        file.create_dataset("X", (10_000_000, 1000), "f4", chunks=(1000, 1000))
    with pytest.raises(EvaluationError, match="unpacks to 40 GB"):
        read_measured(tmp_path / "huge.h5ad", prediction)
    empty = tmp_path / "nothing"
    empty.mkdir()
    with pytest.raises(EvaluationError, match="nothing holds no filtered_feature"):
        read_measured(empty, prediction)
    with pytest.raises(EvaluationError, match=r"There is no file gone\.h5ad; name"):
        read_measured(tmp_path / "gone.h5ad", prediction)


def test_a_real_space_ranger_section(real_data: Path, tmp_path: Path) -> None:
    outs = real_data / "spaceranger_crc" / "outs"
    counts, places = read_counts_matrix(outs / MATRIX), read_table(outs)
    rows = [places.ids.index(name) for name in counts.obs_names]
    x_px, y_px = places.x_px[rows], places.y_px[rows]
    genes = ("EPCAM", "COL1A1", "KRT20", "MUC2")
    columns = [list(counts.var_names).index(gene) for gene in genes]
    # Visium's spots are 100 µm apart: that gives the scale of its image
    pitch_px = np.median(np.sort(np.hypot(x_px - x_px[0], y_px - y_px[0]))[1:7])
    ids = [f"p{n}" for n in range(len(rows))]
    shifted = a_prediction(ids, x_px + 0.3 * pitch_px, y_px, genes, mpp=100 / pitch_px)
    named = a_prediction(list(counts.obs_names), x_px, y_px, genes, mpp=100 / pitch_px)
    with Image.open(outs / "spatial" / "tissue_lowres_image.png") as picture:
        width, height = (round(0.05 * side / 0.08580009) for side in picture.size)
    slide = {"thumbnail": np.zeros((height, width, 3), np.uint8), "thumbnail_scale": 0.05}
    named, shifted = (dataclasses.replace(made, **slide) for made in (named, shifted))
    archive = zipped(outs.parent, tmp_path / "crc.zip")
    expected = np.log2(1 + np.asarray(counts.X[:, columns].todense()))
    for given, made, way in ((outs, named, "name"), (archive, shifted, "position")):
        found = read_measured(given, made)
        assert found.matched_by == way and found.spots.all() and found.genes.all()
        np.testing.assert_allclose(found.values, expected, rtol=1e-6)
    other = real_data / "her2st" / "st" / "C5.h5ad"
    # its spots would find neighbours here: the size of its image tells
    with pytest.raises(EvaluationError, match=r"image of about 9,267 × 9,901 px.*another section"):
        read_measured(other, named)


def test_neighbouring_sections_share_names_and_places(real_data: Path) -> None:
    """C3's counts fit C5's spots by name within half a pitch; all else says that they are not."""
    folder = real_data / "her2st" / "st"
    with h5py.File(folder / "C5.h5ad") as file:
        x_px, y_px = file["obsm/spatial"][:].astype(np.float64).T
        ids = [name.decode() for name in file["obs"][file["obs"].attrs["_index"]][:]]
    made = a_prediction(ids, x_px, y_px, SYMBOLS)
    spots = dataclasses.replace(made.spots, pitch_um=291.0)
    slide = {"width_px": 9272, "height_px": 9901}
    made = dataclasses.replace(made, slide_name="C5.tif", spots=spots, run={"slide": slide})
    assert read_measured(folder / "C5.h5ad", made).doubts == ()
    found = read_measured(folder / "C3.h5ad", made)
    assert found.matched_by == "name" and found.spots.sum() == 151
    assert found.doubts == (
        "The measured file is called C3, the slide C5; the measured image has about 9,270 × 9,936 "
        "px, the slide 9,272 × 9,901 px; spots of one name lie 15 px apart (median): make sure "
        "that they are one section.",
        "30 of 181 predicted spots were not measured and 29 of 180 measured ones not predicted: "
        "they are left out.",
    )
