"""Lists of genes that people paste or load, matched to a panel, and search among its genes."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stem_core.analysis.spatial import correlated_genes, morans_i, neighbour_weights
from stem_core.analysis.variogram import median_pitch
from stem_core.errors import SettingsError

__all__ = [
    "MAX_GENES",
    "MAX_SETS",
    "GeneSet",
    "Match",
    "gene_figure",
    "gene_key",
    "is_ensembl_id",
    "match_genes",
    "ranked_genes",
    "read_gene_list",
    "read_gmt",
    "search_genes",
]

MAX_GENES = 50_000
MAX_SETS = 10_000

_SEPARATORS = re.compile(r"[\s,;]+")
_QUOTES = "\"'\u201c\u201d\u2018\u2019`"
_ENSEMBL = re.compile(r"(ENS[A-Z]*G\d{6,})(\.\d+)?", re.IGNORECASE)
_CLOSE = 0.6  # share of letters in common from which a name counts as close


@dataclass(frozen=True)
class GeneSet:
    """A named list of genes, as it was written, each once; `description` may be empty."""

    name: str
    genes: tuple[str, ...]
    description: str = ""


@dataclass(frozen=True)
class Match:
    """What a panel has of a list.

    Attributes
    ----------
    columns
        Columns of the panel, in the order of the list, each once.
    symbols
        Their symbols.
    missing
        Names that the panel lacks, as they were written.
    """

    columns: tuple[int, ...]
    symbols: tuple[str, ...]
    missing: tuple[str, ...]

    def sentence(self) -> str:
        """Say how many were found and which were not (the first ten)."""
        wanted = len(self.symbols) + len(self.missing)
        text = f"{len(self.symbols)} of {wanted} genes are in the panel"
        if self.missing:
            more = len(self.missing) - 10
            text += "; not in it: " + ", ".join(self.missing[:10])
            text += f" and {more:,} more" if more > 0 else ""
        return text + "."


def read_gene_list(text: str) -> tuple[str, ...]:
    """Read names separated by spaces, tabs, line ends, commas or semicolons.

    Quotes around a name are taken off. Of names that differ only in case the first is kept.

    Raises
    ------
    SettingsError
        No name, or more than 50,000.
    """
    names = [name.strip(_QUOTES) for name in _SEPARATORS.split(text.removeprefix("\ufeff"))]
    genes = _each_once([name for name in names if name])
    if not genes:
        msg = "The list holds no gene; give symbols or Ensembl ids, separated by spaces or commas."
        raise SettingsError(msg)
    if len(genes) > MAX_GENES:
        msg = (
            f"The list holds {len(genes):,} genes, and at most {MAX_GENES:,} are read; "
            "give a shorter one."
        )
        raise SettingsError(msg)
    return genes


def read_gmt(text: str, source: str = "The file") -> tuple[GeneSet, ...]:
    """Read gene sets in GMT: each line a name, a description and genes, separated by tabs.

    The format is that of the GSEA documentation. Empty lines are passed over.

    Parameters
    ----------
    text
        The file's content.
    source
        What errors call the file.

    Raises
    ------
    SettingsError
        A line without name or genes (it is named), a name that repeats, no set, more than 10,000
        sets, or more than 50,000 genes in one.
    """
    sets: dict[str, GeneSet] = {}
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        if not line.strip():
            continue
        cells = [cell.strip().strip(_QUOTES) for cell in line.split("\t")]
        genes = _each_once([cell for cell in cells[2:] if cell])
        if len(cells) < 3 or not cells[0] or not genes:
            msg = (
                f"{source} is not GMT in line {number} ({_shown(line)}): a line is a name, a "
                "description and genes, separated by tabs; correct or remove it."
            )
            raise SettingsError(msg)
        if cells[0] in sets:
            msg = (
                f"{source} names the set {_shown(cells[0])} again in line {number}; "
                "give every set a name of its own."
            )
            raise SettingsError(msg)
        if len(genes) > MAX_GENES:
            msg = (
                f"{source} has {len(genes):,} genes in line {number} ({_shown(cells[0])}), and at "
                f"most {MAX_GENES:,} are read; shorten that set."
            )
            raise SettingsError(msg)
        if len(sets) == MAX_SETS:
            msg = f"{source} has more than {MAX_SETS:,} gene sets; give a part of it."
            raise SettingsError(msg)
        sets[cells[0]] = GeneSet(cells[0], genes, cells[1])
    if not sets:
        msg = f"{source} holds no gene set; give a GMT file, one set in each line."
        raise SettingsError(msg)
    return tuple(sets.values())


def match_genes(genes: Sequence[str], symbols: Sequence[str], ensembl: Sequence[str]) -> Match:
    """Find the genes of a list in a panel.

    By symbol, or by Ensembl id with or without version, in any case of letters; a symbol that is
    written exactly so goes before one that differs in case.

    Parameters
    ----------
    genes
        Names as they were given.
    symbols, ensembl
        The panel's G symbols and Ensembl ids (empty where unknown).
    """
    places: dict[str, int] = {}
    for column, (symbol, accession) in enumerate(zip(symbols, ensembl, strict=True)):
        places.setdefault(gene_key(symbol), column)
        if accession:
            places.setdefault(gene_key(accession), column)
    exact = {symbol: column for column, symbol in reversed(list(enumerate(symbols)))}
    found: dict[int, None] = {}
    missing: list[str] = []
    for gene in genes:
        place = exact[gene] if gene in exact else places.get(gene_key(gene))
        if place is None:
            missing.append(gene)
        else:
            found[place] = None
    return Match(tuple(found), tuple(symbols[column] for column in found), tuple(missing))


def search_genes(
    query: str, symbols: Sequence[str], ensembl: Sequence[str], limit: int = 20
) -> list[int]:
    """Search a panel as one types.

    Parameters
    ----------
    query
        A part of a symbol or of an Ensembl id, in any case; misspellings are forgiven.
    symbols, ensembl
        The panel's G symbols and Ensembl ids (empty where unknown).
    limit
        Most results.

    Returns
    -------
    list of int
        Columns of the panel: those named exactly so first, then those that begin so, those that
        contain it, and those that are close; within each the shorter symbol first, close ones by
        how close they are. An empty query gives the panel's first genes.
    """
    wanted = gene_key(query.strip())
    if not wanted:
        return list(range(min(limit, len(symbols))))
    keys = _keys(tuple(symbols), tuple(ensembl))
    ranked: list[tuple[int, float, str, int]] = []
    for column, (name, accession) in enumerate(keys):
        if wanted in (name, accession):
            rank = 0
        elif name.startswith(wanted) or accession.startswith(wanted):
            rank = 1
        elif wanted in name or wanted in accession:
            rank = 2
        else:
            continue
        ranked.append((rank, len(name), name, column))
    if len(ranked) < limit and len(wanted) > 1:
        ranked += _close(wanted, keys, {entry[3] for entry in ranked})
    return [column for *_, column in sorted(ranked)[:limit]]


@lru_cache(maxsize=8)
def _keys(symbols: tuple[str, ...], ensembl: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return what genes are found by, symbol and id; a panel is searched again and again."""
    return [(gene_key(s), gene_key(e)) for s, e in zip(symbols, ensembl, strict=True)]


def _close(
    wanted: str, keys: list[tuple[str, str]], known: set[int]
) -> list[tuple[int, float, str, int]]:
    """Symbols that share most letters with what was typed, in order."""
    matcher = difflib.SequenceMatcher(autojunk=False)
    matcher.set_seq2(wanted)
    letters = set(wanted)
    out = []
    for column, (name, _) in enumerate(keys):
        longest = _CLOSE * (len(name) + len(wanted))
        if column in known or 2 * min(len(name), len(wanted)) < longest:
            continue
        if 2 * sum(letter in letters for letter in name) < longest:
            continue
        matcher.set_seq1(name)
        # upper bounds first: they are cheap and rule most symbols out
        if matcher.quick_ratio() < _CLOSE:
            continue
        likeness = matcher.ratio()
        if likeness >= _CLOSE:
            out.append((3, -likeness, name, column))
    return out


def is_ensembl_id(name: str) -> bool:
    """Tell whether a name is written as the Ensembl id of a gene, with or without version."""
    return _ENSEMBL.fullmatch(name.strip()) is not None


def gene_key(name: str) -> str:
    """Return what names are compared by: no case, and Ensembl ids without their version."""
    accession = _ENSEMBL.fullmatch(name)
    return (accession[1] if accession else name).casefold()


def _each_once(names: list[str]) -> tuple[str, ...]:
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(name.casefold(), name)
    return tuple(first.values())


def _shown(text: str) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= 40 else text[:39] + "…")


Floats = NDArray[np.float64]


def gene_figure(
    kind: str,
    values: NDArray[np.floating[Any]],
    x_um: Floats,
    y_um: Floats,
    column: int = 0,
) -> Floats:
    """Return a figure of every gene.

    Parameters
    ----------
    kind
        `variance`: over spots, in the square of the values' unit, with N - 1 below; `structure`:
        Moran's I over neighbouring spots; `correlation`: Pearson's, with the gene of a column.
    values
        (N,G).
    x_um, y_um
        Positions of the spots, (N,), in microns.
    column
        The gene that others are correlated with.

    Returns
    -------
    float64 array, shape (G,)
        NaN where a gene has no such figure, as a constant one has no correlation.

    Raises
    ------
    ValueError
        There is no figure of that kind.
    """
    if kind == "variance":
        if len(values) < 2:
            return np.full(values.shape[1], np.nan)
        found: Floats = values.var(axis=0, ddof=1, dtype=np.float64)
        return found
    if kind == "structure":
        # The distance that the spots have, not the one a file says: a wrong one joins all to all.
        return morans_i(values, neighbour_weights(x_um, y_um, median_pitch(x_um, y_um)))
    if kind == "correlation":
        return correlated_genes(values, column)
    msg = f"There is no figure {kind!r} of a gene; it is variance, structure or correlation."
    raise ValueError(msg)


def ranked_genes(
    symbols: Sequence[str], figures: Floats, *, lowest_first: bool = False
) -> pd.Series:
    """Return the genes in the order of a figure; those without one are left out.

    Parameters
    ----------
    symbols
        The G genes.
    figures
        (G,).
    lowest_first
        Else the highest comes first. Genes of one figure stay in the order given.

    Returns
    -------
    Series
        Figures by symbol.
    """
    found = pd.Series(figures, index=list(symbols), dtype=np.float64).dropna()
    found.index.name = "gene"
    return found.sort_values(ascending=lowest_first, kind="stable")
