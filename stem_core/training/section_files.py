"""Which measured sections a folder holds: their files, and what their metadata say.

    wsis/<id>.tif   st/<id>.h5ad   metadata/<id>.json      HEST-1k (Jaume et al. 2024)
    wsis/<id>.*     st/<id>.h5ad                           one's own sections; metadata if there is
    <id>/outs/      <id>/<image>                           Space Ranger, the image beside its outs

Of counts and images only the names are looked at.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stem_core.errors import SectionError
from stem_core.slides.counts_files import MATRIX_NAME

__all__ = [
    "SectionFiles",
    "find_files",
    "find_sections",
    "patient_name",
    "read_metadata",
    "section_names",
]

_IMAGES = (".tif", ".tiff", ".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".png", ".jpg",
           ".jpeg")  # fmt: skip
_NO_PATIENT = ("", "nan", "none", "null", "n/a", "unknown")


@dataclass(frozen=True)
class SectionFiles:
    """Where the files of a section lie.

    Attributes
    ----------
    table
        An h5ad, or Space Ranger's outs; None where there is neither.
    image_folder, images
        Where its image is to lie, and what lies there: one, where all is well.
    metadata
        Where these are to lie; they need not be there.
    """

    table: Path | None
    image_folder: Path
    images: tuple[Path, ...]
    metadata: Path

    def all_files(self) -> list[Path]:
        """Return everything a section may be read from, of Space Ranger's outs each file."""
        outs = [] if self.table is None or self.table.is_file() else self.table.rglob("*")
        tables = [] if self.table is None else [self.table, *sorted(outs)]
        return [*tables, self.metadata, *self.images]

    def the_image(self, name: str) -> Path:
        """Return the image of the section, which is called `name`.

        Raises
        ------
        SectionError
            There is none, or several.
        """
        if len(self.images) == 1:
            return self.images[0]
        some = f"{len(self.images)} images ({self.images[0].name}, …)" if self.images else ""
        msg = (
            f"The section {name} has {some or 'no image'} in {self.image_folder}; put its one H&E "
            "image there."
        )
        raise SectionError(msg)


def find_files(folder: Path, name: str) -> SectionFiles:
    """Find the files of a section of a folder in one of the layouts above."""
    table, metadata = folder / "st" / f"{name}.h5ad", _metadata_file(folder, name)
    outs = next((p for p in (folder / name / "outs", folder / name) if _is_space_ranger(p)), None)
    if table.is_file() or outs is None:
        place = folder / "wsis"
        images = tuple(path for path in _images_in(place) if path.stem == name)
        return SectionFiles(table if table.is_file() else None, place, images, metadata)
    return SectionFiles(outs, folder / name, _images_in(folder / name), metadata)


def section_names(folder: Path) -> list[str]:
    """Return the names of the sections in a folder, in order."""
    found = {path.stem for path in (folder / "st").glob("*.h5ad")}
    if folder.is_dir():
        found |= {
            p.name for p in folder.iterdir() if _is_space_ranger(p) or _is_space_ranger(p / "outs")
        }
    return sorted(found)


def find_sections(
    folder: Path,
    *,
    title_starts: str = "",
    exclude: Iterable[str] = (),
    where: Mapping[str, str] | None = None,
) -> list[str]:
    """Return the sections whose metadata say what is asked for, in order.

    Parameters
    ----------
    folder
        Holds `metadata/*.json`, of HEST-1k for instance.
    title_starts
        Beginning of `dataset_title`, in any case.
    exclude
        Ids that are not wanted.
    where
        Other fields, and what they are to be, in any case.

    Raises
    ------
    SectionError
        There are no metadata, or none that say so; or `exclude` names what is not a section there.
    """
    unwanted, found = set(exclude), []
    files = sorted((folder / "metadata").glob("*.json"))
    for path in files:
        said = {
            key: str(value).casefold() for key, value in read_metadata(folder, path.stem).items()
        }
        fits = said.get("dataset_title", "").startswith(title_starts.casefold()) and all(
            said.get(key) == value.casefold() for key, value in (where or {}).items()
        )
        if fits and path.stem not in unwanted:
            found.append(path.stem)
    if not found:
        msg = (
            f"None of the {len(files):,} sections with metadata in {folder / 'metadata'} has a "
            f"dataset title that starts with {title_starts!r}; download the metadata first."
        )
        raise SectionError(msg)
    if strange := sorted(unwanted - {path.stem for path in files}):
        msg = (
            f"data.select.exclude names '{strange[0]}', and none of the {len(files):,} sections "
            f"with metadata in {folder / 'metadata'} is called so; correct the name."
        )
        raise SectionError(msg)
    return found


def read_metadata(folder: Path, name: str) -> dict[str, Any]:
    """Return what the metadata of a section say; nothing where there are none.

    Raises
    ------
    SectionError
        They cannot be read.
    """
    path = _metadata_file(folder, name)
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        msg = f"The metadata {path} cannot be read ({error}); download them again or remove them."
        raise SectionError(msg) from error
    return said if isinstance(said, dict) else {}


def patient_name(said: object) -> str:
    """Return whom metadata or a recipe name; "" for a blank, NaN and the like: not known."""
    if isinstance(said, float) and said.is_integer():
        said = int(said)  # tables with gaps turn the patients 1, 2, 3 into 1.0, 2.0, 3.0
    name = str(said).strip()
    return "" if name.casefold() in _NO_PATIENT else name


def _images_in(folder: Path) -> tuple[Path, ...]:
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return tuple(p for p in files if p.is_file() and p.suffix.lower() in _IMAGES)


def _is_space_ranger(folder: Path) -> bool:
    return (folder / MATRIX_NAME).is_file()


def _metadata_file(folder: Path, name: str) -> Path:
    return folder / "metadata" / f"{name}.json"
