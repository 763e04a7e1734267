"""Save or share what the Maps page shows: pictures, a page to send, the numbers, other programs."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlencode, urlsplit

import pandas as pd
import streamlit as st

from app.components.wording import plain
from app.maps.panels import Look, Panel, View
from app.maps.picture_layout import LEAST_WIDTH_PX, MOST_WIDTH_PX
from app.maps.run import Run
from app.maps.scene import Scene, scene_of_run
from stem_core.errors import StemError
from stem_core.prediction.result import Prediction, clean_text

__all__ = ["map_table", "show_map_exports"]

_MM_PER_INCH = 25.4
_MOST_VALUES = 2_000_000  # of a file for other programs, which passes through memory
_KINDS = {
    "Picture": ":material/image:", "Page to send": ":material/mail:",
    "Table": ":material/table:", "Other programs": ":material/output:", "Link": ":material/link:",
}  # fmt: skip


@st.fragment
def show_map_exports(
    run: Run, panels: Sequence[Panel], look: Look, view: Callable[[], View | None]
) -> None:
    """Offer what is shown as files; each is made when its button is pressed, not before.

    `view` tells which part is seen when the offer is opened: moving the maps runs nothing here.
    """
    offer = st.popover("Save or share", icon=":material/ios_share:", on_change="rerun", key="save")
    if not offer.open:
        return
    seen = view()

    def scene() -> Scene:
        return scene_of_run(run, panels, look, seen)

    stem = f"stem-{run.id[:8]}"
    with offer:
        kind = st.segmented_control(
            "Save or share", list(_KINDS), default="Picture", required=True, key="export_kind",
            format_func=lambda name: f"{_KINDS[name]} {name}", label_visibility="collapsed",
        )  # fmt: skip
        if kind == "Picture":
            _offer_picture(scene, stem, len(panels))
        elif kind == "Page to send":
            _offer_page(scene, stem)
        elif kind == "Table":
            st.caption("A row for each spot: place in µm, then each map with its unit.")
            _button(
                "Table (CSV)", lambda: _csv(scene()), f"{stem}-maps.csv", "text/csv", "export_csv"
            )
        elif kind == "Other programs":
            _offer_programs(run.prediction, panels, stem)
        else:
            st.caption(
                "The address holds the run, the maps and the part of the slide. It opens for "
                "whoever can reach this server."
            )
            st.code(address_of_view(), language=None, wrap_lines=True)


def map_table(scene: Scene) -> pd.DataFrame:
    """Return the values of a view's maps: `spot`, `x_um`, `y_um`, a column for each map."""
    places = scene.positions.astype("float64") * scene.mpp
    columns: dict[str, object] = {
        "spot": [clean_text(name) for name in scene.ids],
        "x_um": places[:, 0].round(2),
        "y_um": places[:, 1].round(2),
    }
    for one in scene.maps:
        columns[f"{one.panel.layer} [{one.panel.unit}]"] = one.values
        if one.panel.mutes:
            columns[f"{one.panel.layer} greyed"] = scene.muted(one).astype(int)
    return pd.DataFrame(columns)


def address_of_view() -> str:
    """Return the address that shows this view again."""
    place = urlsplit(st.context.url or "")
    query = st.query_params.to_dict()
    return f"{place.scheme}://{place.netloc}{place.path}?{urlencode(query, safe=':;,')}"


def _offer_picture(scene: Callable[[], Scene], stem: str, maps: int) -> None:
    from app.maps.pictures import draw_picture

    sized = st.segmented_control(
        "Width", ["Pixels", "Millimetres"], default="Pixels", required=True, key="export_sized"
    )
    first, second = st.columns(2)
    if sized == "Pixels":
        width_px = int(
            first.number_input(
                f"Width, {LEAST_WIDTH_PX} to {MOST_WIDTH_PX} px", LEAST_WIDTH_PX, MOST_WIDTH_PX,
                1600, step=100, key="export_px",
            )
        )  # fmt: skip
        dpi = float(second.number_input("Pixels per inch", 72, 600, 150, 10, key="export_px_dpi"))
    else:
        width_mm = first.number_input("Width, mm", 30, 500, 180, 5, key="export_mm")
        dpi = float(second.number_input("Pixels per inch", 72, 600, 300, 10, key="export_mm_dpi"))
        width_px = round(width_mm / _MM_PER_INCH * dpi)
        st.caption(f"{width_px} px wide")
    dark = st.toggle("Dark ground", key="export_dark")
    try:
        from app.maps.picture_layout import lay_out

        lay_out(maps, 1.0, width_px, dpi, (), titled=False)
    except StemError as error:
        st.caption(f":red[{plain(str(error))}]")
        return

    def drawn(kind: str) -> Callable[[], bytes]:
        return lambda: draw_picture(
            scene(), kind, width_px=width_px, dpi=dpi, dark=dark
        ).content  # fmt: skip

    with st.container(horizontal=True):
        _button("PNG", drawn("png"), f"{stem}-maps.png", "image/png", "export_png")
        _button("SVG", drawn("svg"), f"{stem}-maps.svg", "image/svg+xml", "export_svg")
    st.caption(
        "With scale bar, colour bars, model and date. In the SVG the spots can be edited, up to "
        "20,000 in view; beyond they are an image."
    )


def _offer_page(scene: Callable[[], Scene], stem: str) -> None:
    from app.maps.share import MOST_IMAGE_PX, share_page

    image_px = st.select_slider(
        "H&E image of the view, px", [1200, 2400, MOST_IMAGE_PX], 2400, key="export_image_px"
    )
    address = address_of_view()
    with_address = st.toggle("Name the address on this server in it", key="export_address")
    _button(
        "Page (HTML)",
        lambda: share_page(
            scene(), image_px=int(image_px), address=address if with_address else ""
        ),
        f"{stem}-maps.html", "text/html", "export_html",
    )  # fmt: skip
    st.caption(
        "One file to mail: maps to zoom and point at, without a server. It holds a part of the "
        "slide and the values of these maps, and sends nothing."
    )


def _offer_programs(prediction: Prediction, panels: Sequence[Panel], stem: str) -> None:
    from stem_core.prediction.exchange import write_qupath, write_tissuumaps

    genes = None
    if len(prediction.spots) * len(prediction.symbols) > _MOST_VALUES:
        of_maps = {g for p in panels if p.layer.kind != "score" for g in p.layer.genes}
        shown = [gene for gene in prediction.symbols if gene in of_maps]
        genes = shown or list(prediction.symbols[:1])

    def made(write: Callable[..., Path], name: str) -> Callable[[], BinaryIO]:
        def content() -> BinaryIO:
            with tempfile.TemporaryDirectory() as held:
                return io.BytesIO(write(prediction, Path(held) / name, genes=genes).read_bytes())

        return content

    with st.container(horizontal=True):
        _button(
            "QuPath (GeoJSON)", made(write_qupath, "spots.geojson"), f"{stem}-qupath.geojson",
            "application/geo+json", "export_qupath",
        )  # fmt: skip
        _button(
            "TissUUmaps (zip)", made(write_tissuumaps, "stem.zip"), f"{stem}-tissuumaps.zip",
            "application/zip", "export_tissuumaps",
        )  # fmt: skip
    which = "All genes of the panel, with their spread."
    if genes is not None:
        which = f"{plain(', '.join(genes))}, with their spread (`stem export` writes all genes)."
    st.caption(
        f"{which} The h5ad for scanpy and squidpy is beside the result; "
        "`stem export --to spatialdata` writes a SpatialData store."
    )


def _csv(scene: Scene) -> bytes:
    return map_table(scene).to_csv(index=False, lineterminator="\n").encode("utf-8")


def _button(
    label: str, make: Callable[[], bytes | BinaryIO], name: str, mime: str, key: str
) -> None:
    st.download_button(
        label, make, file_name=name, mime=mime, key=key, icon=":material/download:",
        on_click="ignore",
    )  # fmt: skip
