"""Slides that cannot be used: each kind of damage has its own sentence."""

from __future__ import annotations

import logging
import struct
import time
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from stem_core.errors import SlideColourError, SlideOpenError
from stem_core.slides.reading import open_slide

Picture = NDArray[np.uint8]


def one_sentence(error: pytest.ExceptionInfo[Exception]) -> str:
    text = str(error.value)
    assert "\n" not in text and text.endswith(".") and "/" not in text.split(" ")[0]
    return text


def refuse(path: Path, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words) as error:
        open_slide(path)
    assert path.name in one_sentence(error)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"Dear colleague, enclosed the slide.", "is not an image"),
        (b"%PDF-1.7\n" + b"\0" * 2000, "is not an image"),
        (b"GIF89a" + b"\0" * 2000, "is not an image"),
        (b"II*\0", "damaged or truncated TIFF"),
        (b"II*\0" + b"\xff" * 500, "damaged or truncated TIFF"),
        (b"MM\0+" + b"\0" * 500, "damaged or truncated TIFF"),
        (b"\xff\xd8\xff" + b"\0" * 500, "cannot be decoded as JPEG"),
        (b"\x89PNG\r\n\x1a\n", "cannot be decoded as PNG"),
        (b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + b"\0\0\1\0\0\0\1\0\x08\2", "decoded as PNG"),
    ],
)
def test_not_an_image(tmp_path: Path, content: bytes, words: str) -> None:
    for name in ("slide.svs", "slide.png"):
        (tmp_path / name).write_bytes(content)
        refuse(tmp_path / name, SlideOpenError, words)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    refuse(tmp_path / "absent.svs", SlideOpenError, "cannot be opened")
    refuse(tmp_path, SlideOpenError, "cannot be opened")


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.999])
def test_truncated_pyramid(tmp_path: Path, pyramid_path: Path, share: float) -> None:
    whole = pyramid_path.read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[: int(len(whole) * share)])
    refuse(tmp_path / "cut.tif", SlideOpenError, "damaged or truncated TIFF")


@pytest.mark.parametrize("share", [0.3, 0.9])
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_truncated_striped_tiff(
    tmp_path: Path, section: Picture, share: float, compression: str | None
) -> None:
    path = tmp_path / "cut.tif"
    Image.fromarray(section).save(path, compression=compression)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    refuse(path, SlideOpenError, "damaged or truncated TIFF")


def test_tiles_beyond_the_end_are_counted(tmp_path: Path, section: Picture) -> None:
    """The header stands first in the file, so only the tiles' byte ranges give the cut away."""
    path = tmp_path / "cut.tif"
    tifffile.imwrite(path, section, photometric="rgb", tile=(128, 128))
    path.write_bytes(path.read_bytes()[:-100_000])
    refuse(path, SlideOpenError, r"3 of its 24 image tiles lie beyond the end of the file")


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_truncated_plain_image(tmp_path: Path, section: Picture, suffix: str) -> None:
    path = tmp_path / f"cut{suffix}"
    Image.fromarray(section).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refuse(path, SlideOpenError, "the file is damaged or truncated")


def test_damage_inside_a_tile_shows_on_reading_and_does_not_stick(
    tmp_path: Path, section: Picture
) -> None:
    path = tmp_path / "bad_tile.tif"
    tifffile.imwrite(path, section, photometric="rgb", tile=(128, 128), compression="zlib")
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        offset, count = page.dataoffsets[0], page.databytecounts[0]
    data = bytearray(path.read_bytes())
    data[offset : offset + count] = b"\xaa" * count
    path.write_bytes(bytes(data))
    # a slide that was fine when it was opened
    slide = _opened_without_looking(path)
    with pytest.raises(SlideOpenError, match="cannot be read around") as error:
        slide.read_box(0, 0, 64, 64, 64, 64)
    one_sentence(error)
    np.testing.assert_array_equal(
        slide.read_box(300, 300, 64, 64, 64, 64), section[300:364, 300:364]
    )


def _opened_without_looking(path: Path):  # type: ignore[no-untyped-def]
    from stem_core.slides import reading

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading.Slide, "_check_colour", lambda self: None)
        return open_slide(path, mpp=0.5)


def test_tifffile_does_not_chatter(
    tmp_path: Path, pyramid_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The sentence is all that reaches standard error."""
    path = tmp_path / "cut.tif"
    path.write_bytes(pyramid_path.read_bytes()[:200_000])
    # pytest's own handlers hide what a program without any logging set-up would print
    root, kept = logging.getLogger(), logging.getLogger().handlers[:]
    root.handlers.clear()
    try:
        with pytest.raises(SlideOpenError):
            open_slide(path)
    finally:
        root.handlers.extend(kept)
    assert capfd.readouterr().err == ""


# colour


def test_greyscale(tmp_path: Path, section: Picture) -> None:
    grey = section.mean(axis=2).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "a.png")
    Image.fromarray(grey).save(tmp_path / "a.jpg")
    Image.fromarray(grey).save(tmp_path / "a.tif")
    Image.fromarray(np.dstack([grey, grey])).save(tmp_path / "la.png")
    tifffile.imwrite(tmp_path / "tiled.tif", grey, tile=(128, 128))
    for name in ("a.png", "a.jpg", "a.tif", "la.png", "tiled.tif"):
        refuse(tmp_path / name, SlideColourError, "greyscale image")


def test_greyscale_saved_as_rgb(
    tmp_path: Path, section: Picture, pyramid: Callable[..., Path]
) -> None:
    grey = np.repeat(section.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    pyramid(tmp_path / "a.tif", grey)
    Image.fromarray(grey).save(tmp_path / "a.jpg")
    for name in ("a.tif", "a.jpg"):
        refuse(tmp_path / name, SlideColourError, "shades of grey only")


def test_sixteen_bits(tmp_path: Path, section: Picture) -> None:
    deep = section.astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "plain.tif", deep, photometric="rgb")
    tifffile.imwrite(tmp_path / "tiled.tif", deep, photometric="rgb", tile=(128, 128))
    (tmp_path / "deep.png").write_bytes(_png(16, 16, deep[:16, :16].astype(">u2").tobytes(), 16))
    for name in ("plain.tif", "tiled.tif", "deep.png"):
        refuse(tmp_path / name, SlideColourError, "16 bits per colour channel")
    tifffile.imwrite(tmp_path / "grey16.tif", deep[:, :, 0])
    Image.fromarray(deep[:, :, 0]).save(tmp_path / "grey16.png")
    for name in ("grey16.tif", "grey16.png"):
        refuse(tmp_path / name, SlideColourError, r"greyscale image \(16 bits\)")


def test_floating_point(tmp_path: Path, section: Picture) -> None:
    tifffile.imwrite(tmp_path / "f.tif", section.astype(np.float32) / 255, photometric="rgb")
    refuse(tmp_path / "f.tif", SlideColourError, "32 bits per colour channel")


@pytest.mark.parametrize("filled", [0.05, 0.6])
def test_fluorescence_as_rgb(tmp_path: Path, pyramid: Callable[..., Path], filled: float) -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 25, (400, 400, 3), dtype=np.uint8)
    rows = int(400 * filled)
    picture[:rows, :, 2] = rng.integers(90, 255, (rows, 400))
    picture[: rows // 2, :, 1] = rng.integers(90, 255, (rows // 2, 400))
    pyramid(tmp_path / "fluo.tif", picture)
    Image.fromarray(picture).save(tmp_path / "fluo.png")
    for name in ("fluo.tif", "fluo.png"):
        refuse(tmp_path / name, SlideColourError, "as fluorescence images are")


def test_fluorescence_channels(tmp_path: Path, section: Picture) -> None:
    channels = np.moveaxis(section, 2, 0).astype(np.uint16)
    tifffile.imwrite(tmp_path / "c.ome.tif", channels, metadata={"axes": "CYX"}, tile=(128, 128))
    refuse(tmp_path / "c.ome.tif", SlideColourError, "greyscale")


def test_black_border_dark_stain_and_blank_glass_are_not_refused(
    tmp_path: Path, section: Picture
) -> None:
    framed = section.copy()
    framed[:, :380] = 0
    dark = np.full((300, 300, 3), (90, 45, 120), dtype=np.uint8)
    blank = np.full((300, 300, 3), (243, 242, 243), dtype=np.uint8)
    for picture in (framed, dark, blank):
        Image.fromarray(picture).save(tmp_path / "a.png")
        open_slide(tmp_path / "a.png")


# too large to decode


def _png(width: int, height: int, rows: bytes, bits: int = 8) -> bytes:
    """A PNG of RGB rows (without filter bytes), or of nothing when `rows` is empty."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    stride = len(rows) // height
    lines = b"".join(b"\0" + rows[i * stride : (i + 1) * stride] for i in range(height))
    header = struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(lines if rows else b""))
        + chunk(b"IEND", b"")
    )


def test_png_of_18000_px_is_refused_before_decoding(tmp_path: Path) -> None:
    side = 18_000
    packer = zlib.compressobj(1)
    white = b"\0" + b"\xf0" * (3 * side)
    body = b"".join(packer.compress(white) for _ in range(side)) + packer.flush()
    data = bytearray(_png(side, side, b""))
    empty = struct.pack(">I", 8) + b"IDAT"
    start = bytes(data).index(empty)
    full = struct.pack(">I", len(body)) + b"IDAT" + body
    full += struct.pack(">I", zlib.crc32(b"IDAT" + body))
    path = tmp_path / "large.png"
    path.write_bytes(bytes(data[:start]) + full + bytes(data[start + 12 + 8 :]))
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refuse(path, SlideOpenError, r"18,000 × 18,000 px; plain images are read up to 12,000 px")
    assert time.perf_counter() - began < 1.0


@pytest.mark.parametrize(("width", "height"), [(12_001, 100), (100, 12_001)])
def test_the_limit_holds_for_each_side(tmp_path: Path, width: int, height: int) -> None:
    white = Image.new("RGB", (width, height), (240, 220, 235))
    for name in ("a.png", "a.jpg", "a.tif"):
        white.save(tmp_path / name)
        refuse(tmp_path / name, SlideOpenError, "plain images are read up to 12,000 px a side")


def test_an_allowed_large_image_warns_of_no_bomb(tmp_path: Path) -> None:
    """Pillow warns from 89 million pixels on; 12,000 x 8,000 is allowed here."""
    path = tmp_path / "large.png"
    white = Image.new("P", (12_000, 8_000))
    white.putpalette([243, 241, 244])
    white.save(path, compress_level=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_slide(path).width_px == 12_000


def test_tiled_slides_have_no_such_limit(tmp_path: Path) -> None:
    tile = np.full((512, 512, 3), (230, 190, 215), dtype=np.uint8)
    with tifffile.TiffWriter(tmp_path / "wide.tif") as tiff:
        for width in (12_800, 512):
            tiff.write(
                iter([tile] * (width // 512)),
                shape=(512, width, 3),
                dtype="uint8",
                photometric="rgb",
                tile=(512, 512),
                compression="zlib",
            )
    slide = open_slide(tmp_path / "wide.tif", mpp=0.5)
    assert slide.width_px == 12_800
