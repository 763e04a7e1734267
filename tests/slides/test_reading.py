"""Slides that can be read: geometry, colour, microns per pixel."""

from __future__ import annotations

import hashlib
import logging
import pickle
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from stem_core.errors import MppError, SlideOpenError
from stem_core.slides.reading import Slide, open_slide

Picture = NDArray[np.uint8]


def save(picture: Picture, path: Path, **options: object) -> Path:
    Image.fromarray(picture).save(path, **options)  # type: ignore[arg-type]
    return path


def test_pyramid_has_size_levels_and_mpp(pyramid_path: Path) -> None:
    with open_slide(pyramid_path) as slide:
        assert (slide.width_px, slide.height_px, slide.level_count) == (700, 500, 3)
        assert slide.mpp == pytest.approx(0.5) and slide.mpp_source == "metadata"
        assert slide.format == "generic-tiff" and slide.notes == ()
        assert "section.tif" in repr(slide)


def test_boxes_are_x_then_y_and_exact_at_level_0(pyramid_path: Path, section: Picture) -> None:
    box = open_slide(pyramid_path).read_box(300, 120, 40, 30, 40, 30)
    assert box.dtype == np.uint8
    np.testing.assert_array_equal(box, section[120:150, 300:340])


@pytest.mark.parametrize("factor", [2, 4, 3, 2.5])
def test_downsampling_is_the_area_average(
    pyramid_path: Path, section: Picture, factor: float
) -> None:
    """From whatever level, within the rounding of the levels."""
    side = 20
    edge = int(side * factor)
    box = open_slide(pyramid_path).read_box(260, 200, edge, edge, side, side)
    fine = section[200 : 200 + edge, 260 : 260 + edge].repeat(2, 0).repeat(2, 1)
    block = int(2 * factor)
    wanted = fine.reshape(side, block, side, block, 3).mean(axis=(1, 3))
    if factor in (2, 4):
        assert np.abs(box - wanted).max() <= 1.01
    else:  # from a coarser level edges between its pixels are shared out
        assert np.abs(box - wanted).mean() < 14


def test_a_level_that_is_nearly_right_is_taken(pyramid_path: Path) -> None:
    pixels = open_slide(pyramid_path)._open_pixels()
    assert pixels.best_level(3.99)[0] == 2
    assert pixels.best_level(3.8)[0] == 1
    assert pixels.best_level(0.3)[0] == 0


def test_outside_is_white_on_every_side(pyramid_path: Path, section: Picture) -> None:
    slide = open_slide(pyramid_path)
    box = slide.read_box(-10, -20, 40, 40, 40, 40)
    assert (box[:20] == 255).all() and (box[:, :10] == 255).all()
    np.testing.assert_array_equal(box[20:, 10:], section[:20, :30])
    assert (slide.read_box(5000, 0, 64, 64, 16, 16) == 255).all()
    assert (slide.read_box(0, -900, 64, 64, 16, 16) == 255).all()
    corner = slide.read_box(690, 490, 20, 20, 20, 20)
    np.testing.assert_array_equal(corner[:10, :10], section[490:, 690:])
    assert (corner[10:] == 255).all() and (corner[:, 10:] == 255).all()


def test_thumbnail_keeps_the_aspect_and_never_enlarges(
    pyramid_path: Path, section: Picture
) -> None:
    slide = open_slide(pyramid_path)
    assert slide.thumbnail(140).shape == (100, 140, 3)
    np.testing.assert_array_equal(slide.thumbnail(4000), section)


def test_a_box_without_area_is_refused(pyramid_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read as"):
        open_slide(pyramid_path).read_box(0, 0, 0, 10, 10, 10)


def test_single_level_is_read_in_bands(
    tmp_path: Path,
    pyramid: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    section: Picture,
) -> None:
    """The bands give the same picture as one reading, and never hold the whole slide."""
    path = pyramid(tmp_path / "one.tif", section, levels=1)
    slide = open_slide(path)
    whole = slide.thumbnail(350)
    monkeypatch.setattr("stem_core.slides.reading.BAND_PX", 20_000)
    np.testing.assert_array_equal(slide.thumbnail(350), whole)
    largest = 0
    read = slide._open_pixels().read

    def spy(level: int, x: int, y: int, width: int, height: int) -> Picture:
        nonlocal largest
        largest = max(largest, width * height)
        return read(level, x, y, width, height)

    monkeypatch.setattr(slide._open_pixels(), "read", spy)
    slide.thumbnail(350)
    assert 0 < largest < 30_000


def test_memory_stays_modest_on_a_large_single_level(
    tmp_path: Path, pyramid: Callable[..., Path]
) -> None:
    picture = np.full((3072, 4096, 3), 240, dtype=np.uint8)
    picture[1000:3000, 1000:3000] = (200, 120, 170)
    slide = open_slide(pyramid(tmp_path / "one.tif", picture, levels=1, tile=(256, 256)))
    tracemalloc.start()
    slide.thumbnail(256)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 120e6  # the picture as float32 alone is 150 MB


def test_transparent_is_white_in_png(tmp_path: Path, section: Picture) -> None:
    alpha = np.full(section.shape[:2], 255, dtype=np.uint8)
    alpha[:, :100] = 0
    alpha[:, 100:200] = 128
    rgba = np.dstack([section, alpha])
    rgba[:, :100, :3] = 0  # black underneath, as scanners write it
    slide = open_slide(save(rgba, tmp_path / "alpha.png"))
    picture = slide.thumbnail(700)
    assert (picture[:, :100] == 255).all()
    np.testing.assert_array_equal(picture[:, 200:], section[:, 200:])
    wanted = (section[:, 100:200].astype(float) * 128 + 255 * 127) / 255
    assert np.abs(picture[:, 100:200] - wanted).max() <= 1


def test_unscanned_area_of_a_slide_is_white(tmp_path: Path, section: Picture) -> None:
    """OpenSlide gives transparent black where a tile is absent from the file."""
    path = tmp_path / "sparse.tif"
    tiles = [section[y : y + 128, x : x + 128] for y in (0, 128, 256) for x in (0, 128, 256)]
    tiles[4] = None  # type: ignore[call-overload]
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(
            iter(tiles), shape=(384, 384, 3), dtype="uint8", photometric="rgb", tile=(128, 128)
        )
    slide = open_slide(path, mpp=0.5)
    assert slide.format == "generic-tiff"
    assert (slide.read_box(128, 128, 128, 128, 128, 128) == 255).all()
    np.testing.assert_array_equal(slide.read_box(0, 0, 128, 128, 128, 128), section[:128, :128])


def test_exif_orientation_is_followed(tmp_path: Path, section: Picture) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    path = save(section, tmp_path / "turned.jpg", exif=exif, quality=95, subsampling=0)
    slide = open_slide(path)
    assert (slide.width_px, slide.height_px) == (500, 700)
    difference = slide.thumbnail(700).astype(int) - np.rot90(section, -1)
    assert np.abs(difference).mean() < 3


def test_plain_formats_give_the_same_picture(tmp_path: Path, section: Picture) -> None:
    paths = [
        save(section, tmp_path / "a.png"),
        save(section, tmp_path / "b.tif"),
        save(section, tmp_path / "c.tif", compression="tiff_lzw"),
        save(section, tmp_path / "no_suffix", format="PNG"),
    ]
    for path in paths:
        slide = open_slide(path, mpp=0.7)
        assert slide.format in ("png", "tiff") and slide.level_count == 1
        assert (slide.mpp, slide.mpp_source) == (0.7, "user")
        np.testing.assert_array_equal(slide.thumbnail(700), section)


def test_overviews_of_plain_images_come_from_smaller_copies(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(100, 250, (1100, 2100, 3), dtype=np.uint8)
    slide = open_slide(save(picture, tmp_path / "big.png", compress_level=1))
    sizes = slide._open_pixels().level_sizes
    assert sizes == [(2100, 1100), (525, 275)] and slide.level_count == 1
    wanted = picture[:1096, :2096].reshape(137, 8, 262, 8, 3).mean(axis=(1, 3))
    assert np.abs(slide.read_box(0, 0, 2096, 1096, 262, 137) - wanted).max() < 2


def test_palette_and_cmyk_become_rgb(tmp_path: Path, section: Picture) -> None:
    Image.fromarray(section).quantize(64).save(tmp_path / "palette.png")
    Image.fromarray(section).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    Image.fromarray(section).convert("CMYK").save(tmp_path / "cmyk.tif")
    for name in ("palette.png", "cmyk.jpg", "cmyk.tif"):
        picture = open_slide(tmp_path / name).thumbnail(700)
        assert np.abs(picture.astype(int) - section).mean() < 8, name


# microns per pixel


@pytest.mark.parametrize("unit", ["CENTIMETER", "INCH"])
def test_resolution_tags_of_a_plain_tiff_count(tmp_path: Path, section: Picture, unit: str) -> None:
    per_unit = {"CENTIMETER": 1e4, "INCH": 25_400.0}[unit] / 0.69
    tifffile.imwrite(
        tmp_path / "a.tif", section, resolution=(per_unit, per_unit), resolutionunit=unit
    )
    slide = open_slide(tmp_path / "a.tif")
    assert slide.format == "tiff"
    assert slide.mpp == pytest.approx(0.69, rel=1e-4) and slide.mpp_source == "metadata"


@pytest.mark.parametrize("dpi", [72, 96, 300, 600])
@pytest.mark.parametrize("tiled", [False, True])
def test_print_resolution_is_no_statement(
    tmp_path: Path, section: Picture, dpi: int, tiled: bool
) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif",
        section,
        resolution=(dpi, dpi),
        resolutionunit="INCH",
        tile=(128, 128) if tiled else None,
        photometric="rgb",
    )
    slide = open_slide(tmp_path / "a.tif")
    assert (slide.mpp, slide.mpp_source) == (None, "none")
    with pytest.raises(MppError, match=r"a\.tif does not say how many microns"):
        slide.require_mpp()


def test_dpi_of_png_and_jpeg_is_never_used(tmp_path: Path, section: Picture) -> None:
    for name in ("a.png", "a.jpg"):
        assert open_slide(save(section, tmp_path / name, dpi=(36_800, 36_800))).mpp is None


def test_a_tiff_without_a_unit_states_nothing(tmp_path: Path, section: Picture) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif", section, resolution=(20_000, 20_000), resolutionunit="NONE"
    )
    assert open_slide(tmp_path / "a.tif").mpp is None


def test_imagej_and_ome_state_microns(tmp_path: Path, section: Picture) -> None:
    tifffile.imwrite(
        tmp_path / "ij.tif",
        section,
        imagej=True,
        resolution=(2.0, 2.0),
        metadata={"unit": "micron", "axes": "YXS"},
    )
    assert open_slide(tmp_path / "ij.tif").mpp == pytest.approx(0.5)
    for unit, size in (("µm", 0.25), ("nm", 250.0)):
        metadata = {"axes": "YXS", "PhysicalSizeX": size, "PhysicalSizeY": size}
        metadata |= {"PhysicalSizeXUnit": unit, "PhysicalSizeYUnit": unit}
        tifffile.imwrite(
            tmp_path / "a.ome.tif",
            section,
            photometric="rgb",
            metadata=metadata,
            tile=(128, 128),
        )
        assert open_slide(tmp_path / "a.ome.tif").mpp == pytest.approx(0.25)


def test_x_and_y_are_averaged(tmp_path: Path, section: Picture) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif", section, resolution=(1e4 / 0.50, 1e4 / 0.51), resolutionunit=3
    )
    assert open_slide(tmp_path / "a.tif").mpp == pytest.approx(0.505)


@pytest.mark.parametrize("mpp", [0, -1, 50, 0.049, 20.1, float("nan"), float("inf")])
def test_given_mpp_must_be_in_range(pyramid_path: Path, mpp: float) -> None:
    with pytest.raises(MppError, match=r"µm per pixel is outside the accepted range of 0\.05 to"):
        open_slide(pyramid_path, mpp=mpp)


def test_given_mpp_may_not_contradict_the_file(pyramid_path: Path) -> None:
    with pytest.raises(MppError, match=r"states 0\.5 µm per pixel in its metadata but 0\.25 was"):
        open_slide(pyramid_path, mpp=0.25)
    assert open_slide(pyramid_path, mpp=0.51).mpp == 0.51
    slide = open_slide(pyramid_path, mpp=0.25, allow_mpp_mismatch=True)
    assert (slide.mpp, slide.mpp_source) == (0.25, "user")


def test_an_impossible_statement_is_ignored_and_said(
    tmp_path: Path, pyramid: Callable[..., Path], section: Picture
) -> None:
    path = pyramid(tmp_path / "odd.tif", section, mpp=0.001)
    slide = open_slide(path)
    assert slide.mpp is None and "states 0.001 µm per pixel" in slide.notes[0]
    assert open_slide(path, mpp=0.5).mpp == 0.5


# use by several threads and processes


def test_pickles_by_path_and_opens_lazily(pyramid_path: Path, section: Picture) -> None:
    slide = open_slide(pyramid_path, mpp=0.51)
    copy = pickle.loads(pickle.dumps(slide))
    assert isinstance(copy, Slide) and copy._pixels is None
    assert (copy.mpp, copy.mpp_source, copy.width_px) == (0.51, "user", 700)
    np.testing.assert_array_equal(copy.thumbnail(700), section)


def test_reads_again_after_closing(pyramid_path: Path) -> None:
    slide = open_slide(pyramid_path)
    before = slide.thumbnail(100)
    slide.close()
    slide.close()
    np.testing.assert_array_equal(slide.thumbnail(100), before)


def test_threads_read_the_same(pyramid_path: Path) -> None:
    slide = open_slide(pyramid_path)
    places = [(37.5 * i % 600, 23.3 * i % 400) for i in range(60)]

    def read(place: tuple[float, float]) -> Picture:
        return slide.read_box(*place, 100, 100, 50, 50)

    alone = [read(place) for place in places]
    slide.close()  # all threads meet the closed slide
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(read, places))
    assert all((a == b).all() for a, b in zip(alone, together, strict=True))


def test_fingerprint_is_of_the_content(tmp_path: Path, pyramid_path: Path) -> None:
    slide = open_slide(pyramid_path)
    copied = tmp_path / "other name.tif"
    copied.write_bytes(pyramid_path.read_bytes())
    assert open_slide(copied).fingerprint() == slide.fingerprint()
    data = pyramid_path.read_bytes()
    head, tail = data[: 1 << 20], data[max(1 << 20, len(data) - (1 << 20)) :]
    wanted = hashlib.sha256(str(len(data)).encode() + head + tail).hexdigest()
    assert slide.fingerprint() == wanted
    copied.write_bytes(data + b"\0")
    assert open_slide(copied).fingerprint() != wanted


def test_a_large_single_level_is_noted(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    section: Picture,
) -> None:
    """OpenSlide sees one level of an OME-TIFF whose pyramid is in sub-pages, and says nothing."""
    monkeypatch.setattr("stem_core.slides.reading.SINGLE_LEVEL_NOTE_PX", 600)
    path = tmp_path / "big.ome.tif"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(section, photometric="rgb", tile=(128, 128), subifds=1, metadata={"axes": "YXS"})
        tiff.write(section[::2, ::2], photometric="rgb", tile=(128, 128), subfiletype=1)
    with caplog.at_level(logging.WARNING, logger="stem_core.slides.reading"):
        slide = open_slide(path, mpp=0.5)
    assert slide.level_count == 1
    assert "OME-TIFF whose pyramid OpenSlide does not see" in slide.notes[0]
    assert slide.notes[0] in caplog.text


# real slides


def test_aperio_slide(real_data: Path) -> None:
    with open_slide(real_data / "slides" / "CMU-1-Small-Region.svs") as slide:
        assert (slide.format, slide.width_px, slide.height_px) == ("aperio", 2220, 2967)
        assert slide.mpp == pytest.approx(0.499) and slide.mpp_source == "metadata"
        assert slide.thumbnail(500).shape == (500, 374, 3)


def test_st_section(real_data: Path) -> None:
    with open_slide(real_data / "her2st" / "wsis" / "C5.tif") as slide:
        assert (slide.width_px, slide.height_px, slide.level_count) == (9272, 9901, 7)
        assert slide.mpp == pytest.approx(0.6857, abs=1e-4)
        overview = slide.thumbnail(512)
        box = slide.read_box(0, 0, slide.width_px, slide.height_px, 128, 137)
    assert overview.shape == (512, 479, 3)
    assert np.abs(overview.mean(axis=(0, 1)) - box.mean(axis=(0, 1))).max() < 0.5


def test_a_cut_real_slide_is_refused(real_data: Path, tmp_path: Path) -> None:
    whole = (real_data / "mouse_olfactory_bulb" / "wsis" / "MOB1.tif").read_bytes()
    path = tmp_path / "cut.tif"
    for share in (0.1, 0.5, 0.9, 0.999):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(SlideOpenError, match=r"cut\.tif is a damaged or truncated TIFF"):
            open_slide(path)
