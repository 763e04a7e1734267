"""The command line: `stem predict | map | export | evaluate | train | zoo | app | worker | doctor`.

Exit codes: 0 done; 2 bad input or usage, with exactly one line on standard error; 130 interrupted;
1 a fault of ours, with one line that names the log. Heavy imports wait until a command needs them.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from app import (
    commands,
    evaluation_commands,
    map_commands,
    section_commands,
    training_commands,
    zoo_commands,
)
from app.terminal import CTRL_C, one_line, quiet_stderr
from stem_core.errors import Cancelled, StemError

if TYPE_CHECKING:
    pass

__all__ = ["build_parser", "main"]

DONE, FAULT, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
PRESETS = ("preview", "standard", "published")
LAYOUTS = ("visium", "st", "grid")
LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 8501


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv
        The arguments after `stem`; those of the process by default.

    Returns
    -------
    int
        The exit code.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(arguments)
    args.arguments = arguments
    if threading.current_thread() is threading.main_thread():
        # A shell starts background commands with Ctrl-C ignored; being asked to stop still counts.
        CTRL_C.clear()
        signal.signal(signal.SIGINT, _interrupt)
    if args.serves:  # the servers' own messages belong on the terminal
        return _finish(args, sys.stderr)
    with quiet_stderr() as stream:
        return _finish(args, stream)


def _finish(args: argparse.Namespace, stream: TextIO) -> int:
    """Run the chosen command and turn what it raises into one line and an exit code."""
    try:
        code: int = args.run(args, stream)
        sys.stdout.flush()
        return code
    except (KeyboardInterrupt, Cancelled):
        return _say_interrupted(stream)
    except StemError as error:
        print(f"stem: {one_line(error)}", file=stream)
        return BAD_INPUT
    except BrokenPipeError:
        # The reader of our output went away, as `head` does: nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:  # noqa: BLE001 - the last line of defence: log it, say one line
        if CTRL_C.is_set():  # an import that Ctrl-C broke off fails with another error
            return _say_interrupted(stream)
        from app.faults import fault_sentence, record_fault

        reference = record_fault(error, f"stem {args.command}")
        print(f"stem: {one_line(fault_sentence(reference))}", file=stream)
        return FAULT


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Stop at Ctrl-C, and remember it: code in C may swallow the exception."""
    CTRL_C.set()
    raise KeyboardInterrupt


def _say_interrupted(stream: TextIO) -> int:
    print("stem: Interrupted; nothing was written.", file=stream)
    return INTERRUPTED


# --- what can be typed --------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the usage, in one line, and leave."""
        self.exit(BAD_INPUT, f"{self.prog}: {one_line(message)} (see {self.prog} --help)\n")


class _Version(argparse.Action):
    """Print the version; looked up only when asked."""

    def __call__(self, parser: argparse.ArgumentParser, *_args: object) -> NoReturn:
        """Print and leave."""
        from importlib.metadata import version

        print(f"stem {version('stem-in-a-browser')}")
        parser.exit(DONE)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = _Parser(
        prog="stem",
        description="Predict spatial gene expression from H&E images. For research use only.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and leave")
    choices = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    predict = _command(choices, "predict", commands.predict, "predict expression for one slide")
    predict.add_argument("image", metavar="IMAGE", type=Path, help="the H&E slide or image")
    predict.add_argument("--model", required=True, metavar="NAME", help="see `stem zoo list`")
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
    predict.add_argument("--pitch-um", type=_number, metavar="F", help="distance between spots, µm")
    predict.add_argument("--mpp", type=_number, metavar="F", help="µm per pixel of the image")
    predict.add_argument("--preset", choices=PRESETS, default="standard", help="speed or detail")
    predict.add_argument("--steps", type=int, metavar="N", help="sampling steps (over the preset)")
    predict.add_argument("--samples", type=int, metavar="K", help="draws a spot (over the preset)")
    predict.add_argument("--sampler", metavar="NAME", help="sampling method (over the preset)")
    predict.add_argument("--seed", type=int, default=0, metavar="N", help="default 0")
    predict.add_argument(
        "--device", type=_device, default="auto", metavar="D", help="auto, cpu, cuda or cuda:N"
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

    evaluate = _command(
        choices, "evaluate", evaluation_commands.evaluate, "compare a prediction with measurements"
    )
    evaluate.add_argument("prediction", metavar="PREDICTION.h5ad", type=Path)
    evaluate.add_argument(
        "--truth", required=True, type=Path, metavar="SECTION.h5ad", help="measured raw counts"
    )
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="default: standard output")
    evaluate.add_argument(
        "--report", type=Path, metavar="DIR", help="write report.html and report.json there"
    )

    zoo = choices.add_parser("zoo", help="the pretrained models", allow_abbrev=False)
    actions = zoo.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add_zoo_actions(actions)

    _add_train(choices)

    sections = choices.add_parser(
        "sections", help="measured sections for training", allow_abbrev=False
    )
    _add_section_actions(sections.add_subparsers(dest="action", metavar="ACTION", required=True))

    benchmark = choices.add_parser("benchmark", help="measure this machine", allow_abbrev=False)
    subjects = benchmark.add_subparsers(dest="subject", metavar="SUBJECT", required=True)
    sampler = _command(
        subjects, "sampler", commands.benchmark_sampler, "time the presets and the published way"
    )
    sampler.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    sampler.add_argument(
        "--models", nargs="+", default=[], metavar="NAME", help="default: all, and published-size"
    )
    sampler.add_argument(
        "--device", type=_device, default="auto", metavar="D", help="auto, cpu, cuda or cuda:N"
    )

    serve = _command(choices, "app", commands.serve_pages, "start the web pages", serves=True)
    serve.add_argument("--port", type=_port, default=DEFAULT_PORT, metavar="N")
    serve.add_argument("--host", default=LOOPBACK, metavar="H", help="default: this machine only")
    serve.add_argument(
        "--workers", type=_workers, default=1, metavar="N", help="one per GPU (default 1)"
    )
    _command(choices, "worker", commands.work, "run queued predictions", serves=True)

    doctor = _command(
        choices, "doctor", commands.doctor, "show versions, device, folders and models"
    )
    doctor.add_argument("--json", action="store_true", help="for programs")
    doctor.add_argument(
        "--gated", action="store_true", help="also ask the Hub which encoders are open to you"
    )
    return parser


def _add_map(choices: Any) -> None:
    """Add `stem map`."""
    maps = _command(choices, "map", map_commands.draw_map, "draw maps of a result as a picture")
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
    maps.add_argument("--dpi", type=_number, default=150.0, metavar="N", help="default 150")
    maps.add_argument("--dark", action="store_true", help="light text on a dark ground")
    maps.add_argument("--title", default="", metavar="TEXT", help="a line above the maps")
    maps.add_argument("--colours", default="Viridis", metavar="NAME", help="default Viridis")
    maps.add_argument("--opacity", type=_number, default=0.85, metavar="F", help="of the spots")
    maps.add_argument(
        "--own-range", action="store_true", help="a colour range for each map, not one for a unit"
    )


def _add_export(choices: Any) -> None:
    """Add `stem export`."""
    exported = _command(
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


def _add_train(choices: Any) -> None:
    """Add `stem train`."""
    train = _command(choices, "train", training_commands.train, "train a model from its recipe")
    train.add_argument("recipe", metavar="RECIPE.yaml", type=Path)
    train.add_argument("--data", type=Path, metavar="DIR", help="folder with the sections")
    train.add_argument(
        "--out", type=Path, metavar="DIR", help="the model folder (default: trained/NAME)"
    )
    train.add_argument(
        "--work", type=Path, metavar="DIR", help="for all else (default: beside it, NAME.training)"
    )
    train.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="put over the recipe, such as training.denoiser.steps=500 (may be repeated)",
    )
    train.add_argument(
        "--check", action="store_true", help="check the recipe (and the data), train nothing"
    )
    train.add_argument("--resume", action="store_true", help="go on with a broken-off training")
    train.add_argument(
        "--device", type=_device, default="auto", metavar="D", help="auto, cpu, cuda or cuda:N"
    )
    train.add_argument(
        "--processes", type=_workers, default=1, metavar="N", help="on this machine, one per GPU"
    )


def _add_zoo_actions(actions: Any) -> None:
    """Add `stem zoo …`."""
    listing = _command(
        actions, "list", zoo_commands.list_all, "list the models with their held-out figures"
    )
    listing.add_argument("--json", action="store_true", help="for programs")
    info = _command(actions, "info", zoo_commands.info, "show everything known of a model")
    info.add_argument("name", metavar="NAME")
    info.add_argument("--json", action="store_true", help="for programs")
    pull = _command(actions, "pull", zoo_commands.pull, "fetch a model from the Hugging Face Hub")
    pull.add_argument("name", metavar="NAME")
    pull.add_argument(
        "--update", action="store_true", help="take the newest revision of an unpinned model"
    )
    encoder = _command(
        actions, "pull-encoder", zoo_commands.pull_encoder, "fetch the weights of an encoder"
    )
    encoder.add_argument("name", metavar="NAME", help="see `stem doctor --gated`")
    source = encoder.add_mutually_exclusive_group()
    source.add_argument("--update", action="store_true", help="take the newest revision")
    source.add_argument(
        "--file", type=Path, metavar="FILE", help="take its published file, fetched by other means"
    )
    verify = _command(
        actions, "verify", zoo_commands.verify, "compare a model's files with what was recorded"
    )
    verify.add_argument("name", metavar="NAME", nargs="?", help="default: all that are here")
    remove = _command(actions, "remove", zoo_commands.remove, "remove a model that was pulled")
    remove.add_argument("name", metavar="NAME")
    push = _command(actions, "push", zoo_commands.push, "publish a model folder on the Hub")
    push.add_argument("folder", metavar="DIR", type=Path)
    push.add_argument("repo", metavar="ORG/NAME")
    push.add_argument("--private", action="store_true", help="for yourself and your organisation")
    push.add_argument("--dry-run", action="store_true", help="check and tell, send nothing")
    convert = _command(
        actions, "convert", zoo_commands.convert, "turn a published checkpoint into a model folder"
    )
    convert.add_argument("checkpoint", metavar="CHECKPOINT.pt", type=Path)
    convert.add_argument(
        "--genes", required=True, type=Path, metavar="LIST.txt", help="symbols, one a line"
    )
    convert.add_argument("--out", required=True, type=Path, metavar="DIR", help="an empty folder")
    convert.add_argument(
        "--name", metavar="NAME", help="of the model; known ones bring their facts"
    )
    for fact in ("title", "tissue", "organ", "species", "platform", "disease"):
        convert.add_argument(f"--{fact}", metavar="TEXT", help="for the manifest")
    convert.add_argument(
        "--encoders", metavar="A,B", help="in order (default: the publication's, uni,conch)"
    )
    convert.add_argument(
        "--weights", choices=("auto", "ema", "model"), default="auto", help="of a training state"
    )
    convert.add_argument("--heads", type=int, metavar="N", help="attention heads, if not said")


def _add_section_actions(actions: Any) -> None:
    """Add `stem sections …`."""
    check = _command(
        actions, "check", section_commands.check, "check measured sections before training on them"
    )
    check.add_argument("folder", metavar="DIR", type=Path, help="in the layout of HEST-1k")
    check.add_argument("ids", metavar="ID", nargs="*", help="default: all that are there")
    check.add_argument(
        "--pitch-um", type=_number, metavar="F", help="distance between spots, if not said, µm"
    )
    download = _command(
        actions, "download", section_commands.download, "fetch sections of HEST-1k from the Hub"
    )
    download.add_argument("ids", metavar="ID", nargs="*", help="HEST ids; none: metadata of all")
    download.add_argument("--to", required=True, type=Path, metavar="DIR")
    download.add_argument("--metadata", action="store_true", help="the metadata of all, too")
    download.add_argument("--dataset", default="MahmoodLab/hest", metavar="ORG/NAME")
    download.add_argument("--revision", metavar="R", help="default: the newest")


def _command(
    choices: Any,
    name: str,
    run: Callable[[argparse.Namespace, TextIO], int],
    summary: str,
    *,
    serves: bool = False,
) -> argparse.ArgumentParser:
    """Add a command with its function."""
    parser: argparse.ArgumentParser = choices.add_parser(
        name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", allow_abbrev=False
    )
    parser.set_defaults(run=run, serves=serves)
    return parser


def _number(text: str) -> float:
    """Return a finite number."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _device(text: str) -> str:
    """Return the name of a device, which need not be there."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", text):
        msg = f"there is no device '{text}'; choose auto, cpu, cuda or cuda:N"
        raise argparse.ArgumentTypeError(msg)
    return text


def _port(text: str) -> int:
    """Return a port number."""
    value = int(text)
    if not 0 <= value <= 65535:
        msg = f"{value} is no port; choose one from 1 to 65535, or 0 for a free one"
        raise argparse.ArgumentTypeError(msg)
    return value


def _workers(text: str) -> int:
    """Return a number of workers."""
    value = int(text)
    if not 1 <= value <= 64:
        msg = f"{value} workers cannot be; choose 1 to 64"
        raise argparse.ArgumentTypeError(msg)
    return value


_number.__name__, _port.__name__, _workers.__name__ = (
    "number",
    "port number",
    "number",
)  # argparse: "invalid number value"


if __name__ == "__main__":
    sys.exit(main())
