"""The search for a gene: by symbol or Ensembl id, and what to do about one the panel lacks.

The box lists the panel and takes any text. What is typed is looked up in any case of letters and
with or without an id's version; where that names no gene of the panel, the page keeps the gene it
shows, offers the names that are close, and tells which other models have it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import streamlit as st

from app.components.gene_choice import best_predicted_first
from app.components.model_cards import choose_model, manifests_by_name
from app.components.wording import plain
from app.state import Keys
from stem_core.analysis.gene_sets import is_ensembl_id, match_genes, search_genes
from stem_core.model.manifest import Manifest
from stem_core.prediction.result import Prediction

__all__ = ["Genes", "find_gene", "models_with", "show_not_found"]

MOST_LISTED = 2000  # of a larger panel the first ones are listed; the others are found by typing
_CLOSE_NAMES = 6
_LONGEST = 60


@dataclass(frozen=True)
class Genes:
    """The genes of a panel, in the order in which they are offered, with their Ensembl ids.

    Attributes
    ----------
    symbols
        Each once.
    ensembl
        Ids in the same order, empty where unknown.
    """

    symbols: tuple[str, ...]
    ensembl: tuple[str, ...]
    _ids: dict[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Index the ids."""
        object.__setattr__(self, "_ids", dict(zip(self.symbols, self.ensembl, strict=True)))

    @classmethod
    def of(cls, prediction: Prediction) -> Genes:
        """Return a result's genes, the best predicted first where that is known."""
        ids = dict(zip(prediction.symbols, prediction.ensembl, strict=True))
        ranked = best_predicted_first(prediction) or prediction.symbols
        order = tuple(dict.fromkeys([*(s for s in ranked if s in ids), *prediction.symbols]))
        return cls(order, tuple(ids[symbol] for symbol in order))

    def only(self, symbols: tuple[str, ...]) -> Genes:
        """Return those of some symbols, in the same order."""
        kept = set(symbols)
        order = tuple(symbol for symbol in self.symbols if symbol in kept)
        return Genes(order, tuple(self._ids[symbol] for symbol in order))

    def named(self, text: str) -> str | None:
        """Return the gene of a symbol or Ensembl id, however it is written; None for none."""
        found = match_genes([text.strip()], self.symbols, self.ensembl).symbols
        return found[0] if found else None

    def close(self, text: str) -> list[str]:
        """Return a few genes whose names are close to what was typed."""
        places = search_genes(text[:_LONGEST], self.symbols, self.ensembl, _CLOSE_NAMES)
        return [self.symbols[place] for place in places]

    def beginning(self, text: str) -> list[str]:
        """Return the genes whose symbols begin with what was typed."""
        start = text.casefold()
        return [symbol for symbol in self.symbols if symbol.casefold().startswith(start)]

    def label(self, symbol: str) -> str:
        """Return what stands in the list for a gene."""
        accession = self._ids.get(symbol)
        return f"{symbol} · {accession}" if accession else symbol


def find_gene(label: str, genes: Genes, now: str, key: str, take: Callable[[str], None]) -> None:
    """Show the search box with the gene that is shown now.

    Parameters
    ----------
    label
        Of the box.
    genes
        The genes to choose from.
    now
        The gene shown now.
    key
        Of the widget.
    take
        Called with the gene that was found, before the page runs again.
    """
    listed = genes.symbols[:MOST_LISTED]
    if now not in listed:
        listed = (now, *listed)
    st.session_state[key] = now
    st.selectbox(
        label, listed, key=key, format_func=genes.label, accept_new_options=True,
        on_change=_look_up, args=(key, genes, take),
        placeholder="Symbol or Ensembl id", icon=":material/search:",
        help=f"Type a symbol or an Ensembl id of the panel's {len(genes.symbols)} genes, in any "
        "case, and press Enter. Misspelt names are met with those that are close.",
    )  # fmt: skip


def _look_up(key: str, genes: Genes, take: Callable[[str], None]) -> None:
    """Take what was chosen or typed, or remember that the panel lacks it."""
    typed = str(st.session_state[key] or "").strip()
    gene = typed if typed in genes.symbols else genes.named(typed)
    if gene is None and typed and len(begun := genes.beginning(typed)) == 1:
        gene = begun[0]
    if gene is None:
        st.session_state[Keys.GENE_SOUGHT] = (key, typed) if typed else None
        return
    st.session_state[Keys.GENE_SOUGHT] = None
    take(gene)


def show_not_found(
    key: str, genes: Genes, model: str, take: Callable[[str], None], panel: Genes
) -> None:
    """Tell that the panel lacks what was typed in a search box, and what else can be done.

    Parameters
    ----------
    key
        Of the box.
    genes
        The genes that it offers.
    model
        Name of the model whose panel it is.
    panel
        All genes of the panel.
    take
        Called with the close name that was chosen.
    """
    sought = st.session_state.get(Keys.GENE_SOUGHT)
    if sought is None or sought[0] != key:
        return
    typed: str = sought[1]
    shown = plain(typed if len(typed) <= _LONGEST else typed[:_LONGEST] + "…")
    begun = genes.beginning(typed)
    unmeasured = panel.named(typed) is not None
    with st.container(border=True, key="gene_not_found"):
        if begun:
            words = f"{len(begun)} genes begin with **{shown}**:"
        elif unmeasured:
            words = f":material/search_off: **{shown}** was not measured in the section given."
        elif is_ensembl_id(typed) and not any(panel.ensembl):
            words = (
                f":material/search_off: This model's panel has no Ensembl ids, so {shown} cannot "
                "be looked up; type the gene's symbol."
            )
        else:
            words = f":material/search_off: **{shown}** is not in this model's panel."
        st.markdown(words)
        if close := begun[:_CLOSE_NAMES] or genes.close(typed):
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                if not begun:
                    st.caption("Close names", width="content")
                for gene in close:
                    st.button(
                        plain(gene), key=f"close_{key}_{gene}",
                        on_click=_take_close, args=(gene, take),
                    )  # fmt: skip
        if unmeasured or begun:
            return
        others = [found for found in models_with(typed) if found.name != model]
        for other in others:
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                st.markdown(
                    f"The model **{plain(other.title)}** has it "
                    f"({plain(f'{other.tissue}, {other.species}')}).",
                    width="content",
                )
                if st.button("Predict with it", key=f"predict_{other.name}",
                             icon=":material/biotech:"):  # fmt: skip
                    choose_model(other.name)
                    st.switch_page("views/predict.py")
        if not others:
            st.caption(
                "No other model here is known to have it; models that are not downloaded do not "
                "list their genes."
            )
            st.page_link("views/zoo.py", label="All models", icon=":material/category:")


def models_with(text: str) -> list[Manifest]:
    """Return the models here whose panels have a gene, given by symbol or Ensembl id."""
    found = []
    for manifest in manifests_by_name().values():
        symbols = [gene.symbol for gene in manifest.panel]
        ids = [gene.ensembl for gene in manifest.panel]
        if match_genes([text], symbols, ids).columns:
            found.append(manifest)
    return found


def _take_close(gene: str, take: Callable[[str], None]) -> None:
    st.session_state[Keys.GENE_SOUGHT] = None
    take(gene)
