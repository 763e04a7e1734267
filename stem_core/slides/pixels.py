"""Where the pixels of a slide come from: OpenSlide, or a plain image that is decoded once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import openslide
from numpy.typing import NDArray
from PIL import Image, ImageOps, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

from stem_core.errors import SlideColourError, SlideOpenError
from stem_core.slides.inspection import FileFacts

__all__ = ["MAX_PLAIN_PX", "Pixels", "open_pixels"]

MAX_PLAIN_PX = 12_000

_LEVEL_TOLERANCE = 1.02  # 3.99 wanted, 4.0 there: take it
_PLAIN: dict[str, Callable[..., Image.Image]] = {
    # the plug-ins themselves, not Image.open: no other decoder is reachable from an upload
    "png": PngImagePlugin.PngImageFile,
    "jpeg": JpegImagePlugin.JpegImageFile,
    "tiff": TiffImagePlugin.TiffImageFile,
}


class Pixels:
    """Levels of pixels behind a slide; what OpenSlide and a decoded plain image have in common.

    `level_sizes` are (width, height), the largest first; a plain image has more levels than its
    file (`file_levels`), so that overviews of it are quick.
    """

    format: str
    file_levels: int
    level_sizes: list[tuple[int, int]]
    properties: dict[str, str]

    def best_level(self, downsample: float) -> tuple[int, tuple[int, int]]:
        """Return the smallest level that is not coarser than wanted, and its size."""
        full = self.level_sizes[0][0]
        level = max(
            (
                index
                for index, (width, _) in enumerate(self.level_sizes)
                if full / width <= downsample * _LEVEL_TOLERANCE
            ),
            key=lambda index: full / self.level_sizes[index][0],
            default=0,
        )
        return level, self.level_sizes[level]

    def read(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Return whole pixels of a level, uint8 (height, width, 3); the box lies inside it."""
        raise NotImplementedError

    def close(self) -> None:
        """Release the file or the memory."""
        raise NotImplementedError


class _OpenSlidePixels(Pixels):
    def __init__(self, path: Path, vendor: str) -> None:
        self._slide = openslide.OpenSlide(path)
        self.format = vendor
        self.level_sizes = list(self._slide.level_dimensions)
        self.file_levels = len(self.level_sizes)
        self.properties = dict(self._slide.properties)

    def read(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        full, size = self.level_sizes[0], self.level_sizes[level]
        corner = (round(x * full[0] / size[0]), round(y * full[1] / size[1]))
        region = np.asarray(self._slide.read_region(corner, level, (width, height)))
        alpha = region[:, :, 3:]
        colour = region[:, :, :3]
        if alpha.min() == 255:
            return colour
        # the area that was not scanned is transparent, and black underneath
        shade = alpha.astype(np.uint16)
        return ((colour * shade + 255 * (255 - shade) + 127) // 255).astype(np.uint8)

    def close(self) -> None:
        self._slide.close()


class _PlainPixels(Pixels):
    def __init__(self, image: Image.Image, kind: str) -> None:
        self._levels = [image]
        while max(self._levels[-1].size) > 1024:
            self._levels.append(self._levels[-1].reduce(4))
        self.format = kind
        self.level_sizes = [level.size for level in self._levels]
        self.file_levels = 1
        self.properties = {}

    def read(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        return np.asarray(self._levels[level].crop((x, y, x + width, y + height)))

    def close(self) -> None:
        self._levels.clear()


def open_pixels(path: Path, facts: FileFacts) -> Pixels:
    """Open a file through OpenSlide where that knows the format, else decode it as a plain image.

    Raises
    ------
    SlideOpenError
        Not an image, damaged, or a plain image of more than 12,000 px a side.
    SlideColourError
        A greyscale image.
    """
    try:
        vendor = openslide.OpenSlide.detect_format(path)
        if vendor is not None:
            return _OpenSlidePixels(path, vendor)
    except openslide.OpenSlideError as error:
        msg = f"{path.name} cannot be opened as a slide ({error}); it may be damaged or incomplete."
        raise SlideOpenError(msg) from error
    if facts.kind not in _PLAIN:
        msg = (
            f"{path.name} is not an image that can be read; "
            "give a whole-slide image (SVS, NDPI, MRXS, SCN, pyramidal TIFF, …), TIFF, PNG or JPEG."
        )
        raise SlideOpenError(msg)
    return _PlainPixels(_decode(path, facts.kind), facts.kind)


def _decode(path: Path, kind: str) -> Image.Image:
    """Decode a plain image to RGB on white, upright, after its size was checked."""
    try:
        with path.open("rb") as file:
            image = _PLAIN[kind](file)
            if max(image.size) > MAX_PLAIN_PX:
                msg = (
                    f"{path.name} has {image.width:,} × {image.height:,} px; plain images are read "
                    f"up to {MAX_PLAIN_PX:,} px a side, so convert it to a pyramidal tiled TIFF."
                )
                raise SlideOpenError(msg)
            if image.mode in ("1", "L", "LA", "La", "I", "F") or image.mode.startswith("I;"):
                msg = (
                    f"{path.name} is a greyscale image; Stem reads colour H&E images, "
                    "so export the slide as 8-bit RGB."
                )
                raise SlideColourError(msg)
            image.load()
            upright = ImageOps.exif_transpose(image)
    except (SlideOpenError, SlideColourError):
        raise
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        msg = (
            f"{path.name} cannot be decoded as {kind.upper()} ({error}); "
            "the file is damaged or truncated, copy or download it again."
        )
        raise SlideOpenError(msg) from error
    if upright.mode == "RGB":
        return upright
    if upright.mode in ("RGBA", "PA", "RGBa") or "transparency" in upright.info:
        layer = upright.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return upright.convert("RGB")
