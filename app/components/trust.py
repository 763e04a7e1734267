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
from app.components.wording import NOTICE, band_words, count, plain
from stem_core.prediction.result import Prediction
from zoo.manifest import Manifest

__all__ = [
    "FAIR_PCC",
    "GOOD_PCC",
    "GeneTrust",
    "gene_trust",
    "set_trust",
    "show_domain",
    "show_gene_badges",
    "show_model",
]

Level = Literal["good", "fair", "weak", "unknown"]
GOOD_PCC, FAIR_PCC = 0.5, 0.3
_MANY_FAR = 0.25  # where 5 % are usual
_LOOKS: dict[Level, tuple[str, Literal["green", "orange", "red", "gray"]]] = {
    "good": (":material/verified:", "green"),
    "fair": (":material/rule:", "orange"),
    "weak": (":material/warning:", "red"),
    "unknown": (":material/help:", "gray"),
}
_MEANING = (
    "PCC: correlation of prediction and measurement over the spots of a section that the model had "
    f"not seen; good from {GOOD_PCC} on, fair from {FAIR_PCC} on. RVD: how far the variance of the "
    "prediction is from the measured one; 0 is best."
)


@dataclass(frozen=True)
class GeneTrust:
    """How well a gene, or several, were predicted on held-out sections.

    Attributes
    ----------
    level
        `good`, `fair`, `weak`, or `unknown`.
    words
        The level and its figures, such as "good: held-out PCC 0.62, 0.55–0.68 over 3 folds".
    pcc
        Held-out PCC, mean of the folds; NaN where it is not known.
    rvd
        Held-out relative variance distance; NaN where it is not known.
    """

    level: Level
    words: str
    pcc: float = math.nan
    rvd: float = math.nan


def gene_trust(row: dict[Any, Any]) -> GeneTrust:
    """Return how well a gene was predicted, from its row of genes.csv."""
    pcc, rvd = gene_number(row, "held_out_pcc"), gene_number(row, "held_out_rvd")
    if not math.isfinite(pcc):
        return GeneTrust("unknown", "not known how well it is predicted", rvd=rvd)
    level = _level(pcc)
    words = f"{level}: held-out PCC {pcc:.2f}"
    low, high = gene_number(row, "held_out_pcc_low"), gene_number(row, "held_out_pcc_high")
    folds = gene_number(row, "held_out_folds")
    if folds > 1 and math.isfinite(low) and math.isfinite(high):
        words += f", {low:.2f}–{high:.2f} over {folds:.0f} folds"
    elif folds == 1:
        words += " on one section"
    if math.isfinite(rvd):
        words += f", RVD {rvd:.2f}"
    return GeneTrust(level, words, pcc, rvd)


def set_trust(prediction: Prediction, genes: Sequence[str]) -> GeneTrust:
    """Return how well genes that are shown as one value were predicted: the median of their PCC."""
    trusts = [gene_trust(_row(prediction, gene)) for gene in genes]
    if len(trusts) == 1:
        return trusts[0]
    known = [trust.pcc for trust in trusts if math.isfinite(trust.pcc)]
    if not known:
        return GeneTrust("unknown", f"not known how well its {len(genes)} genes are predicted")
    middle, worst = float(np.median(known)), min(known)
    level = _level(middle if len(genes) > 2 else worst)
    words = f"{level}: held-out PCC of its {len(genes)} genes, median {middle:.2f}"
    if len(genes) == 2:
        words = f"{level}: held-out PCC of its genes, the weaker one {worst:.2f}"
    if len(known) < len(genes):
        words += f" (known for {len(known)})"
    return GeneTrust(level, words, middle)


def show_gene_badges(
    prediction: Prediction, genes: Sequence[str], manifest: Manifest | None
) -> None:
    """Show a badge for each gene, with figures, and the protocol behind them on hover."""
    help_text = f"{_protocol(manifest)} {_MEANING}"
    with st.container(horizontal=True, gap="small", key="gene_badges"):
        for gene in dict.fromkeys(genes):
            trust = gene_trust(_row(prediction, gene))
            icon, colour = _LOOKS[trust.level]
            st.badge(f"{plain(gene)} {trust.words}", icon=icon, color=colour, help=help_text)


def show_model(manifest: Manifest | None, name: str) -> None:
    """Say in one line what the model was trained and tested on; all the rest is a click away."""
    if manifest is None:
        st.caption(
            f"The model {plain(name)} is not installed any more, so nothing here tells what it was "
            f"trained and tested on. {NOTICE}"
        )
        return
    held = manifest.held_out
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.caption(f":material/school: {_trained_words(manifest)} {NOTICE}", width="stretch")
        with st.popover("What it was tested on", icon=":material/fact_check:", type="tertiary"):
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
    if domain is None:
        st.caption(
            "Nothing here tells how far this tissue is from what the model was trained on: the "
            "model came without the statistics of its training tissue."
        )
        return
    far = float((domain > 1).mean())
    words = (
        f"Domain distance: median {np.median(domain):.2f}; {100 * far:.0f} % of the spots are "
        "above 1. At 1 a spot looks as unusual as the most unusual 5 % of the training spots."
    )
    if far > _MANY_FAR:
        st.warning(
            "Much of this tissue looks unlike what the model was trained on, so take its values "
            f"with care. {words}",
            icon=":material/warning:",
        )
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


def _protocol(manifest: Manifest | None) -> str:
    if manifest is None:
        return "The model is not installed any more, so how it was tested is not known."
    return f"{plain(manifest.held_out.protocol)} {plain(manifest.held_out.note)}"


def _level(pcc: float) -> Level:
    return "good" if pcc >= GOOD_PCC else "fair" if pcc >= FAIR_PCC else "weak"


def _row(prediction: Prediction, gene: str) -> dict[Any, Any]:
    table = prediction.gene_table
    return dict(table.loc[gene].to_dict()) if gene in table.index else {}
