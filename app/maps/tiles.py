"""Tiles of a run's slide, read from its file as they are asked for (`app.maps.pyramid`)."""

from __future__ import annotations

import io
import json
import math
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app import uploads
from app.jobs.folder import JobFolder
from app.maps.kept import Kept
from app.maps.pyramid import OVERLAP_PX, TILE_PX, Tile, level_count, tile_place
from app.maps.runs import finished_folder, open_values
from app.maps.values import MapValues
from stem_core.errors import JobError, StemError
from stem_core.slides.reading import Slide, open_slide

__all__ = [
    "FULL_JPEG_QUALITY",
    "JPEG_QUALITY",
    "encode_jpeg",
    "forget_deleted_files",
    "map_address",
    "slide_box",
    "slide_description",
    "slide_tile",
    "thumbnail_box",
    "thumbnail_jpeg",
]

JPEG_QUALITY = 85
FULL_JPEG_QUALITY = 95  # where pixels are looked at; 85 is up to 5 of 255 off on sharp scans
_MOST_READ_PX = 16_000_000  # from the full resolution of a file without smaller copies
_SlideKey = tuple[str, int, int, float | None]
_MEMORY_FORMATS = ("png", "jpeg", "tiff")  # held decoded, with smaller copies


@dataclass(frozen=True)
class _OpenSlide:
    key: _SlideKey
    slide: Slide
    fingerprint: str
    # One reader at a time: a slide closes itself when a read fails, under the others' hands.
    lock: threading.Lock = field(default_factory=threading.Lock)

    def size_bytes(self) -> int:
        """Memory that a decoded picture takes, with its smaller copies."""
        decoded = self.slide.format in _MEMORY_FORMATS
        return self.slide.width_px * self.slide.height_px * 3 * 16 // 15 if decoded else 0


def map_address(job_id: str, name: str) -> str:
    """Return the path of one of a run's maps: "spots", "values", "slide" or "thumbnail"."""
    return f"/api/runs/{job_id}/map/{name}"


def slide_description(job_id: str) -> dict[str, Any]:
    """Return what a viewer has to know of a finished run's slide.

    Returns
    -------
    dict
        JSON-able: `width_px`, `height_px`, `mpp`, `tile_px`, `overlap`, `levels`, `tiles` (whether
        there are any), `thumbnail` (address of the picture in the result) and `note` (a sentence
        saying why there are no tiles, else "").

    Raises
    ------
    JobError
        The id is malformed or unknown, or the run has no result (yet).
    OutputError
        The result cannot be read.
    """
    values = open_values(job_id)
    folder = finished_folder(job_id)
    note = ""
    try:
        slide = _opened(folder).slide
        width_px, height_px = slide.width_px, slide.height_px
    except StemError as error:
        note = str(error)
        width_px, height_px = _recorded_size(folder, values)
    return {
        "width_px": width_px,
        "height_px": height_px,
        "mpp": values.mpp,
        "tile_px": TILE_PX,
        "overlap": OVERLAP_PX,
        "levels": level_count(width_px, height_px),
        "tiles": not note,
        "thumbnail": map_address(job_id, "thumbnail"),
        "note": note,
    }


def slide_tile(job_id: str, level: int, column: int, row: int) -> bytes:
    """Return a tile of a finished run's slide as JPEG.

    Raises
    ------
    JobError
        The id is malformed or unknown, the run has no result (yet), its slide is gone or another
        by now, or the slide has no such tile.
    SlideError
        The file cannot be read (at this place).
    """
    folder = finished_folder(job_id)
    opened = _opened(folder)
    slide = opened.slide
    tile = tile_place(slide.width_px, slide.height_px, level, column, row)

    def draw() -> bytes:
        picture = _read(opened, tile, job_id)
        full = tile.width_px == tile.out_width
        return encode_jpeg(picture, FULL_JPEG_QUALITY if full else JPEG_QUALITY)

    return _TILES.get((opened.key, level, column, row), draw)


def slide_box(job_id: str, box: Tile) -> NDArray[np.uint8]:
    """Return a part of a finished run's slide, uint8 (h, w, 3), at the size it is drawn at.

    Where the slide's file is gone or too slow to read, it comes from the picture in the result.

    Raises
    ------
    JobError
        The id is malformed or unknown, or the run has no result (yet).
    SlideError
        The file cannot be read at this place.
    """
    try:
        opened = _opened(finished_folder(job_id))
    except StemError:
        return thumbnail_box(open_values(job_id), box)
    return _read(opened, box, job_id)


def thumbnail_jpeg(job_id: str) -> bytes:
    """Return the picture of the whole slide that a result keeps, as JPEG.

    Raises
    ------
    JobError
        The id is malformed or unknown, or the run has no result (yet).
    OutputError
        The result cannot be read.
    """
    return encode_jpeg(open_values(job_id).thumbnail)


def thumbnail_box(values: MapValues, tile: Tile) -> NDArray[np.uint8]:
    """Return a part of the slide from the picture in a result; what lies beyond is white."""
    scale = values.thumbnail_scale
    height, width = values.thumbnail.shape[:2]
    left, top = tile.x_px * scale, tile.y_px * scale
    right, bottom = left + tile.width_px * scale, top + tile.height_px * scale
    framed = Image.new(
        "RGB", (max(width, math.ceil(right)), max(height, math.ceil(bottom))), "white"
    )
    framed.paste(Image.fromarray(values.thumbnail))
    drawn = framed.resize(
        (tile.out_width, tile.out_height),
        Image.Resampling.BILINEAR,
        box=(left, top, right, bottom),
    )
    return np.asarray(drawn)


def forget_deleted_files() -> None:
    """Close slides whose file is gone and forget their tiles, so that the disk gets its space."""
    _SLIDES.drop(lambda key: not Path(key[0]).exists())
    _TILES.drop(lambda key: not Path(key[0][0]).exists())


def encode_jpeg(picture: NDArray[np.uint8], quality: int = JPEG_QUALITY) -> bytes:
    """Return a picture, uint8 (h, w, 3), as JPEG of full colour resolution."""
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "JPEG", quality=quality, subsampling=0)
    return out.getvalue()


def _opened(folder: JobFolder) -> _OpenSlide:
    """Return the slide a run was made from; an error where it is gone or another by now."""
    request = folder.read_request()
    path = uploads.upload_path(request.upload_id)
    try:
        found = path.stat()
    except OSError as error:
        msg = "The slide of this run is no longer there; the small picture in the result is shown."
        raise JobError(msg) from error
    key = (str(path), found.st_mtime_ns, found.st_size, request.mpp)

    def make() -> _OpenSlide:
        slide = open_slide(path, mpp=request.mpp)
        return _OpenSlide(key, slide, slide.fingerprint())

    opened = _SLIDES.get(key, make)
    if _recorded_slide(folder).get("fingerprint", opened.fingerprint) != opened.fingerprint:
        msg = (
            "The slide's file was changed after this run, so the small picture in the result is "
            "shown; run the prediction again to see it with the new file."
        )
        raise JobError(msg)
    return opened


def _recorded_slide(folder: JobFolder) -> dict[str, Any]:
    """Return what the run record says of the slide; nothing where it says nothing."""
    try:
        record = json.loads((folder.result_dir / "run.json").read_text(encoding="utf-8"))
        slide = record.get("slide", {})
    except (OSError, ValueError, AttributeError):
        return {}
    return slide if isinstance(slide, dict) else {}


def _recorded_size(folder: JobFolder, values: MapValues) -> tuple[int, int]:
    """Return the slide's size as recorded, else as the picture in the result tells it."""
    recorded = _recorded_slide(folder)
    sizes = recorded.get("width_px"), recorded.get("height_px")
    if all(isinstance(size, int) and size > 0 for size in sizes):
        return sizes  # type: ignore[return-value]
    height, width = values.thumbnail.shape[:2]
    return (
        max(1, round(width / values.thumbnail_scale)),
        max(1, round(height / values.thumbnail_scale)),
    )


def _read(opened: _OpenSlide, box: Tile, job_id: str) -> NDArray[np.uint8]:
    slide = opened.slide
    if _is_slow(slide, box):
        return thumbnail_box(open_values(job_id), box)
    with opened.lock:
        return slide.read_box(
            box.x_px, box.y_px, box.width_px, box.height_px, box.out_width, box.out_height
        )


def _is_slow(slide: Slide, tile: Tile) -> bool:
    """Whether drawing a tile would read much of a large file that has no smaller copies."""
    pixels = tile.width_px * tile.height_px
    return slide.level_count == 1 and slide.format not in _MEMORY_FORMATS and pixels > _MOST_READ_PX


_SLIDES: Kept[_SlideKey, _OpenSlide] = Kept(
    most=4, most_bytes=1 << 30, size_of=_OpenSlide.size_bytes
)
_TILES: Kept[tuple[_SlideKey, int, int, int], bytes] = Kept(
    most=100_000, most_bytes=64 << 20, size_of=len
)
