"""The arguments of all commands of `stem`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from app import commands, evaluation_commands, map_commands
from app.argument_kinds import (
    OneLineParser,
    ShowVersion,
    add_command,
    device,
    number,
    port_number,
    worker_count,
)
from app.zoo_arguments import add_section_actions, add_train, add_zoo_actions

__all__ = ["build_parser"]

PRESETS = ("preview", "standard", "published")
LAYOUTS = ("visium", "st", "grid")
LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 8501


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = OneLineParser(
        prog="stem",
        description="Predict spatial gene expression from H&E images. For research use only.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version", action=ShowVersion, nargs=0, help="print the version and leave"
    )
    choices = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    predict = add_command(choices, "predict", commands.predict, "predict expression for one slide")
    predict.add_argument("image", metavar="IMAGE", type=Path, help="the H&E slide or image")
    predict.add_argument(
        "--model", required=True, metavar="NAME",
        help="see `stem zoo list`; or the path of a model folder, such as ./trained/NAME",
    )  # fmt: skip
    predict.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="folder for the result"
    )
    where = predict.add_mutually_exclusive_group()
    where.add_argument(
        "--spots",
        type=Path,
        metavar="FILE",
        help="measured spots: h5ad, Space Ranger's tissue_positions or a CSV with x_px,y_px",
    )
    where.add_argument(
        "--layout", choices=LAYOUTS, help="lay spots out on tissue (default: as the model's)"
    )
    predict.add_argument("--pitch-um", type=number, metavar="F", help="distance between spots, µm")
    predict.add_argument("--mpp", type=number, metavar="F", help="µm per pixel of the image")
    predict.add_argument("--preset", choices=PRESETS, default="standard", help="speed or detail")
    predict.add_argument("--steps", type=int, metavar="N", help="sampling steps (over the preset)")
    predict.add_argument("--samples", type=int, metavar="K", help="draws a spot (over the preset)")
    predict.add_argument("--sampler", metavar="NAME", help="sampling method (over the preset)")
    predict.add_argument("--seed", type=int, default=0, metavar="N", help="default 0")
    predict.add_argument(
        "--device", type=device, default="auto", metavar="D", help="auto, cpu, cuda or cuda:N"
    )
    predict.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16"),
        default="auto",
        help="of the denoiser; auto: the faster one here",
    )
    predict.add_argument(
        "--overwrite", action="store_true", help="replace a result that is in DIR already"
    )

    _add_map(choices)
    _add_export(choices)

    evaluate = add_command(
        choices, "evaluate", evaluation_commands.evaluate, "compare a prediction with measurements"
    )
    evaluate.add_argument("prediction", metavar="PREDICTION.h5ad", type=Path)
    evaluate.add_argument(
        "--truth",
        required=True,
        type=Path,
        metavar="SECTION",
        help="measured raw counts: h5ad, or Space Ranger's outs as a folder or a zip",
    )
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="default: standard output")
    evaluate.add_argument(
        "--report", type=Path, metavar="DIR", help="write report.html and report.json there"
    )

    zoo = choices.add_parser("zoo", help="the pretrained models", allow_abbrev=False)
    actions = zoo.add_subparsers(dest="action", metavar="ACTION", required=True)
    add_zoo_actions(actions)

    add_train(choices)

    sections = choices.add_parser(
        "sections", help="measured sections for training", allow_abbrev=False
    )
    add_section_actions(sections.add_subparsers(dest="action", metavar="ACTION", required=True))

    benchmark = choices.add_parser("benchmark", help="measure this machine", allow_abbrev=False)
    subjects = benchmark.add_subparsers(dest="subject", metavar="SUBJECT", required=True)
    sampler = add_command(
        subjects, "sampler", commands.benchmark_sampler, "time the presets and the published way"
    )
    sampler.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    sampler.add_argument(
        "--models", nargs="+", default=[], metavar="NAME", help="default: all, and published-size"
    )
    sampler.add_argument(
        "--device", type=device, default="auto", metavar="D", help="auto, cpu, cuda or cuda:N"
    )

    serve = add_command(choices, "app", commands.serve_pages, "start the web pages", serves=True)
    serve.add_argument("--port", type=port_number, default=DEFAULT_PORT, metavar="N")
    serve.add_argument("--host", default=LOOPBACK, metavar="H", help="default: this machine only")
    serve.add_argument(
        "--workers", type=worker_count, default=1, metavar="N", help="one per GPU (default 1)"
    )
    add_command(choices, "worker", commands.work, "run queued predictions", serves=True)

    doctor = add_command(
        choices, "doctor", commands.doctor, "show versions, device, folders and models"
    )
    doctor.add_argument("--json", action="store_true", help="for programs")
    doctor.add_argument(
        "--gated", action="store_true", help="also ask the Hub which encoders are open to you"
    )
    return parser


def _add_map(choices: Any) -> None:
    """Add `stem map`."""
    maps = add_command(choices, "map", map_commands.draw_map, "draw maps of a result as a picture")
    maps.add_argument(
        "result", metavar="RESULT", type=Path, help="a result's folder, or its prediction.h5ad"
    )
    maps.add_argument(
        "--layer", action="append", required=True, metavar="LAYER",
        help="such as mean:GNAS, std:GNAS, domain; up to six times",
    )  # fmt: skip
    maps.add_argument(
        "--out", required=True, type=Path, metavar="FILE",
        help="ends in .png, .svg or .html (a page to zoom in)",
    )  # fmt: skip
    maps.add_argument(
        "--slide", type=Path, metavar="FILE",
        help="the H&E slide (default: the small picture in the result)",
    )  # fmt: skip
    maps.add_argument(
        "--view", type=map_commands.view_numbers, metavar="X,Y,WIDTH",
        help="centre and width in µm (default: all spots)",
    )  # fmt: skip
    maps.add_argument("--regions", type=Path, metavar="FILE", help="GeoJSON with outlines to draw")
    maps.add_argument("--width-px", type=int, default=1600, metavar="N", help="default 1600")
    maps.add_argument("--dpi", type=number, default=150.0, metavar="N", help="default 150")
    maps.add_argument("--dark", action="store_true", help="light text on a dark ground")
    maps.add_argument("--title", default="", metavar="TEXT", help="a line above the maps")
    maps.add_argument("--colours", default="Viridis", metavar="NAME", help="default Viridis")
    maps.add_argument("--opacity", type=number, default=0.85, metavar="F", help="of the spots")
    maps.add_argument(
        "--own-range", action="store_true", help="a colour range for each map, not one for a unit"
    )


def _add_export(choices: Any) -> None:
    """Add `stem export`."""
    exported = add_command(
        choices, "export", map_commands.export, "write a result for another program"
    )
    exported.add_argument(
        "result", metavar="RESULT", type=Path, help="a result's folder, or its prediction.h5ad"
    )
    exported.add_argument("--to", required=True, choices=map_commands.EXPORTS)
    exported.add_argument(
        "--out", required=True, type=Path, metavar="PATH",
        help="qupath: a GeoJSON file; tissuumaps: a folder or .zip; spatialdata: a zarr folder",
    )  # fmt: skip
    exported.add_argument("--genes", metavar="A,B", help="which genes (default: all)")
