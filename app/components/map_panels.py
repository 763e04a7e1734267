"""Which maps are shown side by side, kept in the address: a gene and what of it, for each panel."""

from __future__ import annotations

import streamlit as st

from app.components.maps_viewer import MOST_PANELS
from app.components.wording import plain
from app.maps.layers import parse_layer
from app.maps.panels import layer_title
from app.maps.values import MapValues
from stem_core.errors import SettingsError

__all__ = ["KINDS", "pick_panels"]

KINDS = {
    "mean": "Prediction (mean)",
    "std": "Spread (standard deviation)",
    "q05": "Lower bound of the 90 % band",
    "q95": "Upper bound of the 90 % band",
    "difference": "Difference to another gene",
    "score": "Gene set score",
    "domain": "Domain distance (1 = edge of training)",
    "measured": "Measured",
    "error": "Predicted − measured",
    "draw": "Single draw",
    "baseline": "Ridge baseline",
}
_NEEDS_MEASURED = ("measured", "error")
_PARAMETER = "maps"
_ACTIVE = "maps_active"


def shown_layers(values: MapValues, first_gene: str) -> list[str]:
    """Return the layers of the address that this result has; the first gene's map for none."""
    places = {symbol: place for place, symbol in enumerate(values.symbols)}
    found = []
    for layer in st.query_params.get(_PARAMETER, "").split(";"):
        try:
            read = parse_layer(layer, places)
        except SettingsError:
            continue
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


def pick_panels(values: MapValues, order: list[str]) -> list[str]:
    """Show the choice of maps and return their layers."""
    layers = shown_layers(values, order[0])
    active = min(st.session_state.get(_ACTIVE, 0), len(layers) - 1)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if len(layers) > 1:
            chosen = st.segmented_control(
                "Map to change", range(len(layers)), default=active, required=True,
                format_func=lambda i: f"{i + 1} · {layer_title(layers[i])}",
                key=f"active_of_{len(layers)}", width="content",
            )  # fmt: skip
            active = int(chosen or 0)
            st.session_state[_ACTIVE] = active
        st.button(
            "Add a map", icon=":material/add:", disabled=len(layers) >= MOST_PANELS,
            on_click=_put, args=([*layers, layers[active]], len(layers)), key="add_map",
        )  # fmt: skip
        st.button(
            "Remove this map", icon=":material/remove:", disabled=len(layers) == 1, key="drop_map",
            on_click=_put, args=([x for i, x in enumerate(layers) if i != active], 0),
        )  # fmt: skip
    layers[active] = _pick_layer(values, layers[active], order, active)
    st.query_params[_PARAMETER] = ";".join(layers)
    return layers


def _put(layers: list[str], active: int) -> None:
    st.query_params[_PARAMETER] = ";".join(layers)
    st.session_state[_ACTIVE] = active


def _pick_layer(values: MapValues, now: str, order: list[str], panel: int) -> str:
    """Show the choice of gene and layer of one panel."""
    kind, _, rest = now.partition(":")
    first, _, second = rest.partition(":") if kind == "difference" else (rest, "", "")
    if kind == "draw":
        first, _, second = rest.rpartition(":")
    offered = [k for k in KINDS if _has(values, k)]
    what, gene_place, other_place = st.columns([2, 2, 2], vertical_alignment="bottom")
    key = f"{panel}_{now}"
    kind = what.selectbox(
        "Show", offered, index=offered.index(kind) if kind in offered else 0,
        format_func=KINDS.__getitem__, key=f"kind_{key}",
    )  # fmt: skip
    if kind == "domain":
        return "domain"
    if kind == "score":
        text = gene_place.text_input(
            "Genes of the set, separated by commas or spaces",
            value=rest.replace(",", ", ") if now.startswith("score:") else first,
            key=f"set_{key}",
        )  # fmt: skip
        return _score(values, text, now, other_place)
    if kind in _NEEDS_MEASURED:
        order = [symbol for symbol in order if symbol in values.measured_genes]
    gene = gene_place.selectbox(
        f"Gene (type to search {len(order)})", order,
        index=order.index(first) if first in order else 0, key=f"gene_{key}",
    )  # fmt: skip
    if kind == "draw":
        number = int(second) if (now, gene) == (f"draw:{first}:{second}", first) else 1
        _offer_another(values, gene, number, panel, other_place)
        return f"draw:{gene}:{number}"
    if kind != "difference":
        return f"{kind}:{gene}"
    others = [symbol for symbol in order if symbol != gene]
    other = other_place.selectbox(
        "less gene", others, index=others.index(second) if second in others else 0,
        key=f"other_{key}",
        help="A difference of log2 values: the log2 ratio of the two genes.",
    )  # fmt: skip
    return f"difference:{gene}:{other}"


def _offer_another(
    values: MapValues, gene: str, number: int, panel: int, place: st.delta_generator.DeltaGenerator
) -> None:
    """Show the button that goes on to the next draw kept, and after the last to the first."""

    def draw_again() -> None:
        layers = st.query_params[_PARAMETER].split(";")
        layers[panel] = f"draw:{gene}:{number % values.n_draws + 1}"
        _put(layers, panel)

    place.button(
        "Draw again", icon=":material/casino:", key=f"again_{panel}", on_click=draw_again,
        disabled=values.n_draws < 2,
        help="One of the draws whose mean is the prediction: what a single sample of this tissue "
        f"might look like. Shows the next of {values.n_draws} kept with this run, "
        f"{values.draws_made} were made.",
    )  # fmt: skip


def _score(values: MapValues, text: str, now: str, place: st.delta_generator.DeltaGenerator) -> str:
    from stem_core.analysis.gene_sets import match_genes, read_gene_list

    try:
        match = match_genes(read_gene_list(text), values.symbols, [""] * len(values.symbols))
        layer = f"score:{','.join(match.symbols)}"
        values.layer(layer)
    except SettingsError as error:
        place.caption(f":red[{plain(str(error))}]")
        return now
    if match.missing:
        place.caption(plain(match.sentence()))
    return layer
