"""The genes of a score: pasted as a list, or a set of a GMT file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import streamlit as st

from app.components.gene_finder import Genes
from app.components.wording import count, plain
from app.maps.layers import MOST_SCORE_GENES, Layer
from app.state import Keys
from stem_core.analysis.gene_sets import GeneSet, Match, match_genes, read_gene_list, read_gmt
from stem_core.errors import SettingsError

__all__ = ["note_missing", "pick_gene_set"]

GMT_MB = 50


@dataclass(frozen=True)
class _Said:
    """What became of a list: the layer that is shown and the sentence about it."""

    layer: Layer
    sentence: str = ""
    fault: bool = False


def pick_gene_set(genes: Genes, now: Layer, key: str, take: Callable[[Layer], None]) -> str:
    """Show the list of genes of a score and the GMT file that it can be taken from.

    A list that cannot be scored changes nothing.

    Parameters
    ----------
    genes
        The panel.
    now
        The score that is shown.
    key
        Distinguishes the panels of the page.
    take
        Called with the new layer, before the page runs again.

    Returns
    -------
    str
        What to say about the list, as Markdown; "" for nothing.
    """
    text_key = f"set_{key}"
    notes: dict[str, _Said] = st.session_state.setdefault(Keys.GENE_SETS, {})
    said = notes.get(key)
    if said is None or said.layer != now:
        notes[key] = said = _Said(now)
        st.session_state[text_key] = ", ".join(now.genes)
    listed, file = st.columns([3, 1], vertical_alignment="bottom")
    listed.text_area(
        "Genes of the set", key=text_key, height=80, on_change=_take_list,
        args=(text_key, key, genes, now, take), placeholder="ERBB2, GRB7, ENSG00000141736 …",
        help="Symbols or Ensembl ids with spaces, commas or line ends between them, up to "
        "50,000. The score of a spot is the mean of the genes' z-scores over all spots.",
    )  # fmt: skip
    with file.popover("GMT file", icon=":material/upload_file:", width="stretch"):
        _pick_from_file(text_key, key, genes, now, take)
    if not said.sentence:
        return ""
    return f":red[:material/error: {plain(said.sentence)}]" if said.fault else plain(said.sentence)


def note_missing(key: str, layer: Layer) -> None:
    """Have a panel say which genes of the address its layer had to leave out."""
    match = Match((), layer.genes, layer.missing)
    notes: dict[str, _Said] = st.session_state.setdefault(Keys.GENE_SETS, {})
    notes[key] = _Said(layer, match.sentence())
    st.session_state[f"set_{key}"] = ", ".join(layer.genes)


def _pick_from_file(
    text_key: str, key: str, genes: Genes, now: Layer, take: Callable[[Layer], None]
) -> None:
    given = st.file_uploader(
        "Gene sets (GMT)", type=["gmt", "txt"], key=f"gmt_{key}", max_upload_size=GMT_MB, width=380
    )
    if given is None:
        st.caption("Each line a name, a description and genes, separated by tabs (as MSigDB's).")
        return
    try:
        sets = _sets(given.getvalue())
    except SettingsError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return
    by_name = {found.name: found for found in sets}
    chosen = f"gmt_set_{key}"
    if st.session_state.get(chosen) not in by_name:
        st.session_state.pop(chosen, None)
    st.selectbox(
        f"Set ({count(len(sets), 'set')} in the file)", list(by_name), index=None, key=chosen,
        placeholder="Choose a set", on_change=_take_set,
        args=(chosen, by_name, text_key, key, genes, now, take),
    )  # fmt: skip


@st.cache_data(max_entries=4, show_spinner=False)
def _sets(content: bytes) -> tuple[GeneSet, ...]:
    return read_gmt(content.decode("utf-8", "replace"), "This file")


def _take_set(
    chosen: str, by_name: dict[str, GeneSet], text_key: str, key: str, genes: Genes, now: Layer,
    take: Callable[[Layer], None],
) -> None:  # fmt: skip
    found = by_name.get(st.session_state[chosen])
    if found is not None:
        _score(found.genes, f"{found.name}: ", text_key, key, genes, now, take)


def _take_list(
    text_key: str, key: str, genes: Genes, now: Layer, take: Callable[[Layer], None]
) -> None:
    try:
        names = read_gene_list(st.session_state[text_key])
    except SettingsError as error:
        st.session_state[Keys.GENE_SETS][key] = _Said(now, str(error), fault=True)
        return
    _score(names, "", text_key, key, genes, now, take)


def _score(
    names: tuple[str, ...], title: str, text_key: str, key: str, genes: Genes, now: Layer,
    take: Callable[[Layer], None],
) -> None:  # fmt: skip
    """Take the genes of the panel; where there are none, say so and keep what is shown."""
    match = match_genes(names, genes.symbols, genes.ensembl)
    notes: dict[str, _Said] = st.session_state[Keys.GENE_SETS]
    if not match.symbols:
        first = ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
        sentence = (
            f"{title or 'List: '}none of the {len(names):,} genes ({first}) is in this "
            "model's panel, so the map stays as it was; give genes of the panel."
        )
        notes[key] = _Said(now, sentence, fault=True)
    elif len(match.symbols) > MOST_SCORE_GENES:
        sentence = (
            f"{title}{len(match.symbols):,} of these genes are in the panel and a score takes up "
            f"to {MOST_SCORE_GENES:,}, so the map stays as it was; give a shorter list."
        )
        notes[key] = _Said(now, sentence, fault=True)
    else:
        layer = Layer("score", match.symbols)
        notes[key] = _Said(layer, title + match.sentence())
        if title:  # the file's genes take the place of what was typed
            st.session_state[text_key] = ", ".join(match.symbols)
        take(layer)
