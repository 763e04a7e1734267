"""Compare: two runs of one slide side by side, with the ridge baseline, and how far they agree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import streamlit as st

from app.components import map_controls
from app.components.compare_choice import pick_runs
from app.components.compare_tables import (
    show_agreement,
    show_gene,
    show_measured_pcc,
    show_ranking,
    show_spots,
)
from app.components.gene_choice import best_predicted_first
from app.components.maps_viewer import maps_viewer
from app.components.model_cards import manifests_by_name
from app.components.wording import count, plain
from app.maps.layers import Layer
from app.maps.pairs import PairValues, open_pair
from app.maps.panels import DIVERGING, Detail, Panel, hex_colours, panels_of
from app.maps.runs import measured_version
from app.maps.tiles import slide_description
from app.state import Keys
from stem_core.analysis.agreement import agreement_by_gene, shared_genes
from stem_core.errors import StemError
from stem_core.prediction.result import Prediction

MAP_HEIGHT_PX = 640
GENE_PARAMETER = "gene"
FAR = 3.0


@st.cache_data(max_entries=4, show_spinner="Comparing gene by gene …")
def agreement(
    run_ids: tuple[str, str], _one: Prediction, _other: Prediction, _at: np.ndarray
) -> pd.DataFrame:
    """Compare once for each two runs; a finished run does not change."""
    return agreement_by_gene(_one, _other, _at, shared_genes(_one, _other))


def gene_of_address(order: list[str]) -> str:
    """Show the search for a gene that both have; the address keeps it."""
    asked = st.query_params.get(GENE_PARAMETER, order[0])
    if asked not in order:
        st.caption(
            f":material/info: {plain(asked[:40])} is not in both panels; this is {plain(order[0])}."
        )
        asked = order[0]
    gene = st.selectbox(
        f"Gene that both predict (type to search {len(order)})", order, index=order.index(asked),
        key=f"compare_gene_{asked}", width=360,
    )  # fmt: skip
    st.query_params[GENE_PARAMETER] = gene
    return gene


def panels_beside(
    pair: PairValues, gene: str, scale: str, version: str, notes: tuple[str, str]
) -> list[Panel]:
    """Return A, B, the baseline where it was kept, the difference, and what was measured.

    All but the difference share the range of colours of A, B and what was measured; a baseline
    can go far beyond, which would leave them flat. `notes` say what A and B are.
    """
    mean = Layer.of("mean", gene)
    shown = [("a", "Run A", pair.one, mean), ("b", "Run B", pair.other, mean)]
    if pair.one.has_baseline:
        shown.append(("a", "Ridge baseline of A", pair.one, mean.another("baseline")))
    for run, values in (("a", pair.one), ("b", pair.other)):
        if gene in values.measured_genes:
            shown.append((run, "Measured", values, mean.another("measured")))
            break
    made = [
        (run, title, panels_of(values, [layer], scale, (1, 99), shared=False, version=version)[0])
        for run, title, values, layer in shown
    ]
    ends = [panel for *_, panel in made if panel.layer.kind != "baseline"]
    low, high = min(panel.low for panel in ends), max(panel.high for panel in ends)
    panels = [
        replace(
            panel, layer=replace(panel.layer, run=run), title=f"{title} · {gene}",
            low=low, high=high,
            spread=replace(panel.spread, run=run) if panel.spread else None,
            details=[
                replace(line, layers=[replace(layer, run=run) for layer in line.layers])
                for line in panel.details
            ],
        )
        for run, title, panel in made
    ]  # fmt: skip
    apart = Panel(
        mean.another("apart"), f"Agreement · {gene}, A − B", "joint spreads",
        hex_colours(DIVERGING), -FAR, FAR, note="0: equal",
        details=[
            Detail(
                run.upper(), [Layer(kind, (gene,), run=run) for kind in ("mean", "std")], " ± "
            )
            for run in ("a", "b")
        ],
    )  # fmt: skip
    panels[:2] = [replace(panels[place], note=note) for place, note in enumerate(notes)]
    after = 3 if pair.one.has_baseline else 2
    return [*panels[:after], apart, *panels[after:]]


st.title("Compare two runs")
st.caption(
    "The same slide predicted twice: with two models, or with other settings. Where do they agree?"
)
manifests = manifests_by_name()
first, second = pick_runs(manifests)
try:
    pair, slide = open_pair(first.id, second.id), slide_description(first.id)
    version = f"{measured_version(first.id)} {measured_version(second.id)}"
except StemError as error:
    st.error(plain(str(error)), icon=":material/error:")
    st.page_link("views/runs.py", label="All runs", icon=":material/list:")
    st.stop()
one, other = pair.one.prediction, pair.other.prediction
symbols = shared_genes(one, other)
if not symbols:
    st.warning(
        f"The two models have no gene in common ({len(one.symbols)} and {len(other.symbols)} "
        "genes), so there is nothing to compare; choose a run of another model.",
        icon=":material/info:",
    )
    st.stop()
common = int((pair.at >= 0).sum())
try:
    table = agreement((first.id, second.id), one, other, pair.at)
except StemError as error:
    st.warning(plain(str(error)), icon=":material/info:")
    st.stop()
st.caption(
    f"{count(len(symbols), 'gene')} in common · "
    + (f"all {count(common, 'spot')}" if common == len(pair.at) else count(common, "spot"))
    + ("" if common == len(pair.at) else f" of {len(pair.at)}")
    + f" of A have a spot of B within half a pitch ({pair.one.pitch_um / 2:g} µm)"
    + ("." if common == len(pair.at) else "; the others stay empty on B's map.")
)
if first.request.model == second.request.model:
    st.caption(
        ":material/info: Both runs are of one model, so this is about spots and settings, not "
        "about models; the mean of paired draws hardly depends on their seed and number."
    )
if one.mpp != other.mpp:
    st.caption(
        f":material/warning: The runs took different microns per pixel ({one.mpp:.4g} and "
        f"{other.mpp:.4g} µm), so the models saw tissue of different size."
    )
known = set(symbols)
with st.container(horizontal=True, vertical_alignment="bottom"):
    gene = gene_of_address([g for g in best_predicted_first(one) or symbols if g in known])
    with st.popover("Look", icon=":material/tune:"):
        scale, look = map_controls.pick_look()
show_gene(table, gene)
titles = [manifests.get(status.request.model) for status in (first, second)]
notes = (titles[0].title if titles[0] else "", titles[1].title if titles[1] else "")
maps_viewer(
    "compare",
    base=f"/api/runs/{first.id}/with/{second.id}",
    slide=slide,
    panels=panels_beside(pair, gene, scale, version, notes),
    look=look,
    spot_diameter_um=one.spots.diameter_um,
    height_px=MAP_HEIGHT_PX,
)
st.caption(
    "Agreement: A − B divided by the joint spread √(spread of A² + spread of B²) of each spot; "
    "beyond ±2 the two are further apart than their single draws usually are. All other maps share "
    "one range of colours." + ("" if pair.one.has_baseline else " Run A kept no ridge baseline.")
)
show_agreement(table, "agreement.csv")
spots, genes = st.columns(2, gap="medium")
with spots:
    show_spots(pair, gene, one.spots.ids)
with genes:
    show_ranking(table, gene)
show_measured_pcc(pair, symbols)
with st.container(horizontal=True):
    for letter, status in (("A", first), ("B", second)):
        st.page_link(
            "views/maps.py", label=f"Maps of run {letter}", icon=":material/grid_view:",
            query_params={Keys.RUN_PARAMETER: status.id},
        )  # fmt: skip
