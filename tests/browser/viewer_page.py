"""A page with nothing but the map viewer, over a made-up section; the address says what it shows.

`?base=/made/5000&panels=6&mode=pan&tiles=1&dim=0`. The server beside it gives the numbers.
"""

from __future__ import annotations

import json

import plotly.colors
import streamlit as st

from app.components.maps_viewer import maps_viewer
from app.maps.layers import Layer
from app.maps.panels import Badge, Detail, Look, Mute, Panel, View

WIDTH_PX, HEIGHT_PX, MPP, LEVELS = 4096, 3072, 2.0, 13
DIAMETERS_UM = {5000: 55.0, 100_000: 16.0}
GENES = ("GNAS", "ERBB2", "CD74", "FASN", "COL1A1", "KRT19", "SCD", "MGP")
SCALES = ("Viridis", "Magma", "Cividis", "Viridis", "Inferno", "Viridis")

st.set_page_config(layout="wide")
asked = st.query_params
base = asked.get("base", "/made/5000")
tiles = asked.get("tiles", "1") == "1"
count = int(asked.get("panels", "1"))
with st.container(horizontal=True):
    first = st.selectbox("Gene", [*GENES, "MISSING"], width=200)
    scale = st.selectbox("Colours", ("", "Magma"), width=200)
start = GENES.index(first) if first in GENES else 0
genes = [first, *(GENES[(start + i) % len(GENES)] for i in range(1, count))]
panels = []
for place, gene in enumerate(genes):
    colours = plotly.colors.sample_colorscale(
        scale or SCALES[place], [i / 31 for i in range(32)], colortype="tuple"
    )
    panels.append(
        Panel(
            Layer.of("mean", gene),
            f"{gene}: prediction",
            "log2(1 + count)",
            ["#" + "".join(f"{round(255 * part):02x}" for part in colour) for colour in colours],
            0.0,
            3.0 + place,
            note="held-out r 0.61",
            spread=Layer.of("std", gene) if "facts" in asked else None,
            details=[Detail("90 % band", [Layer.of("q05", gene), Layer.of("q95", gene)])]
            if "facts" in asked
            else [],
            badge=None
            if place
            else Badge("good", "● good: held-out PCC 0.61", ("RVD 0.40.", "One section out.")),
            mutes=[Mute(Layer.of("mean", "KRT19"), float(asked["mute"]), "domain distance")]
            if "mute" in asked
            else [],
        )
    )
regions = []
if asked.get("regions"):
    for name, x, y in (("Invasive front", 1500, 1300), ("Stroma", 2700, 1900)):
        points = [[x - 400, y - 250], [x + 300, y - 420], [x + 450, y + 300], [x - 200, y + 380]]
        regions.append({"name": name, "points": points})
    regions.append({"name": "Two parts", "colour": "#984ea3", "spots": [4000, 4001, 4002],
                    "polygons": [[[700, 1500], [900, 1500], [800, 1700]],
                                 [[700, 1800], [900, 1800], [800, 2000]]]})  # fmt: skip


def keep_view(seen: View | None) -> None:
    st.session_state["view"] = seen


drawn = maps_viewer(
    "viewer",
    base=base,
    slide={
        "width_px": WIDTH_PX, "height_px": HEIGHT_PX, "mpp": MPP, "tile_px": 254, "overlap": 1,
        "levels": LEVELS, "tiles": tiles, "thumbnail": f"{base}/map/thumbnail",
    },
    panels=panels,
    look=Look(
        float(asked.get("opacity", "0.85")), float(asked.get("size", "1")),
        float(asked.get("dim", "1")), "grey" in asked,
    ),
    spot_diameter_um=DIAMETERS_UM.get(int(base.rsplit("/", 1)[1]), 55.0),
    view=st.session_state.get("seen"),
    regions=regions,
    mode=asked.get("mode", "pan"),
    height_px=660,
    on_move=keep_view,
)  # fmt: skip
view = st.session_state.get("view")
if asked.get("echo") == "late":  # one move behind, as a busy server answers
    st.session_state["seen"] = st.session_state.get("told")
    st.session_state["told"] = view and View(*map(round, vars(view).values()))
elif "echo" in asked:
    st.session_state["seen"] = view
told = {"view": view and vars(view), "drawn": drawn}
st.html(f"<pre id='told' style='font-size:10px;overflow:hidden'>{json.dumps(told)}</pre>")
