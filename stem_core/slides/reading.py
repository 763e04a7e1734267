"""Open a slide and read boxes of it, whatever its format, without loading it whole.

Coordinates are level-0 pixels: x is the column, y the row, (0, 0) the outer corner of the first
pixel. Microns per pixel (mpp) come from the file's metadata or from the user and are never guessed.
"""

from __future__ import annotations

import hashlib
import logging
import math
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import openslide
from numpy.typing import NDArray

from stem_core.errors import MppError, SlideColourError, SlideOpenError
from stem_core.slides.inspection import FileFacts, inspect_file, is_print_resolution
from stem_core.slides.pixels import Pixels, open_pixels
from stem_core.slides.resampling import axis_weights, resample, to_uint8

__all__ = ["MAX_MPP", "MIN_MPP", "Slide", "open_slide"]

_log = logging.getLogger(__name__)

MIN_MPP, MAX_MPP = 0.05, 20.0
MPP_TOLERANCE = 0.05
SINGLE_LEVEL_NOTE_PX = 10_000
BAND_PX = 4_000_000  # pixels decoded at a time: about 100 MB while they are resampled

_FINGERPRINT_BYTES = 1 << 20


class Slide:
    """An open H&E image; made by `open_slide`.

    Reading is thread-safe. A slide pickles as its path and settings and opens the file again on its
    first read, so that it can be handed to worker processes.

    Attributes
    ----------
    path
        The file.
    width_px, height_px
        Size at level 0.
    mpp
        Microns per pixel at level 0, mean of x and y; None when not known.
    mpp_source
        "metadata", "user" or "none".
    level_count
        Number of resolutions stored in the file.
    format
        OpenSlide's vendor name ("aperio", "generic-tiff", …) or "png", "jpeg", "tiff".
    notes
        Sentences for the user about things that are allowed but slow or doubtful; also logged.
    """

    def __init__(self, path: Path, *, mpp: float | None, allow_mpp_mismatch: bool) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._pixels: Pixels | None = None
        facts = inspect_file(path)
        pixels = self._reader(facts)
        self.format = pixels.format
        self.width_px, self.height_px = pixels.level_sizes[0]
        self.level_count = pixels.file_levels
        self.notes: tuple[str, ...] = ()
        self.mpp: float | None
        self.mpp_source: Literal["metadata", "user", "none"]
        self._settle_mpp(_stated_mpp(pixels, facts), mpp, allow_mpp_mismatch)
        if self.level_count == 1 and max(self.width_px, self.height_px) > SINGLE_LEVEL_NOTE_PX:
            kind = "OME-TIFF whose pyramid OpenSlide does not see" if facts.ome else "single image"
            self.notes += (
                f"{path.name} is read as a {kind} of {self.width_px:,} × {self.height_px:,} px "
                "without smaller copies, so overviews are slow; a pyramidal TIFF is faster.",
            )
        self._check_colour()
        for note in self.notes:
            _log.warning(note)

    def read_box(
        self,
        x_px: float,
        y_px: float,
        width_px: float,
        height_px: float,
        out_width: int,
        out_height: int,
    ) -> NDArray[np.uint8]:
        """Read a box of the slide, resampled by area average from the best level.

        Parameters
        ----------
        x_px, y_px
            Upper left corner in level-0 pixels; fractions count.
        width_px, height_px
            Size of the box in level-0 pixels. What lies outside the slide is white.
        out_width, out_height
            Size of the result in pixels.

        Returns
        -------
        uint8, shape (out_height, out_width, 3)

        Raises
        ------
        SlideOpenError
            The file cannot be read at this place.
        ValueError
            The box or the result has no area.
        """
        if not (width_px > 0 and height_px > 0 and out_width > 0 and out_height > 0):
            msg = (
                f"A box of {width_px} × {height_px} px cannot be read as "
                f"{out_width} × {out_height} px."
            )
            raise ValueError(msg)
        pixels = self._open_pixels()
        wanted = min(width_px / out_width, height_px / out_height)
        level, (size_x, size_y) = pixels.best_level(wanted)
        scale_x, scale_y = size_x / self.width_px, size_y / self.height_px
        x0, x1 = x_px * scale_x, (x_px + width_px) * scale_x
        y0, y1 = y_px * scale_y, (y_px + height_px) * scale_y
        left, right = _span(x0, x1, size_x)
        columns = axis_weights(x0 - left, x1 - left, out_width, max(right - left, 1))
        out = np.full((out_height, out_width, 3), 255, dtype=np.uint8)
        if right <= left:
            return out
        step = (y1 - y0) / out_height
        band = max(1, int(BAND_PX / max(1, right - left) / max(step, 1e-9)))
        for first in range(0, out_height, band):
            last = min(out_height, first + band)
            band_y0, band_y1 = y0 + first * step, y0 + last * step
            top, bottom = _span(band_y0, band_y1, size_y)
            if bottom <= top:
                continue
            image = self._read_level(level, left, top, right - left, bottom - top)
            rows = axis_weights(band_y0 - top, band_y1 - top, last - first, bottom - top)
            out[first:last] = to_uint8(resample(image, rows, columns))
        return out

    def thumbnail(self, max_px: int = 1024) -> NDArray[np.uint8]:
        """Return the whole slide at no more than `max_px` a side, never enlarged.

        Returns
        -------
        uint8, shape (h, w, 3)
        """
        factor = max(1.0, max(self.width_px, self.height_px) / max_px)
        width = max(1, round(self.width_px / factor))
        height = max(1, round(self.height_px / factor))
        return self.read_box(0, 0, self.width_px, self.height_px, width, height)

    def fingerprint(self) -> str:
        """Return a sha256 over the file's size and its first and last MiB, as 64 hex digits."""
        size = self.path.stat().st_size
        digest = hashlib.sha256(str(size).encode())
        with self.path.open("rb") as file:
            digest.update(file.read(_FINGERPRINT_BYTES))
            if size > _FINGERPRINT_BYTES:
                file.seek(max(_FINGERPRINT_BYTES, size - _FINGERPRINT_BYTES))
                digest.update(file.read(_FINGERPRINT_BYTES))
        return digest.hexdigest()

    def require_mpp(self) -> float:
        """Return microns per pixel.

        Raises
        ------
        MppError
            The file does not say them and none were given.
        """
        if self.mpp is None:
            msg = (
                f"{self.path.name} does not say how many microns a pixel measures; "
                "give the microns per pixel of the scan (0.25 at 40×, 0.5 at 20× are usual)."
            )
            raise MppError(msg)
        return self.mpp

    def close(self) -> None:
        """Release the file; a later read opens it again."""
        with self._lock:
            if self._pixels is not None:
                self._pixels.close()
            self._pixels = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Slide({self.path.name}, {self.width_px} × {self.height_px} px, mpp={self.mpp})"

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["_lock"]
        state["_pixels"] = None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def _open_pixels(self) -> Pixels:
        return self._pixels or self._reader(None)

    def _reader(self, facts: FileFacts | None) -> Pixels:
        """Open the file once, for all threads."""
        with self._lock:
            if self._pixels is None:
                self._pixels = open_pixels(self.path, facts or inspect_file(self.path))
            return self._pixels

    def _read_level(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Read whole pixels of a level, (height, width, 3)."""
        pixels = self._open_pixels()
        try:
            return pixels.read(level, x, y, width, height)
        except (openslide.OpenSlideError, OSError) as error:
            self.close()  # OpenSlide repeats its first error for ever: the next read starts afresh
            msg = (
                f"{self.path.name} cannot be read around x = {x:,}, y = {y:,} of level {level} "
                f"({error}); the file is damaged or incomplete, copy or download it again."
            )
            raise SlideOpenError(msg) from error

    def _settle_mpp(self, stated: float | None, given: float | None, allow_mismatch: bool) -> None:
        if stated is not None and not MIN_MPP <= stated <= MAX_MPP:
            self.notes += (
                f"{self.path.name} states {stated:.4g} µm per pixel, which no slide scan has "
                f"({MIN_MPP} to {MAX_MPP:g}); the statement is ignored.",
            )
            stated = None
        if given is None:
            self.mpp, self.mpp_source = stated, "none" if stated is None else "metadata"
            return
        if not MIN_MPP <= given <= MAX_MPP:
            msg = (
                f"{given:g} µm per pixel is outside the accepted range of {MIN_MPP} to "
                f"{MAX_MPP:g}; give the microns per pixel of the scan (0.25 at 40×, 0.5 at 20× are "
                "usual)."
            )
            raise MppError(msg)
        if stated is not None and abs(given / stated - 1) > MPP_TOLERANCE and not allow_mismatch:
            msg = (
                f"{self.path.name} states {stated:.4g} µm per pixel in its metadata but "
                f"{given:.4g} was given; leave the value out to use the file's own, "
                "or allow the mismatch."
            )
            raise MppError(msg)
        self.mpp, self.mpp_source = float(given), "user"

    def _check_colour(self) -> None:
        """Refuse greyscale saved as RGB and fluorescence, seen on a sparse sample of the slide."""
        sample = _colour_sample(self)
        darkest, brightest = sample.min(axis=-1), sample.max(axis=-1)
        black = brightest < 60
        lit = darkest[~black]
        mostly_black = black.mean() > 0.5 and (not lit.size or np.median(lit) < 80)
        if mostly_black or np.quantile(darkest, 0.75) < 30:
            msg = (
                f"{self.path.name} is mostly black, as fluorescence images are; "
                "Stem reads brightfield H&E images."
            )
            raise SlideColourError(msg)
        shaded = brightest < 180
        grey = (brightest - darkest)[shaded] <= 6
        if shaded.mean() > 0.01 and grey.mean() > 0.995:
            msg = (
                f"{self.path.name} holds shades of grey only; Stem reads colour H&E images, "
                "so export the slide as 8-bit RGB."
            )
            raise SlideColourError(msg)


def open_slide(
    path: str | Path, *, mpp: float | None = None, allow_mpp_mismatch: bool = False
) -> Slide:
    """Open a whole-slide image or a plain TIFF, PNG or JPEG.

    Parameters
    ----------
    path
        The file (for formats of several files, the entry file).
    mpp
        Microns per pixel at level 0, 0.05 to 20, where the file does not state them.
    allow_mpp_mismatch
        Let `mpp` outrank a statement of the file that differs by more than 5 %.

    Raises
    ------
    SlideOpenError
        Not an image, truncated, damaged, or a plain image of more than 12,000 px a side.
    SlideColourError
        Greyscale, more than 8 bits a channel, or fluorescence.
    MppError
        `mpp` is out of range or contradicts the file.
    """
    return Slide(Path(path), mpp=mpp, allow_mpp_mismatch=allow_mpp_mismatch)


def _span(start: float, stop: float, size: int) -> tuple[int, int]:
    """Whole pixels that an interval needs, one more on each side, cut to the image."""
    return max(0, math.floor(start) - 1), min(size, math.ceil(stop) + 1)


def _colour_sample(slide: Slide, grid: int = 16, side_px: int = 32) -> NDArray[np.uint8]:
    """Pixels from all over the slide: its overview, or small boxes where that would be slow."""
    pixels = slide._open_pixels()
    width, height = pixels.best_level(max(slide.width_px, slide.height_px) / 512)[1]
    if width * height <= 32_000_000:
        return slide.thumbnail(512).reshape(-1, 3)
    boxes = [
        slide.read_box(
            (column + 0.5) / grid * slide.width_px,
            (row + 0.5) / grid * slide.height_px,
            side_px,
            side_px,
            side_px,
            side_px,
        ).reshape(-1, 3)
        for row in range(grid)
        for column in range(grid)
    ]
    return np.concatenate(boxes)


def _stated_mpp(pixels: Pixels, facts: FileFacts) -> float | None:
    """Microns per pixel that the file states; a print resolution is not a statement."""
    texts = [pixels.properties.get(f"openslide.mpp-{axis}") for axis in "xy"]
    values = []
    for text in texts:
        try:
            value = float(text) if text else math.nan
        except ValueError:
            value = math.nan
        if math.isfinite(value) and value > 0:
            values.append(value)
    if values:
        mean = sum(values) / len(values)
        generic = pixels.format == "generic-tiff"  # vendors state a scan, resolution tags may not
        return None if generic and is_print_resolution(mean) else mean
    return facts.mpp
