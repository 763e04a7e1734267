"""Which maps are shown side by side, kept in the address: a gene and what of it, for each panel."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import streamlit as st

from app.components.gene_finder import Genes, find_gene, show_not_found
from app.components.gene_set_choice import note_missing, pick_gene_set
from app.components.map_address import MAPS_PARAMETER, put_maps, view_of_address, write_view
from app.components.maps_viewer import MOST_PANELS, maps_viewer
from app.components.region_tools import add_drawing
from app.maps.layers import KINDS, Layer
from app.maps.run import Run
from app.maps.values import MapValues
from app.state import Keys
from stem_core.errors import SettingsError

__all__ = ["offer_more_panels", "pick_panels", "show_gene", "show_maps"]

MAP_HEIGHT_PX = 640
_WIDE = ("difference", "draw", "score")  # these ask for more than a gene


def shown_layers(values: MapValues, first_gene: str) -> list[Layer]:
    """Return the layers of the address that this result has; the first gene's map for none."""
    found: list[Layer] = []
    for text in st.query_params.get(MAPS_PARAMETER, "").split(";"):
        try:
            layer = values.parse(text)
        except SettingsError:
            continue
        if layer.missing:
            note_missing(str(len(found)), layer)
        if _has(values, layer.kind) and layer.number <= values.n_draws:
            found.append(layer)
    return found[:MOST_PANELS] or [Layer.of("mean", first_gene)]


def _has(values: MapValues, kind: str) -> bool:
    """Say whether a result has maps of a kind."""
    return {
        "domain": values.has_domain,
        "measured": bool(values.measured_genes),
        "error": bool(values.measured_genes),
        "draw": values.n_draws > 0,
        "baseline": values.has_baseline,
    }.get(kind, True)


def pick_panels(values: MapValues, genes: Genes, model: str) -> tuple[list[Layer], int]:
    """Show the choice of maps; return their layers and the place of the one that can be changed.

    The address says what is shown: choices write there, and all widgets follow it. `model` is the
    name of the model whose panel `genes` are.
    """
    layers = shown_layers(values, genes.symbols[0])
    st.query_params[MAPS_PARAMETER] = ";".join(map(str, layers))
    active = min(int(st.session_state.get(Keys.ACTIVE_MAP, 0)), len(layers) - 1)
    if len(layers) > 1:
        key = f"active_of_{len(layers)}"
        st.session_state[key] = active
        st.segmented_control(
            "Map to change", range(len(layers)), required=True, key=key, width="stretch",
            format_func=lambda i: f"{i + 1} · {layers[i].title()}",
            on_change=_activate, args=(key,), label_visibility="collapsed",
        )  # fmt: skip
    _pick_layer(values, layers, active, genes, model)
    return layers, active


def offer_more_panels(layers: list[Layer], active: int) -> None:
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
            help=f"Take away map {active + 1}, {layers[active].title()}.",
        )  # fmt: skip


def show_gene(values: MapValues, layers: list[Layer], active: int, gene: str) -> None:
    """Show another gene in a panel, and the same of it where that can be. For callbacks."""
    now = layers[active]
    if now.kind == "difference":
        first, second = now.genes
        layer = Layer("difference", (gene, second if gene != second else first))
    elif now.kind in ("domain", "score") or (
        now.from_measured and gene not in values.measured_genes
    ):
        layer = Layer.of("mean", gene)
    else:
        layer = replace(now, genes=(gene,))
    _put_layer(layers, active, layer)


def _put_layer(layers: list[Layer], active: int, layer: Layer) -> None:
    put_maps([*layers[:active], layer, *layers[active + 1 :]], active)


def _activate(key: str) -> None:
    st.session_state[Keys.ACTIVE_MAP] = int(st.session_state[key] or 0)


def _show_kind(key: str, values: MapValues, layers: list[Layer], active: int, genes: Genes) -> None:
    """Show something else of the gene that a panel shows."""
    kind = str(st.session_state[key])
    shown = layers[active].genes or genes.symbols[:1]
    if KINDS[kind].from_measured and shown[0] not in values.measured_genes:
        shown = values.measured_genes
    layer = Layer("domain") if kind == "domain" else Layer.of(kind, shown[0])
    if kind == "difference":
        other = next((s for s in (*shown, *genes.symbols) if s != shown[0]), shown[0])
        layer = Layer("difference", (shown[0], other))
    elif kind == "draw":
        layer = replace(layer, number=1)
    _put_layer(layers, active, layer)


def _show_second(layers: list[Layer], active: int, shown: tuple[str, ...], gene: str) -> None:
    first = shown[0] if gene != shown[0] else shown[1]
    _put_layer(layers, active, Layer("difference", (first, gene)))


def _pick_layer(
    values: MapValues, layers: list[Layer], active: int, genes: Genes, model: str
) -> None:
    """Show the choice of gene and layer of one panel."""
    now = layers[active]
    kind, shown = now.kind, now.genes
    offered = [k for k in KINDS if _has(values, k)]
    what, others = st.columns([1, 2] if kind in _WIDE else 2, vertical_alignment="bottom")
    key = f"kind_{active}"
    st.session_state[key] = kind
    what.selectbox(
        "Show", offered, format_func=lambda kind: KINDS[kind].words, key=key,
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
    among = genes.only(values.measured_genes) if now.from_measured else genes
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


def _offer_another(values: MapValues, layers: list[Layer], active: int) -> None:
    """Show the button that goes on to the next draw kept, and after the last to the first."""
    now = layers[active]
    following = replace(now, number=now.number % values.n_draws + 1)
    st.button(
        "Draw again", icon=":material/casino:", key=f"again_{active}", on_click=_put_layer,
        args=(layers, active, following),
        disabled=values.n_draws < 2,
        help="One of the draws whose mean is the prediction: what a single sample of this tissue "
        f"might look like. Shows the next of {values.n_draws} kept with this run, "
        f"{values.draws_made} were made.",
    )  # fmt: skip


@st.fragment
def show_maps(run: Run, **shown: Any) -> None:
    """Show the maps; a pause in moving them runs this part of the page again, not all of it."""
    outlines = [
        {"name": r.name, "colour": r.colour, "polygons": [ring.tolist() for ring in r.polygons]}
        for r in run.regions
        if r.polygons
    ]
    drawn = maps_viewer(
        "maps", base=run.base, slide=run.slide, spot_diameter_um=run.values.spot_diameter_um,
        view=view_of_address(), regions=outlines, height_px=MAP_HEIGHT_PX,
        on_move=write_view, **shown,
    )  # fmt: skip
    if add_drawing(run, drawn):
        st.rerun()
