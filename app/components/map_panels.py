"""Which maps are shown side by side, kept in the address: a gene and what of it, for each panel."""

from __future__ import annotations

from functools import partial

import streamlit as st

from app.components.gene_finder import Genes, find_gene, show_not_found
from app.components.gene_set_choice import note_missing, pick_gene_set
from app.components.map_links import MAPS_PARAMETER, put_maps
from app.components.maps_viewer import MOST_PANELS
from app.maps.layers import parse_layer
from app.maps.panels import layer_title
from app.maps.values import MapValues
from app.state import Keys
from stem_core.errors import SettingsError

__all__ = ["KINDS", "layer_genes", "offer_more_panels", "pick_panels", "show_gene"]

KINDS = {
    "mean": "Prediction (mean)",
    "std": "Spread (standard deviation)",
    "q05": "Lower bound of the 90 % band",
    "q95": "Upper bound of the 90 % band",
    "difference": "Log2 ratio of two genes",
    "score": "Gene set score",
    "domain": "Domain distance (1 = edge of training)",
    "measured": "Measured",
    "error": "Predicted − measured",
    "draw": "Single draw",
    "baseline": "Ridge baseline",
}
_NEEDS_MEASURED = ("measured", "error")
_WIDE = ("difference", "draw", "score")  # these ask for more than a gene


def shown_layers(values: MapValues, first_gene: str) -> list[str]:
    """Return the layers of the address that this result has; the first gene's map for none."""
    places = {symbol: place for place, symbol in enumerate(values.symbols)}
    found: list[str] = []
    for layer in st.query_params.get(MAPS_PARAMETER, "").split(";"):
        try:
            read = parse_layer(layer, places)
        except SettingsError:
            continue
        if read.missing:  # no title must name what is left out
            layer = f"score:{','.join(read.genes)}"
            note_missing(str(len(found)), layer, read.missing)
        if _has(values, read.kind) and read.number <= values.n_draws:
            found.append(layer)
    return found[:MOST_PANELS] or [f"mean:{first_gene}"]


def _has(values: MapValues, kind: str) -> bool:
    """Say whether a result has maps of a kind."""
    return {
        "domain": values.has_domain,
        "measured": bool(values.measured_genes),
        "error": bool(values.measured_genes),
        "draw": values.n_draws > 0,
        "baseline": values.has_baseline,
    }.get(kind, True)


def pick_panels(values: MapValues, genes: Genes, model: str) -> tuple[list[str], int]:
    """Show the choice of maps; return their layers and the place of the one that can be changed.

    The address says what is shown: choices write there, and all widgets follow it. `model` is the
    name of the model whose panel `genes` are.
    """
    layers = shown_layers(values, genes.symbols[0])
    st.query_params[MAPS_PARAMETER] = ";".join(layers)
    active = min(int(st.session_state.get(Keys.ACTIVE_MAP, 0)), len(layers) - 1)
    if len(layers) > 1:
        key = f"active_of_{len(layers)}"
        st.session_state[key] = active
        st.segmented_control(
            "Map to change", range(len(layers)), required=True, key=key, width="stretch",
            format_func=lambda i: f"{i + 1} · {layer_title(layers[i])}",
            on_change=_activate, args=(key,), label_visibility="collapsed",
        )  # fmt: skip
    _pick_layer(values, layers, active, genes, model)
    return layers, active


def offer_more_panels(layers: list[str], active: int) -> None:
    """Show the buttons that add a map and take the active one away."""
    st.button(
        "Add a map", icon=":material/add:", disabled=len(layers) >= MOST_PANELS, key="add_map",
        on_click=put_maps, args=([*layers, layers[active]], len(layers)),
        help="Show one more map beside the others, to be changed next.",
    )  # fmt: skip
    if len(layers) > 1:
        st.button(
            "Remove this map", icon=":material/remove:", key="drop_map",
            on_click=put_maps, args=([x for i, x in enumerate(layers) if i != active], 0),
            help=f"Take away map {active + 1}, {layer_title(layers[active])}.",
        )  # fmt: skip


def layer_genes(values: MapValues, layer: str) -> tuple[str, ...]:
    """Return the genes that a layer is made of."""
    return parse_layer(layer, {symbol: i for i, symbol in enumerate(values.symbols)}).genes


def show_gene(values: MapValues, layers: list[str], active: int, gene: str) -> None:
    """Show another gene in a panel, and the same of it where that can be. For callbacks."""
    kind, shown = layers[active].partition(":")[0], layer_genes(values, layers[active])
    layer = f"{kind}:{gene}"
    if kind == "difference":
        layer += f":{shown[1] if gene != shown[1] else shown[0]}"
    elif kind == "draw":
        layer += f":{layers[active].rpartition(':')[2]}"
    elif kind in ("domain", "score") or (
        kind in _NEEDS_MEASURED and gene not in values.measured_genes
    ):
        layer = f"mean:{gene}"
    _put_layer(layers, active, layer)


def _put_layer(layers: list[str], active: int, layer: str) -> None:
    put_maps([layer if i == active else other for i, other in enumerate(layers)], active)


def _activate(key: str) -> None:
    st.session_state[Keys.ACTIVE_MAP] = int(st.session_state[key] or 0)


def _show_kind(key: str, values: MapValues, layers: list[str], active: int, genes: Genes) -> None:
    """Show something else of the gene that a panel shows."""
    kind = str(st.session_state[key])
    shown = layer_genes(values, layers[active]) or genes.symbols[:1]
    if kind in _NEEDS_MEASURED and shown[0] not in values.measured_genes:
        shown = values.measured_genes
    layer = kind if kind == "domain" else f"{kind}:{shown[0]}"
    if kind == "difference":
        layer += f":{next((s for s in (*shown, *genes.symbols) if s != shown[0]), shown[0])}"
    elif kind == "draw":
        layer += ":1"
    _put_layer(layers, active, layer)


def _show_second(layers: list[str], active: int, shown: tuple[str, ...], gene: str) -> None:
    first = shown[0] if gene != shown[0] else shown[1]
    _put_layer(layers, active, f"difference:{first}:{gene}")


def _pick_layer(
    values: MapValues, layers: list[str], active: int, genes: Genes, model: str
) -> None:
    """Show the choice of gene and layer of one panel."""
    now = layers[active]
    kind, shown = now.partition(":")[0], layer_genes(values, now)
    offered = [k for k in KINDS if _has(values, k)]
    what, others = st.columns([1, 2] if kind in _WIDE else 2, vertical_alignment="bottom")
    key = f"kind_{active}"
    st.session_state[key] = kind
    what.selectbox(
        "Show", offered, format_func=KINDS.__getitem__, key=key,
        on_change=_show_kind, args=(key, values, layers, active, genes),
    )  # fmt: skip
    if kind == "domain":
        return
    if kind == "score":
        with others:
            said = pick_gene_set(genes, now, str(active), partial(_put_layer, layers, active))
        if said:
            st.caption(said)
        return
    among = genes.only(values.measured_genes) if kind in _NEEDS_MEASURED else genes
    take = partial(show_gene, values, layers, active)
    gene_place = other_place = others
    if kind in _WIDE:
        gene_place, other_place = others.columns(2, vertical_alignment="bottom")
    with gene_place:
        find_gene("Gene", among, shown[0], f"gene_{active}", take)
    if kind == "draw":
        with other_place:
            _offer_another(values, layers, active)
    show_not_found(f"gene_{active}", among, model, take, genes)
    if kind == "difference":
        take_other = partial(_show_second, layers, active, shown)
        with other_place:
            find_gene("over gene", genes, shown[1], f"other_{active}", take_other)
        show_not_found(f"other_{active}", genes, model, take_other, genes)


def _offer_another(values: MapValues, layers: list[str], active: int) -> None:
    """Show the button that goes on to the next draw kept, and after the last to the first."""
    gene, _, number = layers[active].removeprefix("draw:").rpartition(":")
    following = f"draw:{gene}:{int(number) % values.n_draws + 1}"
    st.button(
        "Draw again", icon=":material/casino:", key=f"again_{active}", on_click=_put_layer,
        args=(layers, active, following),
        disabled=values.n_draws < 2,
        help="One of the draws whose mean is the prediction: what a single sample of this tissue "
        f"might look like. Shows the next of {values.n_draws} kept with this run, "
        f"{values.draws_made} were made.",
    )  # fmt: skip
