"""Spots: measured ones from every kind of file, and layouts."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial import cKDTree

from stem_core.errors import MppError, NoTissueError, SettingsError, SpotsError
from stem_core.model.config import LAYOUTS
from stem_core.slides.reading import Slide, open_slide
from stem_core.slides.spots import MAX_SPOTS, known_pitch, lay_out_spots, read_spots
from stem_core.slides.tissue import TissueMask, find_tissue

Picture = NDArray[np.uint8]

HEADER = "barcode,in_tissue,array_row,array_col,pxl_row_in_fullres,pxl_col_in_fullres\n"
# on a slide of 700 × 500 px: rows up to 480, columns up to 690; three of four are in tissue
ROWS = "CCC-1,1,0,2,100,690\nAAA-1,1,1,3,480,20\nGGG-1,0,2,4,5,5\nTTT-1,1,3,5,300,350\n"


@pytest.fixture
def slide(pyramid_path: Path) -> Slide:
    return open_slide(pyramid_path)


def refuse(path: Path, slide: Slide, words: str) -> str:
    with pytest.raises(SpotsError, match=words) as error:
        read_spots(path, slide, diameter_um=55)
    text = str(error.value)
    assert "\n" not in text and text.endswith(".")
    return text


# Space Ranger


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("inside", ["", "spatial", "outs/spatial"])
def test_space_ranger(tmp_path: Path, slide: Slide, header: bool, inside: str) -> None:
    """Row stands before column; only measured spots; the order of the file."""
    folder = tmp_path / inside
    folder.mkdir(parents=True, exist_ok=True)
    name = "tissue_positions.csv" if header else "tissue_positions_list.csv"
    (folder / name).write_text((HEADER if header else "") + ROWS)
    for path in (folder / name, tmp_path):
        spots = read_spots(path, slide, diameter_um=55)
        assert spots.ids == ("CCC-1", "AAA-1", "TTT-1")
        np.testing.assert_array_equal(spots.x_px, [690, 20, 350])
        np.testing.assert_array_equal(spots.y_px, [100, 480, 300])
        np.testing.assert_array_equal(spots.array_row, [0, 1, 3])
        np.testing.assert_array_equal(spots.array_col, [2, 3, 5])
        assert spots.source == "measured" and spots.diameter_um == 55
        assert spots.x_px.dtype == np.float64 and spots.array_row.dtype == np.int32


def test_the_content_decides_not_the_name(tmp_path: Path, slide: Slide) -> None:
    (tmp_path / "positions.txt").write_text("\ufeff" + HEADER + ROWS, encoding="utf-8")
    assert len(read_spots(tmp_path / "positions.txt", slide, diameter_um=55)) == 3
    reordered = "pxl_col_in_fullres,barcode,array_col,array_row,in_tissue,pxl_row_in_fullres\n"
    (tmp_path / "reordered.csv").write_text(reordered + "690,CCC-1,2,0,1,100\n")
    spots = read_spots(tmp_path / "reordered.csv", slide, diameter_um=55)
    assert (spots.x_px[0], spots.y_px[0]) == (690, 100)


def test_folder_without_positions(tmp_path: Path, slide: Slide) -> None:
    refuse(tmp_path, slide, r"holds no tissue_positions\.csv")


def test_no_spot_in_tissue(tmp_path: Path, slide: Slide) -> None:
    (tmp_path / "a.csv").write_text(HEADER + "AAA-1,0,1,3,480,20\n")
    refuse(tmp_path / "a.csv", slide, "holds no spots")


# plain CSV


def test_plain_csv(tmp_path: Path, slide: Slide) -> None:
    (tmp_path / "a.csv").write_text("x_px,y_px\n10.5,20\n600,3e2\n")
    spots = read_spots(tmp_path / "a.csv", slide, diameter_um=100)
    np.testing.assert_array_equal(spots.x_px, [10.5, 600])
    np.testing.assert_array_equal(spots.y_px, [20, 300])
    assert spots.ids == ("spot_00000", "spot_00001")
    assert spots.in_tissue.all() and (spots.tissue_fraction == 1).all()


@pytest.mark.parametrize("column", ["spot", "id", "barcode"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_plain_csv_with_names(tmp_path: Path, slide: Slide, column: str, separator: str) -> None:
    text = f"y_px,{column},gene,x_px\n20,007,3,10\n30,NA,4,11\n40,1e5,5,12\n"
    (tmp_path / "a.csv").write_text(text.replace(",", separator))
    spots = read_spots(tmp_path / "a.csv", slide, diameter_um=100)
    assert spots.ids == ("007", "NA", "1e5")  # names stay text
    np.testing.assert_array_equal(spots.x_px, [10, 11, 12])


def test_array_places_from_the_file_or_from_positions(tmp_path: Path, slide: Slide) -> None:
    (tmp_path / "a.csv").write_text("x_px,y_px,array_row,array_col\n10,20,7,9\n30,20,7,10\n")
    spots = read_spots(tmp_path / "a.csv", slide, diameter_um=5)
    assert spots.array_row.tolist() == [7, 7] and spots.array_col.tolist() == [9, 10]
    rows, cols = np.mgrid[0:4, 0:5]
    grid = pd.DataFrame({"x_px": 50 + 40 * cols.ravel(), "y_px": 60 + 40 * rows.ravel()})
    grid.to_csv(tmp_path / "b.csv", index=False)
    spots = read_spots(tmp_path / "b.csv", slide, diameter_um=5)
    np.testing.assert_array_equal(spots.array_row, rows.ravel())
    np.testing.assert_array_equal(spots.array_col, cols.ravel())


def test_a_single_spot(tmp_path: Path, slide: Slide) -> None:
    (tmp_path / "a.csv").write_text("x_px,y_px\n10,20\n")
    spots = read_spots(tmp_path / "a.csv", slide, diameter_um=5)
    assert len(spots) == 1 and spots.pitch_um is None
    assert spots.array_row.tolist() == [0]


def test_spots_in_one_place_have_no_pitch(tmp_path: Path, slide: Slide) -> None:
    (tmp_path / "a.csv").write_text("x_px,y_px\n10,20\n10,20\n")
    spots = read_spots(tmp_path / "a.csv", slide, diameter_um=5)
    assert spots.pitch_um is None
    assert spots.array_row.tolist() == spots.array_col.tolist() == [0, 0]


@pytest.mark.parametrize("pitch_um", [math.nan, math.inf, 0.0, -1.0])
def test_a_pitch_is_a_positive_number_or_none(
    tmp_path: Path, slide: Slide, pitch_um: float
) -> None:
    (tmp_path / "a.csv").write_text("x_px,y_px\n10,20\n")
    spots = read_spots(tmp_path / "a.csv", slide, diameter_um=5)
    with pytest.raises(ValueError, match="positive number or None"):
        replace(spots, pitch_um=pitch_um)
    assert known_pitch(pitch_um) is None and known_pitch(str(pitch_um)) is None
    assert known_pitch("200") == 200.0 and known_pitch(None) is None


# h5ad


def write_h5ad(path: Path, xy: NDArray[np.float64], **obs: object) -> Path:
    names = [f"s{index}" for index in range(len(xy))]
    table = pd.DataFrame(obs, index=pd.Index(names, dtype=object))
    data = anndata.AnnData(X=np.ones((len(xy), 2), dtype=np.float32), obs=table)
    data.obsm["spatial"] = xy
    data.write_h5ad(path)
    return path


def test_h5ad_is_x_then_y(tmp_path: Path, slide: Slide) -> None:
    xy = np.array([[690.0, 100.5], [20, 480], [350, 300]])
    path = write_h5ad(tmp_path / "a.h5ad", xy, array_row=[0, 1, 3], array_col=[2.0, 3.1, 4.9])
    spots = read_spots(path, slide, diameter_um=100)
    assert spots.ids == ("s0", "s1", "s2")
    np.testing.assert_array_equal(spots.x_px, xy[:, 0])
    np.testing.assert_array_equal(spots.y_px, xy[:, 1])
    assert spots.array_row.tolist() == [0, 1, 3] and spots.array_col.tolist() == [2, 3, 5]


def test_h5ad_measured_spots_are_all_kept(tmp_path: Path, slide: Slide) -> None:
    """Also those that obs calls not in tissue: their expression was measured."""
    path = write_h5ad(tmp_path / "a.h5ad", np.full((3, 2), 5.0), in_tissue=[1, 0, 1])
    assert len(read_spots(path, slide, diameter_um=100)) == 3


def test_h5ad_of_odd_column_types(tmp_path: Path, slide: Slide) -> None:
    xy = np.array([[1.0, 2.0], [3.0, 4.0]])
    path = write_h5ad(
        tmp_path / "a.h5ad",
        xy,
        array_row=pd.Categorical([5, 6]),
        array_col=pd.array([7, 8], dtype="Int64"),
    )
    spots = read_spots(path, slide, diameter_um=1)
    assert spots.array_row.tolist() == [5, 6] and spots.array_col.tolist() == [7, 8]
    path = write_h5ad(tmp_path / "b.h5ad", xy, array_row=["a", "b"], array_col=[1, 2])
    assert read_spots(path, slide, diameter_um=1).array_row.tolist() == [0, 1]


def test_h5ad_without_positions(tmp_path: Path, slide: Slide) -> None:
    data = anndata.AnnData(X=np.ones((3, 2), dtype=np.float32))
    data.obsm["X_pca"] = np.ones((3, 2))
    data.write_h5ad(tmp_path / "a.h5ad")
    refuse(tmp_path / "a.h5ad", slide, r"no positions in obsm\['spatial'\] \(obsm holds: X_pca\)")


def test_h5ad_never_reaches_into_other_files(tmp_path: Path, slide: Slide) -> None:
    good = write_h5ad(tmp_path / "good.h5ad", np.array([[1.0, 2.0], [3.0, 4.0]]))
    (tmp_path / "secret.bin").write_bytes(np.array([[5.0, 6.0], [7.0, 8.0]]).tobytes())
    for kind in ("link", "group", "raw", "virtual"):
        path = tmp_path / f"{kind}.h5ad"
        path.write_bytes(good.read_bytes())
        with h5py.File(path, "a") as file:
            if kind == "group":
                del file["obsm"]
                file["obsm"] = h5py.ExternalLink(str(good), "/obsm")
                continue
            del file["obsm/spatial"]
            if kind == "link":
                file["obsm/spatial"] = h5py.ExternalLink(str(good), "/obsm/spatial")
            elif kind == "raw":
                store = [(str(tmp_path / "secret.bin"), 0, 32)]
                file.create_dataset("obsm/spatial", (2, 2), "f8", external=store)
            else:
                layout = h5py.VirtualLayout((2, 2), "f8")
                layout[:] = h5py.VirtualSource(str(good), "obsm/spatial", shape=(2, 2))
                file.create_virtual_dataset("obsm/spatial", layout)
        refuse(path, slide, "points to data in another file")


def test_damaged_and_odd_h5ad(tmp_path: Path, slide: Slide) -> None:
    good = write_h5ad(tmp_path / "good.h5ad", np.array([[1.0, 2.0], [3.0, 4.0]]))
    cut = tmp_path / "cut.h5ad"
    cut.write_bytes(good.read_bytes()[:3000])
    refuse(cut, slide, r"cut\.h5ad is a damaged or unusual h5ad")
    with h5py.File(good, "a") as file:
        del file["obsm/spatial"]
        file["obsm/spatial"] = np.ones(2)
    refuse(good, slide, r"of shape \(2,\)")
    with h5py.File(good, "a") as file:
        del file["obsm/spatial"]
        file["obsm/spatial"] = np.ones((5, 2))
    refuse(good, slide, "names 2 spots but places 5")
    with h5py.File(good, "a") as file:
        del file["obsm/spatial"]
        file.create_dataset("obsm/spatial", (10**9, 2), "f8", chunks=(1000, 2))
    refuse(good, slide, r"has 2,000,000,000 values|of shape \(1000000000, 2\)")


# what is wrong with positions, in any file


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("x_px,y_px\n", "holds no spots"),
        ("x,y\n1,2\n", r"has the columns 'x', 'y'; expected an h5ad"),
        ("X_PX,Y_PX\n1,2\n", "has the columns"),
        ("1,2\n3,4\n", "has the columns '1', '2'"),
        ("x_px,y_px\n1,two\n", r"has 'two' in column 'y_px' of spot 1, which is not a number"),
        ("x_px,y_px\n1,2\n3,\n", r"has '' in column 'y_px' of spot 2"),
        ("x_px,y_px\n1,nan\n", "which is not a number"),
        ("x_px,y_px\n1,inf\n", "which is not a number"),
        ("spot,x_px,y_px\na,1,2\nb,2,3\na,3,4\n", "names the spot 'a' more than once"),
        ("spot,x_px,y_px\na,1,2\n,2,3\n", "spots without a name"),
        ("x_px,y_px\n1,2\n701,2\n-1,3\n", "2 of the 3 spots of a.csv lie outside section.tif"),
        ("x_px,y_px\n1,500.5\n", r"1 of the 1 spots of a\.csv lie outside .*700 × 500 px"),
        (HEADER + "A,1,1,3,690,480\n", "hires picture instead of the full-resolution one"),
        (HEADER + "A,yes,1,3,4,5\n", "has 'yes' in column 'in_tissue'"),
        ('x_px,y_px\n"1,2\n', "cannot be read as a table|is not a number|holds no spots"),
    ],
)
def test_wrong_tables(tmp_path: Path, slide: Slide, text: str, words: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    refuse(tmp_path / "a.csv", slide, words)


def test_files_of_other_kinds(tmp_path: Path, slide: Slide, pyramid_path: Path) -> None:
    refuse(pyramid_path, slide, "is not a text table")
    (tmp_path / "a.xlsx").write_bytes(b"PK\x03\x04" + b"\0" * 50)
    refuse(tmp_path / "a.xlsx", slide, "save it as CSV")
    refuse(tmp_path / "absent.csv", slide, "cannot be read")


def test_the_edge_of_the_image_is_inside(tmp_path: Path, slide: Slide) -> None:
    (tmp_path / "a.csv").write_text("x_px,y_px\n0,0\n700,500\n")
    assert len(read_spots(tmp_path / "a.csv", slide, diameter_um=5)) == 2


@pytest.mark.parametrize("diameter", [0, -3, float("nan"), float("inf")])
def test_diameter_must_be_a_length(tmp_path: Path, slide: Slide, diameter: float) -> None:
    (tmp_path / "a.csv").write_text("x_px,y_px\n1,2\n")
    with pytest.raises(SettingsError, match="spot diameter"):
        read_spots(tmp_path / "a.csv", slide, diameter_um=diameter)


# using them


def test_take(tmp_path: Path, slide: Slide) -> None:
    (tmp_path / "a.csv").write_text("spot,x_px,y_px\na,1,2\nb,3,4\nc,5,6\n")
    spots = read_spots(tmp_path / "a.csv", slide, diameter_um=5)
    some = spots.take([2, 0])
    assert some.ids == ("c", "a") and some.x_px.tolist() == [5, 1] and len(some) == 2
    assert spots.take(np.array([False, True, False])).ids == ("b",)
    assert spots.take(slice(1, 3)).ids == ("b", "c")
    assert len(spots.take([])) == 0
    assert pickle.loads(pickle.dumps(some)).ids == ("c", "a")


def test_with_tissue_drops_none(tmp_path: Path, slide: Slide) -> None:
    (tmp_path / "a.csv").write_text("spot,x_px,y_px\nglass,20,20\ntissue,350,250\n")
    spots = read_spots(tmp_path / "a.csv", slide, diameter_um=20)
    marked = spots.with_tissue(find_tissue(slide), slide.require_mpp())
    assert marked.ids == spots.ids
    assert marked.in_tissue.tolist() == [False, True]
    np.testing.assert_allclose(marked.tissue_fraction, [0, 1], atol=0.1)
    assert spots.in_tissue.all()  # the old ones are as they were


# layouts


@pytest.fixture
def everywhere() -> TissueMask:
    return TissueMask(np.ones((50, 70), dtype=bool), scale_px=10.0)


@pytest.mark.parametrize("kind", ["visium", "st", "grid"])
def test_layout_has_the_pitch_of_its_platform(tmp_path: Path, kind: str) -> None:
    Image.fromarray(np.full((900, 1100, 3), 230, dtype=np.uint8)).save(tmp_path / "a.png")
    slide = open_slide(tmp_path / "a.png", mpp=2.0)
    mask = TissueMask(np.ones((90, 110), dtype=bool), 10.0)
    spots = lay_out_spots(slide, mask, kind)  # type: ignore[arg-type]
    usual = LAYOUTS[kind]
    assert (spots.pitch_um, spots.diameter_um) == (usual.pitch_um, usual.spot_diameter_um)
    assert spots.source == kind
    points = np.stack([spots.x_px, spots.y_px], axis=1) * 2.0
    distance, _ = cKDTree(points).query(points, k=5)
    inner = (abs(points - points.mean(axis=0)) < 250).all(axis=1)
    np.testing.assert_allclose(distance[inner, 1:5], usual.pitch_um, rtol=1e-9)
    assert len(set(spots.ids)) == len(spots)
    number = 900 * 1100 * 4 / usual.pitch_um**2 * (2 / math.sqrt(3) if kind == "visium" else 1)
    assert abs(len(spots) - number) < 0.15 * number


def test_visium_is_hexagonal_with_doubled_columns(slide: Slide, everywhere: TissueMask) -> None:
    spots = lay_out_spots(slide, everywhere, "visium", pitch_um=20, diameter_um=11)
    assert ((spots.array_row + spots.array_col) % 2 == 0).all()
    np.testing.assert_allclose(spots.x_px, 20 + spots.array_col * 20)
    np.testing.assert_allclose(spots.y_px, 20 + spots.array_row * 40 * math.sqrt(3) / 2)
    assert spots.ids[0] == "r0000_c0000" and spots.ids[1] == "r0000_c0002"
    points = np.stack([spots.x_px, spots.y_px], axis=1)
    centre = np.argmin(np.hypot(*(points - points.mean(axis=0)).T))
    around = np.sort(np.hypot(*(points - points[centre]).T))
    np.testing.assert_allclose(around[1:7], 40)
    assert around[7] > 60


def test_square_layout_and_own_pitch(slide: Slide, everywhere: TissueMask) -> None:
    spots = lay_out_spots(slide, everywhere, "st", pitch_um=50)
    assert spots.diameter_um == 25  # the platform's ratio
    assert spots.x_px.tolist()[:7] == [50, 150, 250, 350, 450, 550, 650]
    assert spots.array_row.max() == 4 and spots.array_col.max() == 6 and len(spots) == 35


def test_only_tissue_is_covered_and_names_stay(slide: Slide, everywhere: TissueMask) -> None:
    mask = find_tissue(slide)
    all_spots = lay_out_spots(slide, everywhere, "grid", pitch_um=10)
    some = lay_out_spots(slide, mask, "grid", pitch_um=10)
    assert 0 < len(some) < len(all_spots)
    assert (some.tissue_fraction >= 0.5).all() and some.in_tissue.all()
    place = dict(zip(all_spots.ids, all_spots.x_px, strict=True))
    assert all(place[name] == x for name, x in zip(some.ids, some.x_px, strict=True))
    more = lay_out_spots(slide, mask, "grid", pitch_um=10, min_tissue=0.1)
    assert len(more) > len(some) and not more.in_tissue.all()
    assert len(lay_out_spots(slide, mask, "grid", pitch_um=10, min_tissue=0)) == len(all_spots)


def test_layouts_that_are_refused(slide: Slide, everywhere: TissueMask, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="'hex' is not known; choose one of visium, st, grid"):
        lay_out_spots(slide, everywhere, "hex")  # type: ignore[arg-type]
    for pitch in (0, -1, float("nan")):
        with pytest.raises(SettingsError, match="pitch"):
            lay_out_spots(slide, everywhere, "grid", pitch_um=pitch)
    with pytest.raises(SettingsError, match="spot diameter"):
        lay_out_spots(slide, everywhere, "grid", diameter_um=0)
    with pytest.raises(SettingsError, match="tissue share"):
        lay_out_spots(slide, everywhere, "grid", min_tissue=1.5)
    speck = TissueMask(np.zeros((50, 70), dtype=bool), 10.0)
    speck.mask[0, 0] = True
    with pytest.raises(NoTissueError, match="No grid spot of 100 µm has 50% of tissue"):
        lay_out_spots(slide, speck, "grid")


def test_too_many_spots_are_refused_before_they_are_made(tmp_path: Path) -> None:
    Image.new("RGB", (2400, 2400), (230, 190, 215)).save(tmp_path / "a.png")
    slide = open_slide(tmp_path / "a.png", mpp=20)
    mask = TissueMask(np.ones((24, 24), dtype=bool), 100.0)
    for pitch in (0.5, 80):
        with pytest.raises(SpotsError, match=f"at most {MAX_SPOTS:,} are predicted in one run"):
            lay_out_spots(slide, mask, "grid", pitch_um=pitch)


def test_a_layout_needs_mpp(tmp_path: Path, section: Picture, everywhere: TissueMask) -> None:
    Image.fromarray(section).save(tmp_path / "a.png")
    with pytest.raises(MppError, match="does not say how many microns"):
        lay_out_spots(open_slide(tmp_path / "a.png"), everywhere, "st")


# real files


def test_real_sections(real_data: Path) -> None:
    folder = real_data / "her2st"
    with open_slide(folder / "wsis" / "C5.tif") as slide:
        spots = read_spots(folder / "st" / "C5.h5ad", slide, diameter_um=100)
        assert len(spots) == 181 and spots.ids[:2] == ("10x11", "10x12")
        assert spots.array_col[0] == 10 and spots.array_row[0] == 11
        assert spots.pitch_um == pytest.approx(200, rel=0.05)
        wrong = real_data / "mouse_olfactory_bulb" / "wsis" / "MOB1.tif"
        with open_slide(wrong) as other, pytest.raises(SpotsError, match="lie outside MOB1"):
            read_spots(folder / "st" / "C5.h5ad", other, diameter_um=100)


def test_real_space_ranger_folder(real_data: Path, tmp_path: Path) -> None:
    outs = real_data / "spaceranger_crc" / "outs"
    Image.new("RGB", (6540, 7000), (225, 170, 205)).save(tmp_path / "full.png", compress_level=1)
    slide = open_slide(tmp_path / "full.png", mpp=1.0)
    spots = read_spots(outs, slide, diameter_um=55)
    assert len(spots) == 3106 and spots.ids[0].endswith("-1")
    with open_slide(outs / "spatial" / "tissue_lowres_image.png", mpp=10) as lowres:
        with pytest.raises(SpotsError, match="of the 3,106 spots of outs lie outside"):
            read_spots(outs, lowres, diameter_um=55)
