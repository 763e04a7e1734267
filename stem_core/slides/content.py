"""A hash of all that a slide's file holds, or its files, where the format has several."""

from __future__ import annotations

import hashlib
from pathlib import Path
from weakref import WeakKeyDictionary

from stem_core.errors import SlideOpenError
from stem_core.files import file_sha256
from stem_core.slides.reading import Slide

__all__ = ["slide_content", "slide_files"]

_known: WeakKeyDictionary[Slide, str] = WeakKeyDictionary()


def slide_content(slide: Slide) -> str:
    """Hash a slide: names and sha256 of its files; read once for an open slide.

    Returns
    -------
    str
        64 hexadecimal digits: the file's sha256 where there is one file.

    Raises
    ------
    SlideOpenError
        A file cannot be read.
    """
    if slide not in _known:
        _known[slide] = _content(slide)
    return _known[slide]


def slide_files(slide: Slide) -> list[Path]:
    """List the files that OpenSlide reads a slide from, the entry file first.

    MIRAX keeps its pixels in the folder of its name; the text of Hamamatsu's VMS and VMU names the
    files beside it; of DICOM, all instances in the folder count, since which make up the slide is
    said in each of them. Slides of all other formats are one file.
    """
    path = slide.path
    if slide.format == "mirax":
        more = [p for p in path.with_suffix("").rglob("*") if p.is_file()]
    elif slide.format in ("hamamatsu-vms", "hamamatsu-vmu"):
        text = path.read_text("latin-1")
        more = [p for p in path.parent.iterdir() if p.is_file() and p.name in text]
    elif slide.format == "dicom":
        more = [p for p in path.parent.iterdir() if p.is_file() and _is_dicom(p)]
    else:
        more = []
    return [path, *sorted(p for p in more if p != path)]


def _content(slide: Slide) -> str:
    try:
        files = slide_files(slide)
        sums = {path: file_sha256(path) for path in files}
    except OSError as error:
        msg = (
            f"{slide.path.name} cannot be read to the end ({error.strerror or error}); copy or "
            "download it again."
        )
        raise SlideOpenError(msg) from error
    if len(files) == 1:
        return sums[slide.path]
    folder = slide.path.parent
    lines = [f"{path.relative_to(folder).as_posix()} {sums[path]}\n" for path in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"
