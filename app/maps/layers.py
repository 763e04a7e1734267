"""The names of the layers of a map, as they stand in addresses and pages.

    mean:GENE  std:GENE  q05:GENE  q95:GENE      prediction, spread, bounds of the 90 % band
    domain                                       domain distance
    score:GENE,GENE,…                            mean of the genes' z-scores over the spots
    difference:GENE:GENE                         mean of the first less mean of the second
    measured:GENE  error:GENE                    measured values; prediction less measured
    draw:GENE:NUMBER                             a single draw, from 1
    baseline:GENE                                the ridge baseline's prediction

A gene may have any character in its name (`HLA-DRB1`, `7SK`, `MT-ND1`, `A:B`); commas part the
genes of a score.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from stem_core.errors import SettingsError

__all__ = ["GENE_KINDS", "MOST_SCORE_GENES", "Layer", "parse_layer"]

GENE_KINDS = ("mean", "std", "q05", "q95", "measured", "error", "baseline")
MOST_SCORE_GENES = 2000
_SHOWN = 40
_LONGEST_SYMBOL = 100
_NUMBER = re.compile(r"[1-9][0-9]{0,3}")


@dataclass(frozen=True)
class Layer:
    """A layer of one result.

    Attributes
    ----------
    kind
        One of `GENE_KINDS`, "domain", "score", "difference" or "draw".
    genes
        The symbols it is made of, all of the panel: none for "domain", two for "difference".
    missing
        Genes of a score that the panel has not; they are left out.
    number
        Of a single draw, from 1; else 0.
    """

    kind: str
    genes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    number: int = 0


def parse_layer(text: str, panel: Mapping[str, int]) -> Layer:
    """Read the name of a layer.

    Parameters
    ----------
    text
        The name, as above.
    panel
        The result's genes, with their places.

    Raises
    ------
    SettingsError
        There is no such layer, a gene is not in the panel, or a score has too many genes or none
        of the panel.
    """
    kind, colon, rest = text.partition(":")
    if text == "domain":
        return Layer("domain")
    if kind in GENE_KINDS and colon:
        return Layer(kind, (_known(rest, panel),))
    if kind == "difference" and colon:
        return Layer(kind, _pair(rest, panel))
    if kind == "score" and colon:
        return _score(rest, panel)
    if kind == "draw" and colon:
        return _draw(rest, panel)
    msg = (
        f"There is no layer {_shown(text)}; a layer is 'domain' or one of {', '.join(GENE_KINDS)}, "
        "score, difference or draw with its genes, such as 'mean:GENE'."
    )
    raise SettingsError(msg)


def _pair(text: str, panel: Mapping[str, int]) -> tuple[str, str]:
    """Return the two genes of a difference, wherever their own names have colons."""
    parts = text.split(":")
    splits = [(":".join(parts[:at]), ":".join(parts[at:])) for at in range(1, len(parts))]
    for first, second in splits:
        if first in panel and second in panel:
            return first, second
    if len(splits) != 1:
        msg = (
            f"The difference {_shown(text)} does not name two genes; write it "
            "'difference:GENE:GENE'."
        )
        raise SettingsError(msg)
    first, second = splits[0]
    return _known(first, panel), _known(second, panel)


def _draw(text: str, panel: Mapping[str, int]) -> Layer:
    gene, _, number = text.rpartition(":")
    if not _NUMBER.fullmatch(number):
        msg = f"The single draw {_shown(text)} has no number; write it 'draw:GENE:1'."
        raise SettingsError(msg)
    return Layer("draw", (_known(gene, panel),), number=int(number))


def _score(text: str, panel: Mapping[str, int]) -> Layer:
    count = text.count(",") + 1
    if count > MOST_SCORE_GENES:
        msg = (
            f"The gene set has {count:,} genes and a score takes up to {MOST_SCORE_GENES:,}; "
            "choose a smaller set."
        )
        raise SettingsError(msg)
    genes = tuple(dict.fromkeys(text.split(",")))
    if "" in genes:
        msg = (
            "The gene set has an entry without a gene; write it 'score:GENE,GENE' with a name on "
            "both sides of each comma."
        )
        raise SettingsError(msg)
    known = tuple(gene for gene in genes if gene in panel)
    if not known:
        msg = (
            f"None of the {len(genes):,} genes of the set ({_shown(genes[0])}"
            f"{', …' if len(genes) > 1 else ''}) is among the {len(panel):,} genes of this result; "
            "choose another set."
        )
        raise SettingsError(msg)
    return Layer("score", known, tuple(gene for gene in genes if gene not in panel))


def _known(gene: str, panel: Mapping[str, int]) -> str:
    if gene in panel:
        return gene
    if not gene:
        msg = "The layer names no gene; write it with one, such as 'mean:GENE'."
        raise SettingsError(msg)
    close = _close(gene, panel)
    advice = f"did you mean {' or '.join(close)}" if close else "choose a gene of its panel"
    msg = f"This result has no gene {_shown(gene)}; {advice}{'?' if close else '.'}"
    raise SettingsError(msg)


def _close(gene: str, panel: Mapping[str, int]) -> list[str]:
    """Return up to three symbols that look like a gene's, in upper or lower case."""
    if len(gene) > _LONGEST_SYMBOL:
        return []
    by_upper = {symbol.upper(): symbol for symbol in panel}
    return [by_upper[name] for name in difflib.get_close_matches(gene.upper(), by_upper, n=3)]


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
