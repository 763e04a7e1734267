"""Bring a measured section into the order of a prediction, and doubt whether it is the same."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse
from scipy.spatial import cKDTree

from stem_core.analysis.gene_sets import gene_key
from stem_core.analysis.variogram import Floats
from stem_core.errors import EvaluationError
from stem_core.notebook import record_repr
from stem_core.prediction.result import Prediction

__all__ = [
    "ImageSize",
    "Measured",
    "MeasuredTable",
    "are_counts",
    "doubts_of",
    "match_measured",
    "refuse_other_image",
    "section_name",
]

_HUMAN = re.compile(r"(?:[A-Z0-9]+[-.])*[A-Z][A-Z0-9]{2,}")
_MOUSE = re.compile(r"[A-Z][a-z0-9]*[a-z][a-z0-9]*")
_SPECIES = re.compile(r"(ENS[A-Z]*?)G\d{6,}")
_FRACTIONS = 0.01  # share of values that may be no whole numbers before they are not counts


@dataclass(frozen=True)
class Measured:
    """Measured expression in the order of a prediction's spots and genes.

    Attributes
    ----------
    values
        float32 (N,G), log2(1 + raw count); NaN for spots and genes that were not measured.
    spots, genes
        bool (N,) and (G,): those that were measured.
    matched_by
        "name" or "position".
    n_measured
        Spots of the measured section, matched or not.
    apart_px
        Median distance of the spots that share a name, level-0 pixels; 0 where spots are matched by
        position or positions are not known.
    name
        What the section is called, as far as its file tells; "" else.
    doubts
        Sentences on what speaks against the two being one section.
    """

    values: NDArray[np.float32]
    spots: NDArray[np.bool_]
    genes: NDArray[np.bool_]
    matched_by: str
    n_measured: int = 0
    apart_px: float = 0.0
    name: str = ""
    doubts: tuple[str, ...] = ()

    __repr__ = record_repr


@dataclass(frozen=True)
class MeasuredTable:
    """Counts as a file has them: M spots and H genes, in its own order.

    Attributes
    ----------
    ids
        Names of the M spots.
    genes
        Symbols of the H genes.
    counts
        Raw counts (M,H), dense or sparse.
    accessions
        Ensembl ids of the genes, where they are known.
    x_px, y_px
        Level-0 pixels of the spots, (M,), where they are known.
    """

    ids: Sequence[str]
    genes: Sequence[str]
    counts: NDArray[Any] | csr_array
    accessions: Sequence[str] | None = None
    x_px: Floats | None = None
    y_px: Floats | None = None


def match_measured(
    prediction: Prediction, measured: MeasuredTable, source: str = "The measured section"
) -> Measured:
    """Bring a measured section into the order of a prediction.

    Spots are matched by name if at least half of the measured or of the predicted ones share one
    and, where positions are known, lie in the same place: the barcodes of Visium and the names of
    older arrays are the same on every section. Else they are matched by position: the nearest
    measured spot within half a pitch, each used once. Genes are matched by symbol or Ensembl id; of
    a gene that the section names twice the first counts.

    Parameters
    ----------
    prediction
        Of the same slide.
    measured
        Counts of the section.
    source
        What errors call the section.

    Raises
    ------
    EvaluationError
        Fewer than half of the spots match, no gene is shared, the genes are of another species, or
        the counts are none.
    """
    found, way, apart_px = _match_spots(prediction, measured, source)
    gene_names = measured.genes
    accessions = [""] * len(gene_names) if measured.accessions is None else measured.accessions
    columns = _match_columns(prediction, gene_names, accessions)
    if not (columns >= 0).any():
        msg = (
            f"{source} and the prediction have no gene in common; check that both are one species "
            "and that genes are named by symbol or Ensembl id."
        )
        raise EvaluationError(msg)
    if _other_species(prediction, gene_names, accessions, columns):
        msg = (
            f"{source} names its genes as another species than the prediction does "
            f"({_pair(prediction, gene_names, columns)}); give the measured section of this slide."
        )
        raise EvaluationError(msg)
    spots, genes = found >= 0, columns >= 0
    # rows first: slices of a compressed table are cheap that way round
    counts = measured.counts
    table: Any = csr_array(counts) if issparse(counts) else np.asarray(counts)
    table = table[found[spots]][:, columns[genes]]
    dense = np.asarray(table.toarray() if issparse(table) else table, dtype=np.float64)
    if not np.isfinite(dense).all() or (dense < 0).any():
        msg = (
            f"{source} holds values below 0 or not finite, so they are not counts; give raw counts."
        )
        raise EvaluationError(msg)
    if not are_counts(dense):
        msg = (
            f"{source} holds values that are not whole numbers, so they were normalised or "
            "transformed; give raw counts, in X or in layers['counts']."
        )
        raise EvaluationError(msg)
    values = np.full(prediction.mean.shape, np.nan, dtype=np.float32)
    values[np.ix_(spots, genes)] = np.log2(1 + dense)
    return Measured(values, spots, genes, way, len(measured.ids), apart_px)


def section_name(file_name: str) -> str:
    """Return the name of a section without the suffix of its file, and without `.ome` before it."""
    return re.sub(r"(\.ome)?\.[^.\s]+$", "", file_name, flags=re.IGNORECASE)


def are_counts(values: NDArray[Any]) -> bool:
    """Whether values can be raw counts: finite, not below 0, and whole but for 1 in 100."""
    some = np.asarray(values)
    if some.dtype.kind in "iub":
        return bool((some >= 0).all())
    if some.dtype.kind != "f" or not np.isfinite(some).all() or (some < 0).any():
        return False
    present = some[some > 0]
    whole = np.abs(present - np.rint(present)) < 1e-3
    return not len(present) or float(1 - whole.mean()) <= _FRACTIONS


def _other_species(
    prediction: Prediction,
    names: Sequence[str],
    accessions: Sequence[str],
    columns: NDArray[np.int64],
) -> bool:
    """Whether genes were only found because case was not looked at: Gnas is not GNAS."""
    found = [(place, column) for place, column in enumerate(columns.tolist()) if column >= 0]
    same = other = 0
    for place, column in found:
        ours, theirs = prediction.symbols[place], names[column]
        one, two = (
            _SPECIES.match(text) for text in (prediction.ensembl[place], accessions[column])
        )
        if one and two:
            same, other = same + (one[1] == two[1]), other + (one[1] != two[1])
        elif ours == theirs:
            same += 1
        else:
            kinds = {_HUMAN: _MOUSE, _MOUSE: _HUMAN}
            other += any(a.fullmatch(ours) and b.fullmatch(theirs) for a, b in kinds.items())
    return other > same


def _pair(prediction: Prediction, names: Sequence[str], columns: NDArray[np.int64]) -> str:
    """Name a gene as both have it."""
    place = next(
        (i for i, c in enumerate(columns) if c >= 0 and prediction.symbols[i] != names[c]),
        int(np.argmax(columns >= 0)),
    )
    return f"{names[columns[place]]}, {prediction.symbols[place]}"


def _match_spots(
    prediction: Prediction, measured: MeasuredTable, source: str
) -> tuple[NDArray[np.int64], str, float]:
    """Row of the measured section for every predicted spot, -1 for none; how, and how far off."""
    ids, x_px, y_px = measured.ids, measured.x_px, measured.y_px
    spots = prediction.spots
    fewer = min(len(spots), len(ids))
    rows: dict[str, int] = {}
    for row, name in enumerate(ids):
        rows.setdefault(name, row)
    by_name = np.array([rows.get(name, -1) for name in spots.ids], dtype=np.int64)
    shared = int((by_name >= 0).sum())
    pitch_um = spots.diameter_um if spots.pitch_um is None else spots.pitch_um
    pitch_px = pitch_um / prediction.mpp
    off_px = _distance(prediction, by_name, x_px, y_px)
    named = fewer > 0 and shared >= fewer / 2
    if named and off_px <= pitch_px / 2:
        return by_name, "name", off_px
    number = shared
    if x_px is not None and y_px is not None and len(x_px):
        by_place = _nearest(spots.x_px, spots.y_px, x_px, y_px, pitch_px / 2)
        number = int((by_place >= 0).sum())
        if number >= fewer / 2:
            return by_place, "position", 0.0
        near = int((_nearest(spots.x_px, spots.y_px, x_px, y_px, pitch_px) >= 0).sum())
        if near >= fewer / 2 and not named:
            msg = (
                f"{source} shares {number:,} of {fewer:,} spots with the prediction: most lie "
                "between the predicted ones, farther than half a pitch from any; if it is this "
                "section, predict at its measured spots (give the file as the spots)."
            )
            raise EvaluationError(msg)
    if named:
        msg = (
            f"{source} names its spots as the prediction does, but they lie elsewhere, half of "
            f"them more than {off_px:,.0f} px off; is it another section? If it is this one, give "
            "positions in level-0 pixels of this slide, or none."
        )
        raise EvaluationError(msg)
    msg = (
        f"{source} and the prediction share {number:,} of {fewer:,} spots, by name or within half "
        "a pitch; is it another section? If it is this one, predict at its measured spots (give "
        "the file as the spots)."
    )
    raise EvaluationError(msg)


def _distance(
    prediction: Prediction, rows: NDArray[np.int64], x_px: Floats | None, y_px: Floats | None
) -> float:
    """Median distance of the spots that share a name, pixels; 0 where it cannot be told."""
    there = rows >= 0
    if x_px is None or y_px is None or not there.any():
        return 0.0
    spots = prediction.spots
    off = np.hypot(spots.x_px[there] - x_px[rows[there]], spots.y_px[there] - y_px[rows[there]])
    return float(np.median(off))


def _nearest(
    x: Floats, y: Floats, other_x: Floats, other_y: Floats, reach: float
) -> NDArray[np.int64]:
    """Nearest other point of each point within reach, each used once by its nearest; else -1."""
    tree = cKDTree(np.column_stack([other_x, other_y]))
    distance, index = tree.query(np.column_stack([x, y]), distance_upper_bound=reach)
    out = np.full(len(x), -1, dtype=np.int64)
    order = np.argsort(distance, kind="stable")
    order = order[np.isfinite(distance[order])]
    taken, first = np.unique(index[order], return_index=True)
    out[order[first]] = taken
    return out


def _match_columns(
    prediction: Prediction, names: Sequence[str], accessions: Sequence[str]
) -> NDArray[np.int64]:
    """Column of the measured section for every predicted gene, -1 for none."""
    exact: dict[str, int] = {}
    places: dict[str, int] = {}
    for column, (name, accession) in enumerate(zip(names, accessions, strict=True)):
        exact.setdefault(name, column)
        for known in filter(None, (name, accession)):
            places.setdefault(gene_key(known), column)
    out = []
    for symbol, accession in zip(prediction.symbols, prediction.ensembl, strict=True):
        found = exact.get(symbol)
        if found is None:
            found = places.get(gene_key(symbol))
        if found is None and accession:
            found = places.get(gene_key(accession))
        out.append(-1 if found is None else found)
    return np.array(out, dtype=np.int64)


_SIZE_SLACK = 0.01  # of an image's side: one that differs by more is another image
_APART_PX = 2.0  # positions written as whole numbers are off by less
_MANY_ALONE = 0.1  # of the spots of either side


@dataclass(frozen=True)
class ImageSize:
    """Width and height of an image.

    Attributes
    ----------
    size_px
        float64 (2,), level-0 pixels.
    rounding_px
        How much a side may be off, as it was worked out from a small picture.
    """

    size_px: Floats
    rounding_px: float

    def __str__(self) -> str:
        """Write it for people."""
        return f"{self.size_px[0]:,.0f} × {self.size_px[1]:,.0f} px"


def refuse_other_image(image: ImageSize, prediction: Prediction, source: str) -> None:
    """Refuse a section that was measured on an image of another size than the slide.

    Raises
    ------
    EvaluationError
        A side differs by more than 1 % and what rounding explains; `source` is what the error calls
        the section.
    """
    slide = _image_of(prediction)
    off_px, rounding_px = _off_px(image, slide)
    if (off_px > _SIZE_SLACK * slide.size_px + rounding_px).any():
        msg = (
            f"{source} was measured on an image of about {image}, and this slide has {slide}; is "
            "it another section? If it is this one, give positions in level-0 pixels of this "
            "slide, and leave the picture out."
        )
        raise EvaluationError(msg)


def doubts_of(
    prediction: Prediction, measured: Measured, image: ImageSize | None
) -> tuple[str, ...]:
    """Say what speaks against a prediction and its measurement being of one section.

    Parameters
    ----------
    prediction, measured
        Brought together by `stem_core.analysis.matching.match_measured`.
    image
        That the section was measured on, where its file tells.

    Returns
    -------
    tuple of str
        Sentences: one on names, images and places, and one on spots that only one of the two has.
    """
    facts, found = [], []
    ours = section_name(prediction.slide_name)
    one, other = (set(re.findall(r"[^\W_]+", name.casefold())) for name in (measured.name, ours))
    if measured.name and not (one <= other or other <= one):  # C5_counts is C5
        facts.append(f"the measured file is called {measured.name}, the slide {ours}")
    if image is not None:
        slide = _image_of(prediction)
        off_px, rounding_px = _off_px(image, slide)
        if (off_px > rounding_px).any():
            facts.append(f"the measured image has about {image}, the slide {slide}")
    if measured.apart_px > _APART_PX:
        facts.append(f"spots of one name lie {measured.apart_px:,.0f} px apart (median)")
    if facts:
        text = "; ".join(facts)
        found.append(f"{text[0].upper()}{text[1:]}: make sure that they are one section.")
    n, m, both = len(measured.spots), measured.n_measured, int(measured.spots.sum())
    if n - both > _MANY_ALONE * n or m - both > _MANY_ALONE * m:
        found.append(
            f"{n - both:,} of {n:,} predicted spots were not measured and {m - both:,} of {m:,} "
            "measured ones not predicted: they are left out."
        )
    return tuple(found)


def _off_px(image: ImageSize, slide: ImageSize) -> tuple[Floats, float]:
    """How much the sides of two images differ, and how much they may by rounding, pixels."""
    return np.abs(image.size_px - slide.size_px), image.rounding_px + slide.rounding_px


def _image_of(prediction: Prediction) -> ImageSize:
    recorded = prediction.run.get("slide")
    if isinstance(recorded, dict) and {"width_px", "height_px"} <= recorded.keys():
        sides = recorded["width_px"], recorded["height_px"]
        return ImageSize(np.array(sides, dtype=np.float64), 0.0)
    shown_px = np.array(prediction.thumbnail.shape[1::-1])
    return ImageSize(shown_px / prediction.thumbnail_scale, 2 / prediction.thumbnail_scale)
