"""Layers of a map: which value stands at each spot, and how it is named in addresses and on pages.

    mean:GENE  std:GENE  q05:GENE  q95:GENE      prediction, spread, bounds of the 90 % band
    domain                                       domain distance
    score:GENE,GENE,…                            mean of the genes' z-scores over the spots
    difference:GENE:GENE                         mean of the first less mean of the second
    measured:GENE  error:GENE                    measured values; prediction less measured
    draw:GENE:NUMBER                             a single draw, from 1
    baseline:GENE                                the ridge baseline's prediction

A gene may have any character in its name (`HLA-DRB1`, `7SK`, `MT-ND1`, `A:B`); commas part the
genes of a score. Text becomes a `Layer` once, where it comes in.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from stem_core.constants import UNITS
from stem_core.errors import SettingsError

__all__ = ["KINDS", "MOST_SCORE_GENES", "Layer", "LayerKind", "parse_layer"]


@dataclass(frozen=True)
class LayerKind:
    """What layers of a kind have in common.

    Attributes
    ----------
    words
        In the choice of what a map shows.
    title
        Of a map; `{gene}`, `{other}`, `{genes}` and `{number}` are filled in.
    unit
        Of the values.
    around_zero
        As far below 0 as above: two colours.
    own_range
        Has a colour range of its own beside others of the unit, since it is a fraction of those.
    from_measured
        Needs the measured section.
    """

    words: str
    title: str
    unit: str = UNITS
    around_zero: bool = False
    own_range: bool = False
    from_measured: bool = False


KINDS = {
    "mean": LayerKind("Prediction (mean)", "{gene}"),
    "std": LayerKind("Spread (standard deviation)", "{gene}, spread", own_range=True),
    "q05": LayerKind("Lower bound of the 90 % band", "{gene}, lower bound"),
    "q95": LayerKind("Upper bound of the 90 % band", "{gene}, upper bound"),
    "difference": LayerKind(
        "Log2 ratio of two genes", "{gene} − {other}", "log2 ratio", around_zero=True
    ),
    "score": LayerKind("Gene set score", "Score of {genes}", "z-score", around_zero=True),
    "domain": LayerKind(
        "Domain distance (1 = edge of training)", "Domain distance", "× edge of training"
    ),
    "measured": LayerKind("Measured", "{gene}, measured", from_measured=True),
    "error": LayerKind(
        "Predicted − measured", "{gene}, predicted − measured",
        around_zero=True, own_range=True, from_measured=True,
    ),
    "draw": LayerKind("Single draw", "{gene}, draw {number}"),
    "baseline": LayerKind("Ridge baseline", "{gene}, ridge baseline"),
}  # fmt: skip
"""What a map can show, in the order of the choice."""
MOST_SCORE_GENES = 2000
_OF_ONE_GENE = ("mean", "std", "q05", "q95", "measured", "error", "baseline")
_MOST_NAMED = 3
_SHOWN = 40
_LONGEST_SYMBOL = 100
_NUMBER = re.compile(r"[1-9][0-9]{0,3}")


@dataclass(frozen=True)
class Layer:
    """A layer of one result; `str` gives its name in addresses.

    Attributes
    ----------
    kind
        One of `KINDS`, or "apart" of two runs (`app.maps.pairs`).
    genes
        The symbols it is made of, all of the panel: none for "domain", two for "difference".
    number
        Of a single draw, from 1; else 0.
    run
        "a" or "b" beside another run, else "".
    missing
        Genes of a score that the panel has not; they are left out.
    """

    kind: str
    genes: tuple[str, ...] = ()
    number: int = 0
    run: str = ""
    missing: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def of(cls, kind: str, gene: str) -> Layer:
        """Return the layer of a gene."""
        return cls(kind, (gene,))

    def __str__(self) -> str:
        """Return the name, as above."""
        genes = ("," if self.kind == "score" else ":").join(self.genes)
        number = str(self.number) if self.number else ""
        return ":".join(filter(None, (self.run, self.kind, genes, number)))

    def another(self, kind: str) -> Layer:
        """Return what is of another kind of the same genes."""
        return replace(self, kind=kind)

    def title(self, n_draws: int = 0) -> str:
        """Say what it is, for people; `n_draws` is how many single draws there are to see."""
        gene, other = (*self.genes, "", "")[:2]
        many = len(self.genes) > _MOST_NAMED
        words = KINDS[self.kind].title.format(
            gene=gene,
            other=other,
            number=self.number,
            genes=f"{len(self.genes)} genes" if many else ", ".join(self.genes),
        )
        return f"{words} of {n_draws}" if self.kind == "draw" and n_draws else words

    @property
    def unit(self) -> str:
        """Unit of the values."""
        return KINDS[self.kind].unit

    @property
    def from_measured(self) -> bool:
        """Whether it needs the measured section, and so changes with it."""
        return self.kind in KINDS and KINDS[self.kind].from_measured


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
    if kind in _OF_ONE_GENE and colon:
        return Layer.of(kind, _known(rest, panel))
    if kind == "difference" and colon:
        return Layer(kind, _pair(rest, panel))
    if kind == "score" and colon:
        return _score(rest, panel)
    if kind == "draw" and colon:
        return _draw(rest, panel)
    msg = (
        f"There is no layer {_shown(text)}; a layer is 'domain' or one of "
        f"{', '.join(_OF_ONE_GENE)}, score, difference or draw with its genes, such as 'mean:GENE'."
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
    return Layer("score", known, missing=tuple(gene for gene in genes if gene not in panel))


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
