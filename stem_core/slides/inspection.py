"""What a slide file says about itself, checked before a single pixel is decoded.

A slide comes from outside: it may be cut off, be no image at all, hold fluorescence channels, or
unpack to more pixels than fit into memory. All of that is in the headers.
"""

from __future__ import annotations

import logging
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tifffile

from stem_core.errors import SlideColourError, SlideOpenError

__all__ = ["FileFacts", "inspect_file", "is_print_resolution"]

# tifffile reports damage to its logger; here damage becomes a SlideOpenError of one sentence.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

MAX_TIFF_PAGES = 2000
MAX_PRINT_UM = 20.0  # coarser is a print resolution: 72 dpi = 353 µm, 1200 dpi = 21 µm

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_JPEG_MAGIC = b"\xff\xd8\xff"
_GREY, _RGB, _PALETTE, _CMYK, _YCBCR, _LAB = {0, 1}, 2, 3, 5, 6, 8
_COLOUR = {_RGB, _PALETTE, _CMYK, _YCBCR, _LAB, 33003, 33004, 33005}
# bits, strip and tile offsets and lengths, palette, JPEG tables; and the bytes of TIFF's types
_DECODING_TAGS = {258, 273, 279, 320, 324, 325, 347}
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 13: 4, 16: 8, 17: 8, 18: 8}
_RESOLUTION_UNIT_UM = {2: 25_400.0, 3: 10_000.0}
_LENGTH_UM = {"nm": 1e-3, "µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "mm": 1e3, "cm": 1e4}


@dataclass(frozen=True)
class FileFacts:
    """What the header of an image file says.

    `kind` is "tiff", "png", "jpeg" or "other" (left to OpenSlide); `mpp` is the mean of the x and y
    microns per pixel of a TIFF's largest picture, None where the file does not state them;
    `ome` is true for an OME-TIFF.
    """

    kind: str
    mpp: float | None = None
    ome: bool = False


def inspect_file(path: Path) -> FileFacts:
    """Read the headers of a file and refuse what cannot become an H&E slide.

    Raises
    ------
    SlideOpenError
        The file is missing, empty, or a TIFF that is damaged or cut off.
    SlideColourError
        The picture is greyscale or has other than 8 bits a channel.
    """
    try:
        with path.open("rb") as file:
            head = file.read(32)
    except OSError as error:
        reason = error.strerror or str(error)
        msg = f"{path.name} cannot be opened ({reason}); check that the file is there and readable."
        raise SlideOpenError(msg) from error
    if not head:
        msg = f"{path.name} is empty (0 bytes); copy or download it again."
        raise SlideOpenError(msg)
    if head[:4] in _TIFF_MAGIC:
        return _inspect_tiff(path)
    if head.startswith(_PNG_MAGIC):
        if len(head) == 32:
            _check_depth(path, bits=head[24], colour=head[25] in (2, 3, 6))
        return FileFacts("png")
    if head.startswith(_JPEG_MAGIC):
        return FileFacts("jpeg")
    return FileFacts("other")


def _check_depth(path: Path, *, bits: int, colour: bool) -> None:
    if not colour:
        msg = (
            f"{path.name} is a greyscale image ({bits} bits); Stem reads colour H&E images, "
            "so export the slide as 8-bit RGB."
        )
        raise SlideColourError(msg)
    if bits > 8:
        msg = (
            f"{path.name} has {bits} bits per colour channel; Stem reads 8-bit RGB H&E images, "
            "so export the slide as 8-bit RGB."
        )
        raise SlideColourError(msg)


def _inspect_tiff(path: Path) -> FileFacts:
    size = path.stat().st_size
    try:
        with tifffile.TiffFile(path) as tiff:
            pages = _all_pages(tiff)
            if not pages or not _chain_ends(tiff):
                raise _cut_off(path, "its list of pictures runs past the end of the file")
            if any(_tag_beyond(tiff, page) for page in pages):
                raise _cut_off(path, "part of a picture's description lies beyond its end")
            missing = sum(_ranges_beyond(page, size) for page in pages)
            total = sum(len(page.dataoffsets) for page in pages)
            if missing:
                raise _cut_off(
                    path,
                    f"{missing:,} of its {total:,} image tiles lie beyond the end of the file",
                )
            largest = max(pages, key=lambda page: page.imagewidth * page.imagelength)
            _check_page(path, largest)
            return FileFacts("tiff", mpp=_tiff_mpp(tiff, largest), ome=bool(tiff.is_ome))
    except (SlideOpenError, SlideColourError):
        raise
    except (tifffile.TiffFileError, OSError, struct.error) as error:
        raise _cut_off(path, "its header cannot be read") from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, MemoryError) as error:
        # a damaged tag surfaces as whatever the parser tripped over
        raise _cut_off(path, f"its header is damaged ({error})") from error


def _cut_off(path: Path, why: str) -> SlideOpenError:
    return SlideOpenError(
        f"{path.name} is a damaged or truncated TIFF: {why}; copy or download it again."
    )


def _all_pages(tiff: tifffile.TiffFile) -> list[Any]:
    """Return the pages of the file and their sub-pages (the pyramid of an OME-TIFF)."""
    pages: list[Any] = []
    for index in range(min(len(tiff.pages), MAX_TIFF_PAGES)):
        page = tiff.pages.get(index, cache=False, aspage=True)
        pages.append(page)
        if page.subifds and page.pages is not None:
            pages.extend(page.pages)
    return [page for page in pages if isinstance(page, tifffile.TiffPage)]


def _chain_ends(tiff: tifffile.TiffFile) -> bool:
    """Tell whether the last page says that it is the last; a cut file points past its end."""
    if len(tiff.pages) > MAX_TIFF_PAGES:
        return True
    last, layout, file = (
        tiff.pages.get(len(tiff.pages) - 1, aspage=True),
        tiff.tiff,
        tiff.filehandle,
    )
    file.seek(last.offset)
    n_tags = struct.unpack(layout.tagnoformat, file.read(layout.tagnosize))[0]
    file.seek(last.offset + layout.tagnosize + n_tags * layout.tagsize)
    raw = file.read(layout.offsetsize)
    if len(raw) < layout.offsetsize:
        return False
    following = struct.unpack(layout.offsetformat, raw)[0]
    return bool(following < file.size)


def _tag_beyond(tiff: tifffile.TiffFile, page: Any) -> bool:
    """Tell whether the values of a tag that is needed for decoding lie beyond the file's end."""
    layout, file = tiff.tiff, tiff.filehandle
    if layout.is_ndpi:  # its offsets are completed by tifffile
        return False
    file.seek(page.offset)
    n_tags = struct.unpack(layout.tagnoformat, file.read(layout.tagnosize))[0]
    raw = file.read(n_tags * layout.tagsize)
    if len(raw) < n_tags * layout.tagsize:
        return True
    entry = layout.byteorder + ("HHQQ" if layout.is_bigtiff else "HHII")
    return any(
        code in _DECODING_TAGS
        and (length := count * _TYPE_BYTES.get(kind, 0)) > layout.offsetsize
        and offset + length > file.size
        for code, kind, count, offset in struct.iter_unpack(entry, raw)
    )


def _ranges_beyond(page: Any, file_size: int) -> int:
    """Count the tiles or strips of a page that are not wholly inside the file."""
    return sum(
        count > 0 and (offset <= 0 or offset + count > file_size)
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False)
    )


def _check_page(path: Path, page: Any) -> None:
    bits = page.bitspersample
    bits = max(bits) if isinstance(bits, tuple) else int(bits)
    photometric = int(page.photometric)
    colour = photometric in _COLOUR or (photometric not in _GREY and page.samplesperpixel >= 3)
    if photometric != _PALETTE and page.samplesperpixel < 3:
        colour = False
    _check_depth(path, bits=bits, colour=colour)


def _tiff_mpp(tiff: tifffile.TiffFile, page: Any) -> float | None:
    """Microns per pixel from OME-XML, ImageJ's note or the resolution tags; None for print dpi."""
    if tiff.is_ome and tiff.ome_metadata:
        return _ome_mpp(str(tiff.ome_metadata))
    tags = {name: page.tags.valueof(name) for name in ("XResolution", "YResolution")}
    per_unit = [value[0] / value[1] for value in tags.values() if value and value[1] and value[0]]
    if len(per_unit) != 2:
        return None
    unit_um = _RESOLUTION_UNIT_UM.get(int(page.tags.valueof("ResolutionUnit", default=2)))
    if tiff.is_imagej and tiff.imagej_metadata:
        unit = str(tiff.imagej_metadata.get("unit", "")).replace("\\u00B5", "µ")
        unit_um = _LENGTH_UM.get(unit, None if unit == "pixel" else unit_um)
    if unit_um is None:
        return None
    mpp = float(sum(unit_um / value for value in per_unit) / 2)
    return None if is_print_resolution(mpp) else mpp


def is_print_resolution(mpp: float) -> bool:
    """Tell whether microns per pixel are those of a printed page, such as 300 dpi."""
    return mpp > MAX_PRINT_UM


def _ome_mpp(xml: str) -> float | None:
    """Read PhysicalSizeX and PhysicalSizeY; a search, so that no XML of a stranger is parsed."""
    sizes = []
    for axis in "XY":
        value = re.search(rf'PhysicalSize{axis}="([0-9.eE+-]+)"', xml)
        unit = re.search(rf'PhysicalSize{axis}Unit="([^"]+)"', xml)
        if value:
            sizes.append(float(value.group(1)) * _LENGTH_UM.get(unit.group(1) if unit else "µm", 0))
    sizes = [size for size in sizes if size > 0]
    return sum(sizes) / len(sizes) if sizes else None
