"""`stem map` and `stem export`: a finished result as pictures, pages and other formats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter, Token

from app.commands.options import Number, Out, Whole
from app.commands.outputs import claim_output
from app.terminal import DONE, Terminal, TerminalOptions
from stem_core.errors import SettingsError

if TYPE_CHECKING:
    from app.maps.scene import Scene
    from stem_core.analysis.regions import Region
    from stem_core.prediction.result import Prediction

__all__ = ["Drawing", "draw_map", "export"]

_MAP_KINDS = (".png", ".svg", ".html")
_MOST_REGION_BYTES = 100_000_000
_DRAWING = Group("Drawing", sort_key=50)


def _view(_type: Any, tokens: Sequence[Token]) -> tuple[float, float, float]:
    """Read the part to show, `x,y,width` in µm, as the address of the Maps page has it."""
    text = tokens[0].value
    try:
        x_um, y_um, width_um = (float(part) for part in text.split(","))
    except ValueError:
        x_um = y_um = width_um = math.nan
    if not all(map(math.isfinite, (x_um, y_um, width_um))) or width_um <= 0:
        msg = f'give x,y,width in µm, such as 3000,2500,800, not "{text}".'
        raise ValueError(msg)
    return x_um, y_um, width_um


@dataclass(frozen=True)
class Drawing:
    """How maps are drawn.

    Attributes
    ----------
    view
        Centre and width in µm of the part to show, X,Y,WIDTH (default: all spots).
    width_px
        Width of the picture in pixels (default 1600).
    dpi
        Dots per inch of the picture (default 150).
    dark
        Draw light text on a dark ground.
    title
        Line of text above the maps.
    colours
        Colour scale (default Viridis).
    opacity
        Opacity of the spots, above 0 and up to 1 (default 0.85).
    own_range
        Give each map a colour range of its own, instead of one for each unit.
    """

    view: Annotated[
        tuple[float, float, float] | None,
        Parameter(
            converter=_view,
            n_tokens=1,
            allow_leading_hyphen=True,
            group=_DRAWING,
            metavar="X,Y,WIDTH",
        ),
    ] = None
    width_px: Annotated[Whole, Parameter(group=_DRAWING)] = 1600
    dpi: Annotated[Number, Parameter(group=_DRAWING)] = 150.0
    dark: Annotated[bool, Parameter(group=_DRAWING)] = False
    title: Annotated[str, Parameter(group=_DRAWING)] = ""
    colours: Annotated[str, Parameter(group=_DRAWING)] = "Viridis"
    opacity: Annotated[Number, Parameter(group=_DRAWING)] = 0.85
    own_range: Annotated[bool, Parameter(group=_DRAWING)] = False


def draw_map(
    result: Path,
    /,
    *,
    layer: list[str],
    out: Out,
    slide: Path | None = None,
    regions: Path | None = None,
    overwrite: bool = False,
    drawing: Annotated[Drawing, Parameter(name="*")] = Drawing(),
    terminal: TerminalOptions = Terminal(),
) -> int:
    """Draw maps of a result as a picture, or as a web page to zoom in.

    Parameters
    ----------
    result
        Folder of a result, or its prediction.h5ad.
    layer
        Layer to draw, such as mean:GNAS, std:GNAS or domain; may be given up to six times.
    out
        File to write; it ends in .png, .svg or .html.
    slide
        H&E slide to draw on (default: the small picture in the result).
    regions
        GeoJSON file with outlines to draw.
    overwrite
        Replace a file that exists.
    """
    kind = out.suffix.lower()
    if kind not in _MAP_KINDS:
        msg = f"The output {out.name} has to end in {', '.join(_MAP_KINDS)}; rename it."
        raise SettingsError(msg)
    claim_output(out, overwrite=overwrite)
    from stem_core.files import atomic_write

    with ExitStack() as stack:
        temporary = stack.enter_context(atomic_write(out))  # before any work
        scene = _scene(_read(result), layer, drawing, slide, stack)
        if regions is not None:
            from dataclasses import replace

            outlines = _regions(regions, scene.width_px, scene.height_px)
            scene = replace(scene, regions=outlines)
        if kind == ".html":
            from app.maps.share import share_page

            content, note = share_page(scene), ""
        else:
            from app.maps.pictures import draw_picture

            picture = draw_picture(
                scene, kind[1:], width_px=drawing.width_px, dpi=drawing.dpi, dark=drawing.dark,
                title=drawing.title,
            )  # fmt: skip
            content, note = picture.content, picture.note
        temporary.write_bytes(content)
    if note:
        terminal.warn(note)
    terminal.say(f"Drew {len(scene.maps)} map(s) of {scene.slide_name}: {out}")
    return DONE


def export(
    result: Path,
    /,
    *,
    to: Literal["qupath", "tissuumaps", "spatialdata"],
    out: Out,
    genes: str | None = None,
    overwrite: bool = False,
    terminal: TerminalOptions = Terminal(),
) -> int:
    """Write a result for another program.

    Parameters
    ----------
    result
        Folder of a result, or its prediction.h5ad.
    to
        Format to write.
    out
        File or folder to write: a GeoJSON file for qupath, a folder or a .zip for tissuumaps, a
        zarr folder for spatialdata.
    genes
        Symbols of the genes to write, A,B (default: all).
    overwrite
        Replace an earlier export.
    """
    from stem_core.prediction.exchange import write_qupath, write_tissuumaps

    if to == "spatialdata" and genes is not None:
        msg = "A SpatialData store always holds all genes; leave --genes out."
        raise SettingsError(msg)
    is_file = to == "qupath" or (to == "tissuumaps" and out.suffix.lower() == ".zip")
    marks = ("stem.tmap",) if to == "tissuumaps" else ("zarr.json", ".zgroup")
    claim_output(out, overwrite=overwrite, marks=() if is_file else marks)
    chosen = None if genes is None else [g.strip() for g in genes.split(",") if g.strip()]
    prediction = _read(result)
    if to == "qupath":
        write_qupath(prediction, out, genes=chosen)
    elif to == "tissuumaps":
        write_tissuumaps(prediction, out, genes=chosen, overwrite=overwrite)
    else:
        from stem_core.prediction.exchange import write_spatialdata

        write_spatialdata(prediction, out, overwrite=overwrite)
    terminal.say(
        f"Wrote {len(prediction.spots)} spots of {prediction.slide_name} for {to}: "
        f"{out}\nFor research use only."
    )
    return DONE


def _read(result: Path) -> Prediction:
    """Read a result that was named by its folder or by its h5ad."""
    from stem_core.prediction.result import read_prediction

    return read_prediction(result / "prediction.h5ad" if result.is_dir() else result)


def _scene(
    prediction: Prediction,
    layers: list[str],
    drawing: Drawing,
    slide_file: Path | None,
    stack: ExitStack,
) -> Scene:
    from app.maps.panels import View
    from app.maps.scene import scene_of_layers

    slide = None
    if slide_file is not None:
        from stem_core.slides.reading import open_slide

        slide = stack.enter_context(open_slide(slide_file, mpp=prediction.mpp))
    return scene_of_layers(
        prediction, layers, colours=drawing.colours, opacity=drawing.opacity,
        own_range=drawing.own_range, view=View(*drawing.view) if drawing.view else None,
        slide=slide,
    )  # fmt: skip


def _regions(path: Path, width_px: int, height_px: int) -> tuple[Region, ...]:
    from stem_core.analysis.region_files import read_regions

    try:
        if path.stat().st_size > _MOST_REGION_BYTES:
            msg = f"{path.name} is larger than 100 MB; export fewer regions."
            raise SettingsError(msg)
        content = path.read_bytes()
    except OSError as error:
        msg = f"The regions {path} cannot be read ({error.strerror or error}); name another file."
        raise SettingsError(msg) from error
    return read_regions(content, width_px, height_px, source=path.name)
