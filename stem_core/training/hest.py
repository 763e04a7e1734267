"""Read measured sections, in the layouts of `stem_core.training.section_files`.

Nothing in a file is executed. Counts stay as they lie in the file, sparse where they are.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from stem_core.errors import SectionError
from stem_core.notebook import record_repr
from stem_core.slides.counts_files import MATRIX_NAME, read_counts_h5ad, read_counts_matrix
from stem_core.slides.reading import Slide, open_slide
from stem_core.slides.spots import Spots, read_spots
from stem_core.training.section_files import (
    find_files,
    patient_name,
    read_metadata,
    section_names,
)

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = [
    "HEST_DATASET",
    "SYMBOLS_NEEDED",
    "MeasuredSection",
    "dense",
    "is_hest_id",
    "log_counts",
    "named_by_id",
    "open_section",
    "panel_columns",
    "read_section",
    "section_spots",
]

HEST_DATASET = "MahmoodLab/hest"
_HEST_ID = re.compile(r"[A-Z]{3,6}\d{1,6}")  # TENX99, NCBI697, SPA148, MEND145, …

# What to do where genes are named by Ensembl id.
SYMBOLS_NEEDED = (
    "write the symbols into a column 'symbol' of the h5ad's var table (the GTF file that the reads "
    "were aligned with has them as gene_name, and so has Ensembl's BioMart)"
)
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
        Spots without any count are left out, and of genes of the same symbol all but the first.
    metadata
        The JSON as it is; empty where there is none.
    duplicates
        Symbols that the file names more than once.
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

    __repr__ = record_repr

    @property
    def patient(self) -> str:
        """Whom it is from, as the metadata say; "" where it is not known."""
        return patient_name(self.metadata.get("patient"))

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
        msg = f"{name!r} is not a section name; use letters, digits, '_', '-', '+' and '.'."
        raise SectionError(msg)
    metadata = read_metadata(folder, name)
    files = find_files(folder, name)
    if files.table is None:
        known = ", ".join(section_names(folder)[:8]) or "none"
        msg = (
            f"The section {name} is not in {folder}: there is neither st/{name}.h5ad nor "
            f"{name}/outs (sections there: {known}); download it or correct the name."
        )
        raise SectionError(msg)
    image = files.the_image(name)
    if files.table.is_file():
        counts = read_counts_h5ad(files.table)
    else:
        counts = read_counts_matrix(files.table / MATRIX_NAME)
    return _cleaned(name, image, files.table, counts, metadata)


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


def panel_columns(name: str, genes: Collection[str], panel: Sequence[str]) -> list[int]:
    """Return which genes of a panel a section measured, as places in the panel.

    Parameters
    ----------
    name, genes
        Of the section.
    panel
        Symbols.

    Raises
    ------
    SectionError
        It measured none.
    """
    measured = set(genes)
    columns = [place for place, gene in enumerate(panel) if gene in measured]
    if not columns:
        why = "check that it is of the species of the training sections"
        if named_by_id(genes) and not named_by_id(panel):
            why = f"it names its genes by Ensembl id, the panel by symbol: {SYMBOLS_NEEDED}"
        msg = (
            f"Section {name} measured none of the {len(panel):,} genes of the panel "
            f"({next(iter(genes))}, … there, {panel[0]}, … here); {why}."
        )
        raise SectionError(msg)
    return columns


def named_by_id(genes: Collection[str]) -> bool:
    """Tell whether most genes are named by Ensembl id."""
    return 2 * sum(_ENSEMBL.match(str(gene)) is not None for gene in genes) > len(genes)


def _cleaned(
    name: str, image: Path, table: Path, counts: AnnData, metadata: dict[str, Any]
) -> MeasuredSection:
    if counts.X is None or not min(counts.shape):
        msg = f"{table.name} of section {name} has no counts in X; write the raw counts there."
        raise SectionError(msg)
    counts.X = counts.X.astype(np.float32)
    _name_by_symbol(counts)
    again = counts.var_names.duplicated()
    duplicates = tuple(sorted(set(map(str, counts.var_names[again]))))
    total = np.asarray(counts.X.sum(axis=1)).ravel()
    empty = int((total == 0).sum())
    if empty or duplicates:
        counts = counts[total != 0, ~again].copy()
    return MeasuredSection(name, image, table, counts, metadata, duplicates, empty)


def _name_by_symbol(counts: AnnData) -> None:
    """Use the symbols where the index has Ensembl ids and a column has the symbols."""
    if not named_by_id(counts.var_names):
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


def _is_positive(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def is_hest_id(name: str) -> bool:
    """Tell whether a section is called as those of HEST-1k are."""
    return _HEST_ID.fullmatch(name) is not None
