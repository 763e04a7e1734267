"""What `stem map` and `stem export` do: a finished result as pictures, pages and other formats."""

from __future__ import annotations

import argparse
import math
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from app.exit_codes import DONE
from stem_core.errors import SettingsError

if TYPE_CHECKING:
    from app.maps.scene import Scene
    from stem_core.analysis.regions import Region
    from stem_core.prediction.result import Prediction

__all__ = ["EXPORTS", "draw_map", "export", "view_numbers"]

EXPORTS = ("qupath", "tissuumaps", "spatialdata")
_MAP_KINDS = (".png", ".svg", ".html")
_MOST_REGION_BYTES = 100_000_000


def draw_map(args: argparse.Namespace, stream: TextIO) -> int:
    """Draw maps of a result as PNG, SVG or a page of its own."""
    kind = args.out.suffix.lower()
    if kind not in _MAP_KINDS:
        msg = f"The output {args.out.name} has to end in {', '.join(_MAP_KINDS)}; rename it."
        raise SettingsError(msg)
    from stem_core.prediction.exchange import replaced_whole

    with ExitStack() as stack:
        aside = stack.enter_context(replaced_whole(args.out))  # before any work
        scene = _scene(args, stack)
        if kind == ".html":
            from app.maps.share import share_page

            content, note = share_page(scene), ""
        else:
            from app.maps.pictures import draw_picture

            picture = draw_picture(
                scene, kind[1:], width_px=args.width_px, dpi=args.dpi, dark=args.dark,
                title=args.title,
            )  # fmt: skip
            content, note = picture.content, picture.note
        aside.write_bytes(content)
    if note:
        print(f"Warning: {note}", file=stream)
    print(f"Drew {len(scene.maps)} map(s) of {scene.slide_name}: {args.out}")
    return DONE


def export(args: argparse.Namespace, stream: TextIO) -> int:
    """Write a result for another program."""
    from stem_core.prediction.exchange import write_qupath, write_tissuumaps

    if args.to == "spatialdata" and args.genes is not None:
        msg = "A SpatialData store always holds all genes; leave --genes out."
        raise SettingsError(msg)
    genes = None if args.genes is None else [g.strip() for g in args.genes.split(",") if g.strip()]
    prediction = _read(args.result)
    if args.to == "qupath":
        write_qupath(prediction, args.out, genes=genes)
    elif args.to == "tissuumaps":
        write_tissuumaps(prediction, args.out, genes=genes)
    else:
        from stem_core.prediction.exchange_zarr import write_spatialdata

        write_spatialdata(prediction, args.out)
    print(
        f"Wrote {len(prediction.spots)} spots of {prediction.slide_name} for {args.to}: "
        f"{args.out}\nFor research use only."
    )
    return DONE


def view_numbers(text: str) -> tuple[float, float, float]:
    """Read the part to show, `x,y,width` in µm, as the address of the Maps page has it."""
    parts = [float(part) for part in text.split(",")]
    if len(parts) != 3 or not all(map(math.isfinite, parts)) or parts[2] <= 0:
        raise ValueError(text)
    return parts[0], parts[1], parts[2]


view_numbers.__name__ = "x,y,width in µm"  # argparse: "invalid x,y,width in µm value"


def _read(result: Path) -> Prediction:
    """Read a result that was named by its folder or by its h5ad."""
    from stem_core.prediction.result import read_prediction

    return read_prediction(result / "prediction.h5ad" if result.is_dir() else result)


def _scene(args: argparse.Namespace, stack: ExitStack) -> Scene:
    from app.maps.panels import COLOUR_SCALES, Look, View, panels_of
    from app.maps.picture_layout import MOST_MAPS
    from app.maps.scene import scene_of_result
    from app.maps.values import MapValues

    if len(args.layer) > MOST_MAPS:
        msg = f"Up to {MOST_MAPS} maps are drawn, not {len(args.layer)}; leave some --layer out."
        raise SettingsError(msg)
    if not 0 < args.opacity <= 1:
        msg = f"The opacity {args.opacity:g} is not between 0 and 1; choose one like 0.85."
        raise SettingsError(msg)
    scale = next((s for s in COLOUR_SCALES if s.lower() == args.colours.lower()), None)
    if scale is None:
        msg = f"There are no colours {args.colours!r}; choose one of {', '.join(COLOUR_SCALES)}."
        raise SettingsError(msg)
    prediction = _read(args.result)
    values = MapValues(prediction)
    panels = panels_of(values, args.layer, scale, (1, 99), shared=not args.own_range)
    slide = None
    if args.slide is not None:
        from stem_core.slides.reading import open_slide

        slide = stack.enter_context(open_slide(args.slide, mpp=prediction.mpp))
    view = View(*args.view) if args.view else None
    scene = scene_of_result(prediction, values, panels, Look(args.opacity), view, (), slide)
    if args.regions is not None:
        from dataclasses import replace

        scene = replace(scene, regions=_regions(args.regions, scene.width_px, scene.height_px))
    return scene


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
