"""How far the numbers can be trusted: a badge for each gene, a line for the model and the slide.

A held-out PCC counts as good from 0.5 on and as fair from 0.3 on; badges say so in words, and their
colour only repeats it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from app.components.gene_choice import gene_number
from app.components.wording import band_words, count, plain
from app.maps.panels import Badge
from app.spots import domain_words
from stem_core.constants import NOTICE
from stem_core.model.manifest import Manifest
from stem_core.prediction.result import Prediction

__all__ = [
    "FAIR_PCC",
    "GOOD_PCC",
    "SIGNS",
    "GeneTrust",
    "gene_row",
    "gene_trust",
    "offer_model_details",
    "show_domain",
    "show_model",
    "trust_badge",
    "trust_of",
]

Level = Literal["good", "fair", "weak", "unknown"]
GOOD_PCC, FAIR_PCC = 0.5, 0.3
SIGNS: dict[Level, str] = {"good": "●", "fair": "◐", "weak": "○", "unknown": "◌"}
"""A sign for each level, since colour alone does not reach everyone."""
_MEANING = (
    "PCC: correlation of prediction and measurement over the spots of a section that the model had "
    f"not seen; good from {GOOD_PCC} on, fair from {FAIR_PCC} on. RVD: how far the variance of the "
    "prediction is from the measured one; 0 is best."
)


@dataclass(frozen=True)
class GeneTrust:
    """How well a gene, or several that make one value, were predicted on held-out sections.

    Attributes
    ----------
    level
        `good`, `fair`, `weak`, or `unknown`.
    short
        In a few words, such as "good: held-out PCC 0.62 (0.55–0.68)".
    words
        The same with folds and RVD.
    pcc
        Held-out PCC, mean of the folds; NaN where it is not known.
    """

    level: Level
    short: str
    words: str
    pcc: float = math.nan

    @property
    def mark(self) -> str:
        """Return the level for a narrow column: a sign and a word."""
        return f"{SIGNS[self.level]} {self.level if self.level != 'unknown' else '?'}"


def gene_row(prediction: Prediction, gene: str) -> dict[Any, Any]:
    """Return a gene's row of genes.csv; empty where there is none."""
    table = prediction.gene_table
    return dict(table.loc[gene].to_dict()) if gene in table.index else {}


def gene_trust(row: dict[Any, Any]) -> GeneTrust:
    """Return how well a gene was predicted, from its row of genes.csv."""
    pcc, rvd = gene_number(row, "held_out_pcc"), gene_number(row, "held_out_rvd")
    rvd_words = f" RVD {rvd:.2f}." if math.isfinite(rvd) else ""
    if not math.isfinite(pcc):
        words = "How well this gene is predicted is not known: it was in no held-out section."
        return GeneTrust("unknown", "not known how well", words + rvd_words)
    level = _level(pcc)
    short = f"{level}: held-out PCC {pcc:.2f}"
    low, high = gene_number(row, "held_out_pcc_low"), gene_number(row, "held_out_pcc_high")
    folds, over = gene_number(row, "held_out_folds"), ""
    if folds > 1 and math.isfinite(low) and math.isfinite(high):
        over = f", {low:.2f}–{high:.2f} over {folds:.0f} folds"
    elif folds == 1:
        over = " on one held-out section"
    words = f"{level.capitalize()}: held-out PCC {pcc:.2f}{over}.{rvd_words}"
    return GeneTrust(level, short + (f" ({low:.2f}–{high:.2f})" if folds > 1 else ""), words, pcc)


def trust_of(prediction: Prediction, genes: Sequence[str]) -> GeneTrust | None:
    """Return how well the genes of one map were predicted; None for a map of no gene.

    Of two genes the weaker one counts, of more the median.
    """
    trusts = [gene_trust(gene_row(prediction, gene)) for gene in genes]
    if len(trusts) <= 1:
        return trusts[0] if trusts else None
    known = [trust.pcc for trust in trusts if math.isfinite(trust.pcc)]
    if not known or (len(trusts) == 2 and len(known) == 1):
        words = f"How well these {len(genes)} genes are predicted is not known of all."
        return GeneTrust("unknown", "not known how well", words)
    pair = len(trusts) == 2
    pcc = min(known) if pair else float(np.median(known))
    level, what = _level(pcc), "the weaker" if pair else "median"
    short = f"{level}: held-out PCC {what} {pcc:.2f}"
    words = f"{level.capitalize()}: held-out PCC of its {len(genes)} genes, {what} {pcc:.2f}"
    if len(known) < len(genes):
        words += f", known for {len(known)}"
    return GeneTrust(level, short, words + ".", pcc)


def trust_badge(
    prediction: Prediction, genes: Sequence[str], manifest: Manifest | None
) -> Badge | None:
    """Return the badge of a map of these genes; hovering shows the protocol."""
    trust = trust_of(prediction, genes)
    if trust is None:
        return None
    protocol = "The model is not installed any more, so how it was tested is not known."
    if manifest is not None:
        protocol = f"{manifest.held_out.protocol} {manifest.held_out.note}"
    return Badge(
        trust.level, f"{SIGNS[trust.level]} {trust.short}", (trust.words, protocol, _MEANING)
    )


def show_model(manifest: Manifest | None, name: str) -> None:
    """Say in one line what the model was trained and tested on."""
    if manifest is None:
        st.caption(
            f"The model {plain(name)} is not installed any more, so nothing here tells what it was "
            f"trained and tested on. {NOTICE}"
        )
        return
    st.caption(f":material/school: {_trained_words(manifest)} {NOTICE}")


def offer_model_details(manifest: Manifest) -> None:
    """Show the button behind which stand sections, protocol and licences of a model."""
    held = manifest.held_out
    with st.popover("How it was tested", icon=":material/fact_check:", type="tertiary"):
        sections = ", ".join(fold.held_out for fold in held.folds) or "none by this program"
        st.markdown(
            f"**Trained on** {plain(', '.join(manifest.training_slides) or 'not stated')}  \n"
            f"**Held-out sections** {plain(sections)}  \n"
            f"**PCC over the panel** {plain(held.summary)}  \n"
            f"**Protocol** {plain(held.protocol)}  \n{plain(held.note)}  \n"
            f"**Licences** weights {plain(manifest.licences.weights)}; training data "
            f"{plain(manifest.licences.data)}"
        )
        st.caption(band_words(manifest))


def show_domain(domain: NDArray[np.float32] | None) -> None:
    """Say how far the slide is from the training tissue; a warning where much of it is far.

    `domain` is the distance of each spot, (N,).
    """
    words, far = domain_words(domain)
    if far:
        st.warning(words, icon=":material/warning:")
    else:
        st.caption(words)


def _trained_words(manifest: Manifest) -> str:
    held = manifest.held_out
    trained = "Trained on " + plain(f"{manifest.tissue}, {manifest.species}, {manifest.platform}")
    if manifest.training_slides:
        trained += f": {count(len(manifest.training_slides), 'section')}"
    if not held.folds:
        return f"{trained}; not tested with this program."
    spots = sum(fold.n_spots for fold in held.folds)
    return (
        f"{trained}; tested on {count(len(held.folds), 'held-out section')} "
        f"({count(spots, 'spot')}), one left out at a time: PCC {held.summary} over the panel."
    )


def _level(pcc: float) -> Level:
    return "good" if pcc >= GOOD_PCC else "fair" if pcc >= FAIR_PCC else "weak"
