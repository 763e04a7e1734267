"""Check that a measured section is what training needs, before hours are spent on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stem_core.errors import SectionError
from stem_core.training.hest import (
    SYMBOLS_NEEDED,
    MeasuredSection,
    named_by_id,
    open_section,
    section_spots,
)

__all__ = ["SectionFacts", "check_section"]

_TOLERANCE = 0.05
_ANY_DIAMETER_UM = 55.0
_MOST_EMPTY = 0.5


@dataclass(frozen=True)
class SectionFacts:
    """What a section is, once it has passed.

    Attributes
    ----------
    name, patient
        Of the section; the patient is "" where it is not known.
    spots, genes
        Spots with counts, and genes.
    mpp
        Microns per level-0 pixel.
    pitch_um, expected_pitch_um
        Distance between neighbouring spots on the image (None for a single spot), and what metadata
        or platform say (None where they do not), microns.
    duplicates
        Symbols that the file names more than once.
    empty_spots
        Spots without any count, which are left out.
    gene_id
        One of its genes where they are named by Ensembl id, which no panel takes; else "".
    """

    name: str
    patient: str
    spots: int
    genes: int
    mpp: float
    pitch_um: float | None
    expected_pitch_um: float | None
    duplicates: tuple[str, ...]
    empty_spots: int
    gene_id: str = ""

    def sentence(self) -> str:
        """Say it in a line."""
        pitch = "distance between spots not known"
        if self.pitch_um is not None:
            pitch = f"{self.pitch_um:.0f} µm between spots"
        if self.expected_pitch_um is not None:
            pitch += f" ({self.expected_pitch_um:.0f} expected)"
        words = [
            f"{self.name}: patient {self.patient or 'not known'}, {self.spots:,} spots, "
            f"{self.genes:,} genes",
            f"{self.mpp:.4g} µm/px",
            pitch,
        ]
        if self.duplicates:
            shown = ", ".join(self.duplicates[:3])
            words.append(f"{len(self.duplicates)} symbols named twice ({shown}…), the first counts")
        if self.empty_spots:
            words.append(f"{self.empty_spots:,} spots without counts left out")
        if self.gene_id:
            words.append(f"genes are named by Ensembl id ({self.gene_id}, …): {SYMBOLS_NEEDED}")
        return "; ".join(words)


def check_section(section: MeasuredSection, expected_pitch_um: float | None = None) -> SectionFacts:
    """Check counts, positions and scale of a section.

    Parameters
    ----------
    section
        As read.
    expected_pitch_um
        Distance between spots where the metadata do not say it, from the recipe's layout.

    Raises
    ------
    SectionError
        The counts are not raw, more than half of the spots are empty, or the microns per pixel
        disagree with the distance between spots by more than 5 %.
    SpotsError
        Spots lie outside the image.
    SlideError
        The image cannot be opened, or its microns per pixel are not known.
    """
    _check_counts(section)
    with open_section(section) as slide:
        mpp = slide.require_mpp()
        spots = section_spots(section, slide, _ANY_DIAMETER_UM)
        pitch_um = spots.pitch_um
    genes = section.counts.var_names
    expected = section.pitch_um if section.pitch_um is not None else expected_pitch_um
    if expected is not None and pitch_um is not None and abs(pitch_um / expected - 1) > _TOLERANCE:
        msg = (
            f"The spots of section {section.name} lie {pitch_um:.0f} µm apart by its image's "
            f"{mpp:.4g} µm per pixel, and its platform's lie {expected:.0f} µm apart: the two "
            f"disagree by more than {_TOLERANCE:.0%}. Correct the microns per pixel of "
            f"{section.image.name}, or use the image that the positions belong to."
        )
        raise SectionError(msg)
    return SectionFacts(
        section.name, section.patient, section.counts.n_obs, section.counts.n_vars, mpp, pitch_um,
        expected, section.duplicates, section.empty_spots,
        str(genes[0]) if named_by_id(genes) else "",
    )  # fmt: skip


def _check_counts(section: MeasuredSection) -> None:
    """Refuse anything but raw counts: what a logarithm or a scaling did cannot be undone."""
    x = section.counts.X
    values = np.asarray(x.data if hasattr(x, "tocsr") else x).ravel()
    if not np.isfinite(values).all():
        wrong = f"{int((~np.isfinite(values)).sum()):,} values that are not finite"
    elif (values < 0).any():
        wrong = f"negative values (down to {values.min():.3g})"
    elif (values != np.round(values)).any():
        fraction = values[values != np.round(values)][0]
        wrong = f"values that are not whole numbers (such as {fraction:.4g})"
    else:
        wrong = ""
    if wrong:
        msg = (
            f"The counts of section {section.name} have {wrong}; training needs raw counts in X, "
            "neither normalised nor log-transformed."
        )
        raise SectionError(msg)
    total = section.counts.n_obs + section.empty_spots
    if section.empty_spots > _MOST_EMPTY * total:
        msg = (
            f"{section.empty_spots:,} of the {total:,} spots of section {section.name} have no "
            "count at all; give the counts of the spots under the tissue."
        )
        raise SectionError(msg)
