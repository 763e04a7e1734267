"""Read measured sections: the folder layout of HEST-1k, one's own, or Space Ranger's.

    wsis/<id>.tif   st/<id>.h5ad   metadata/<id>.json      HEST-1k (Jaume et al. 2024)
    wsis/<id>.*     st/<id>.h5ad                           one's own sections; metadata if there is
    <id>/outs/      <id>/<image>                           Space Ranger, the image beside its outs

Nothing in a file is executed. Counts stay as they lie in the file, sparse where they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from stem_core.errors import SectionError
from stem_core.slides.counts_files import MATRIX_NAME, read_counts_h5ad, read_counts_matrix
from stem_core.slides.reading import Slide, open_slide
from stem_core.slides.spots import Spots, read_spots

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = [
    "MeasuredSection",
    "dense",
    "find_sections",
    "is_ensembl",
    "log_counts",
    "open_section",
    "read_section",
    "section_names",
    "section_spots",
]

_ENSEMBL = re.compile(r"ENS[A-Z]*G\d{6,}", re.IGNORECASE)
_SYMBOL_COLUMNS = ("symbol", "gene_symbol", "gene_symbols", "gene_name", "gene_names",
                   "feature_name")  # fmt: skip
_METADATA_SAYS = {"mpp": "pixel_size_um_estimated"}


@dataclass(frozen=True)
class MeasuredSection:
    """One section with its image and counts.

    Attributes
    ----------
    name
        Its id.
    image, table
        Paths of the image and of what holds the spots in level-0 pixels: an h5ad, or Space
        Ranger's outs.
    counts
        Raw counts, float32, spots × genes, dense or sparse; gene symbols as `var_names`, unique.
        Spots without any count are left out.
    metadata
        The JSON as it is; empty where there is none.
    duplicates
        Symbols that the file names more than once; the first kept the name.
    empty_spots
        How many spots were left out.
    """

    name: str
    image: Path
    table: Path
    counts: AnnData
    metadata: dict[str, Any]
    duplicates: tuple[str, ...] = field(default=())
    empty_spots: int = 0

    @property
    def patient(self) -> str:
        """Whom it is from, as the metadata say; else a patient of its own."""
        said = self.metadata.get("patient")
        return str(said) if said not in (None, "") else self.name

    @property
    def pitch_um(self) -> float | None:
        """Distance between spots as the metadata or the platform say, microns."""
        for key in ("inter_spot_dist_um", "inter_spot_dist"):
            if _is_positive(said := self.metadata.get(key)):
                return float(said)
        return 100.0 if str(self.metadata.get("st_technology", "")).startswith("Visium") else None


def read_section(folder: Path, name: str) -> MeasuredSection:
    """Read a section of a folder in one of the layouts above.

    Raises
    ------
    SectionError
        A file is missing, damaged, or of another kind.
    """
    if not re.fullmatch(r"[\w.+-]{1,100}", name) or name.startswith("."):
        msg = f"{name!r} is no name of a section; use letters, digits, '_', '-', '+' and '.'."
        raise SectionError(msg)
    metadata = _read_metadata(folder, name)
    table = folder / "st" / f"{name}.h5ad"
    if table.is_file():
        image = _the_image(folder / "wsis", name, stem=name)
        return _cleaned(name, image, table, read_counts_h5ad(table), metadata)
    outs = next((p for p in (folder / name / "outs", folder / name) if _is_space_ranger(p)), None)
    if outs is not None:
        image = _the_image(folder / name, name)
        return _cleaned(name, image, outs, read_counts_matrix(outs / MATRIX_NAME), metadata)
    known = ", ".join(section_names(folder)[:8]) or "none"
    msg = (
        f"The section {name} is not in {folder}: there is neither st/{name}.h5ad nor "
        f"{name}/outs (sections there: {known}); download it or correct the name."
    )
    raise SectionError(msg)


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
        There are no metadata, or none that say so.
    """
    unwanted, found = set(exclude), []
    files = sorted((folder / "metadata").glob("*.json"))
    for path in files:
        said = {
            key: str(value).casefold() for key, value in _read_metadata(folder, path.stem).items()
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
    return found


def open_section(section: MeasuredSection) -> Slide:
    """Open the image of a section; µm per pixel from the metadata where the file has none.

    Raises
    ------
    SlideError
        The image cannot be opened.
    """
    slide = open_slide(section.image)
    said = section.metadata.get(_METADATA_SAYS["mpp"])
    if slide.mpp is not None or not _is_positive(said):
        return slide
    slide.close()
    return open_slide(section.image, mpp=float(said))


def section_spots(section: MeasuredSection, slide: Slide, diameter_um: float) -> Spots:
    """Read the spots of a section, in the order of its counts.

    Raises
    ------
    SectionError
        A spot has counts and no position.
    SpotsError
        The positions cannot be read or lie outside the image.
    """
    spots = read_spots(section.table, slide, diameter_um=diameter_um)
    wanted = list(section.counts.obs_names)
    if list(spots.ids) == wanted:
        return spots
    places = {name: place for place, name in enumerate(spots.ids)}
    lost = [name for name in wanted if name not in places]
    if lost:
        msg = (
            f"{len(lost):,} of the {len(wanted):,} spots of section {section.name} have counts and "
            f"no position ({lost[0]}, …); give the positions of the same section."
        )
        raise SectionError(msg)
    return spots.take([places[name] for name in wanted])


def log_counts(section: MeasuredSection, panel: list[str]) -> NDArray[np.float32]:
    """log2(1 + raw count) of the panel, (N,G).

    Raises
    ------
    SectionError
        A gene of the panel was not measured in this section.
    """
    missing = [gene for gene in panel if gene not in section.counts.var_names]
    if missing:
        shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
        msg = (
            f"{len(missing)} of the {len(panel)} genes of the panel are not measured in section "
            f"{section.name} ({shown}); choose the panel from genes that all sections have."
        )
        raise SectionError(msg)
    return np.log2(1 + dense(section.counts[:, panel].X)).astype(np.float32)


def dense(values: Any) -> NDArray[np.float32]:
    """Return a matrix, sparse or not, as a plain array."""
    return np.asarray(values.toarray() if hasattr(values, "toarray") else values, np.float32)


def is_ensembl(name: str) -> bool:
    """Tell whether a gene is named by its Ensembl id."""
    return _ENSEMBL.match(name) is not None


def _cleaned(
    name: str, image: Path, table: Path, counts: AnnData, metadata: dict[str, Any]
) -> MeasuredSection:
    if counts.X is None or not min(counts.shape):
        msg = f"{table.name} of section {name} has no counts in X; write the raw counts there."
        raise SectionError(msg)
    counts.X = counts.X.astype(np.float32)
    _name_by_symbol(counts)
    repeated = counts.var_names[counts.var_names.duplicated()]
    counts.var_names_make_unique()
    total = np.asarray(counts.X.sum(axis=1)).ravel()
    empty = int((total == 0).sum())
    if empty:
        counts = counts[total != 0].copy()
    duplicates = tuple(sorted(set(map(str, repeated))))
    return MeasuredSection(name, image, table, counts, metadata, duplicates, empty)


def _name_by_symbol(counts: AnnData) -> None:
    """Use the symbols where the index has Ensembl ids and a column has the symbols."""
    if np.mean([is_ensembl(str(name)) for name in counts.var_names]) <= 0.5:
        return
    column = next((c for c in counts.var.columns if c.lower() in _SYMBOL_COLUMNS), None)
    if column is None:
        return
    ids = counts.var_names.astype(str)
    symbols = counts.var[column].astype(str).to_numpy()
    counts.var["gene_ids"] = np.asarray(ids)
    counts.var_names = [
        symbol if symbol and symbol != "nan" else id_
        for symbol, id_ in zip(symbols, ids, strict=True)
    ]


def _read_metadata(folder: Path, name: str) -> dict[str, Any]:
    path = folder / "metadata" / f"{name}.json"
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        msg = f"The metadata {path} cannot be read ({error}); download them again or remove them."
        raise SectionError(msg) from error
    return said if isinstance(said, dict) else {}


def _the_image(folder: Path, name: str, stem: str | None = None) -> Path:
    """Return the one image of a section."""
    kinds = (".tif", ".tiff", ".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".png", ".jpg",
             ".jpeg")  # fmt: skip
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    found = [
        p
        for p in files
        if p.is_file() and p.suffix.lower() in kinds and (stem is None or p.stem == stem)
    ]
    if len(found) != 1:
        what = "no image" if not found else f"{len(found)} images ({found[0].name}, …)"
        msg = f"The section {name} has {what} in {folder}; put its one H&E image there."
        raise SectionError(msg)
    return found[0]


def _is_space_ranger(folder: Path) -> bool:
    return (folder / MATRIX_NAME).is_file()


def _is_positive(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0
