"""The command line: `stem predict | evaluate | zoo | app | worker | doctor`.

Exit codes: 0 done; 2 bad input or usage, with exactly one line on standard error; 130 interrupted;
1 a fault of ours, with one line that names the log. Heavy imports wait until a command needs them.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from app.terminal import Notes, ProgressBar, one_line, quiet_stderr
from stem_core.errors import Cancelled, OutputError, SettingsError, StemError

if TYPE_CHECKING:
    from stem_core.prediction.predictor import SamplingSettings
    from stem_core.slides.reading import Slide
    from stem_core.slides.spots import Spots
    from stem_core.slides.tissue import TissueMask
    from zoo.manifest import Manifest

__all__ = ["build_parser", "main"]

LOG = logging.getLogger("app.cli")

DONE, FAULT, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
PRESETS = ("preview", "standard", "published")
LAYOUTS = ("visium", "st", "grid")
LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 8501

_interrupted = threading.Event()


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
        _interrupted.clear()
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
        if _interrupted.is_set():  # an import that Ctrl-C broke off fails with another error
            return _say_interrupted(stream)
        from app.faults import fault_sentence, record_fault

        reference = record_fault(error, f"stem {args.command}")
        print(f"stem: {one_line(fault_sentence(reference))}", file=stream)
        return FAULT


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Stop at Ctrl-C, and remember it: code in C may swallow the exception."""
    _interrupted.set()
    raise KeyboardInterrupt


def _say_interrupted(stream: TextIO) -> int:
    print("stem: Interrupted; nothing was written.", file=stream)
    return INTERRUPTED


# --- the commands -------------------------------------------------------------------------------


def _predict(args: argparse.Namespace, stream: TextIO) -> int:
    from dataclasses import replace

    from stem_core.prediction.export import claim_output_dir, write_prediction

    out_dir = claim_output_dir(args.out, args.overwrite)

    from stem_core.slides.reading import open_slide
    from stem_core.slides.tissue import find_tissue
    from zoo.registry import find_model

    entry = find_model(args.model)
    notes = Notes(stream)
    with notes.listening(), open_slide(args.image, mpp=args.mpp) as slide:
        slide.require_mpp()
        tissue = find_tissue(slide)
        spots = _choose_spots(args, slide, tissue, entry.manifest)
        _warn_if_unlike(spots, entry.manifest)

        from stem_core.prediction.predictor import Predictor
        from zoo.loader import load_model

        settings = _sampling(args, entry.manifest)
        predictor = Predictor(load_model(entry.folder), device=args.device)
        bar = ProgressBar(stream)
        try:
            prediction = predictor.predict(
                slide,
                spots,
                settings,
                tissue=tissue,
                progress=bar,
                should_stop=_interrupted.is_set,
            )
        finally:
            bar.close()
    prediction = replace(prediction, run={**prediction.run, "command": _as_typed(args.arguments)})
    write_prediction(prediction, out_dir, overwrite=args.overwrite)
    notes.tell()
    print(
        f"Predicted {len(prediction.symbols)} genes at {len(spots)} spots of {args.image.name} "
        f"with {entry.name}: {out_dir}\nFor research use only."
    )
    return DONE


def _choose_spots(
    args: argparse.Namespace, slide: Slide, tissue: TissueMask, manifest: Manifest
) -> Spots:
    """Return the measured spots, the layout asked for, or the layout of the training platform."""
    from stem_core.slides.spots import lay_out_spots, read_spots

    layout = manifest.layout
    if args.spots is not None:
        if args.pitch_um is not None:
            msg = (
                "--pitch-um lays spots out, but --spots gives measured ones; leave one of them out."
            )
            raise SettingsError(msg)
        spots = read_spots(args.spots, slide, diameter_um=layout.spot_diameter_um)
        return spots.with_tissue(tissue, slide.require_mpp())
    if args.layout is not None:
        return lay_out_spots(slide, tissue, args.layout, pitch_um=args.pitch_um)
    return lay_out_spots(
        slide,
        tissue,
        layout.kind,
        pitch_um=layout.pitch_um if args.pitch_um is None else args.pitch_um,
        diameter_um=layout.spot_diameter_um,
    )


def _warn_if_unlike(spots: Spots, manifest: Manifest) -> None:
    """Warn when spots differ from those of the training platform by more than a quarter."""
    layout = manifest.layout
    ratios = (spots.pitch_um / layout.pitch_um, spots.diameter_um / layout.spot_diameter_um)
    if not any(ratio < 0.8 or ratio > 1.25 for ratio in ratios):  # an unknown pitch is not a number
        return
    LOG.warning(
        "The spots (%.0f µm wide, %.0f µm apart) are unlike those that %s was trained on "
        "(%.0f µm wide, %.0f µm apart, %s); take the values with care.",
        spots.diameter_um,
        spots.pitch_um,
        manifest.name,
        layout.spot_diameter_um,
        layout.pitch_um,
        manifest.platform,
    )


def _sampling(args: argparse.Namespace, manifest: Manifest) -> SamplingSettings:
    """Return the preset's settings with those of the command line put over them."""
    from stem_core.prediction.predictor import SamplingSettings

    preset = getattr(manifest.presets, args.preset)
    return SamplingSettings(
        sampler=preset.sampler if args.sampler is None else args.sampler,
        steps=preset.steps if args.steps is None else args.steps,
        samples=preset.samples if args.samples is None else args.samples,
        seed=args.seed,
    )


def _evaluate(args: argparse.Namespace, stream: TextIO) -> int:
    import json

    from stem_core.evaluation.metrics import evaluate_files

    if args.json is not None and not args.json.absolute().parent.is_dir():
        msg = f"The folder of {args.json} does not exist; make it or name another file."
        raise OutputError(msg)
    figures = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in evaluate_files(args.prediction, args.truth).items()
    }
    text = json.dumps(figures, indent=2, allow_nan=False) + "\n"
    if args.json is None:
        sys.stdout.write(text)
    else:
        _write_text(args.json, text)
    return DONE


def _zoo_list(args: argparse.Namespace, stream: TextIO) -> int:
    from zoo.registry import list_models

    entries = list_models()
    if args.json:
        import json

        rows = [_model_facts(entry.name, entry.source, entry.manifest) for entry in entries]
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return DONE
    table = [("NAME", "TISSUE", "SPECIES", "PLATFORM", "GENES", "HELD-OUT PCC", "SOURCE")]
    for entry in entries:
        manifest = entry.manifest
        low, high = manifest.held_out.pcc_all_range
        table.append(
            (
                entry.name,
                manifest.tissue,
                manifest.species,
                manifest.platform,
                str(len(manifest.panel)),
                f"{manifest.held_out.pcc_all_mean:.2f} ({low:.2f} to {high:.2f})",
                str(entry.source),
            )
        )
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for row in table:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
    return DONE


def _model_facts(name: str, source: object, manifest: Manifest) -> dict[str, Any]:
    facts = manifest.model_dump(
        mode="json",
        include={
            "version",
            "title",
            "tissue",
            "organ",
            "species",
            "platform",
            "disease",
            "units",
            "layout",
            "presets",
            "training_slides",
            "licences",
        },
    )
    return {
        "name": name,
        "source": str(source),
        **facts,
        "n_genes": len(manifest.panel),
        "held_out": {
            "pcc_all_mean": manifest.held_out.pcc_all_mean,
            "pcc_all_range": list(manifest.held_out.pcc_all_range),
            "protocol": manifest.held_out.protocol,
        },
    }


def _app(args: argparse.Namespace, stream: TextIO) -> int:
    from app.launch import serve

    if args.host not in (LOOPBACK, "localhost", "::1"):
        print(
            f"Warning: The app will answer on {args.host}, where others may reach it; it has no "
            "login of its own.",
            file=stream,
        )
    serve(args.port, args.host)
    return DONE


def _worker(args: argparse.Namespace, stream: TextIO) -> int:
    from app.jobs.worker import run_worker

    run_worker()
    return DONE


def _doctor(args: argparse.Namespace, stream: TextIO) -> int:
    from app.doctor import examine, report

    findings = examine()
    if args.json:
        import json

        print(json.dumps(findings, indent=2))
    else:
        print(report(findings))
    problems = findings["problems"]
    if problems:
        print(f"stem: {len(problems)} found: {one_line('; '.join(problems))}", file=stream)
        return BAD_INPUT
    return DONE


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
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    predict = _command(commands, "predict", _predict, "predict expression for one slide")
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
    predict.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    predict.add_argument(
        "--overwrite", action="store_true", help="replace a result that is in DIR already"
    )

    evaluate = _command(commands, "evaluate", _evaluate, "compare a prediction with measurements")
    evaluate.add_argument("prediction", metavar="PREDICTION.h5ad", type=Path)
    evaluate.add_argument(
        "--truth", required=True, type=Path, metavar="SECTION.h5ad", help="measured raw counts"
    )
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="default: standard output")

    zoo = commands.add_parser("zoo", help="the pretrained models", allow_abbrev=False)
    actions = zoo.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = _command(actions, "list", _zoo_list, "list the models with their held-out figures")
    listing.add_argument("--json", action="store_true", help="for programs")

    serve = _command(commands, "app", _app, "start the web pages", serves=True)
    serve.add_argument("--port", type=_port, default=DEFAULT_PORT, metavar="N")
    serve.add_argument("--host", default=LOOPBACK, metavar="H", help="default: this machine only")
    _command(commands, "worker", _worker, "run queued predictions", serves=True)

    doctor = _command(commands, "doctor", _doctor, "show versions, device, folders and models")
    doctor.add_argument("--json", action="store_true", help="for programs")
    return parser


def _command(
    commands: Any,
    name: str,
    run: Callable[[argparse.Namespace, TextIO], int],
    summary: str,
    *,
    serves: bool = False,
) -> argparse.ArgumentParser:
    """Add a command with its function."""
    parser: argparse.ArgumentParser = commands.add_parser(
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


def _port(text: str) -> int:
    """Return a port number."""
    value = int(text)
    if not 0 <= value <= 65535:
        msg = f"{value} is no port; choose one from 1 to 65535, or 0 for a free one"
        raise argparse.ArgumentTypeError(msg)
    return value


_number.__name__, _port.__name__ = "number", "port number"  # argparse: "invalid number value"


# --- small things -------------------------------------------------------------------------------


def _as_typed(arguments: list[str]) -> str:
    """Return the command for the run record, without the folders of this machine."""
    return shlex.join(["stem", *(Path(item).name if "/" in item else item for item in arguments)])


def _write_text(path: Path, text: str) -> None:
    """Write a file aside and rename it; a device such as /dev/stdout is written as it is."""
    try:
        if path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8")
            return
        aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            aside.write_text(text, encoding="utf-8")
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        msg = f"The file {path} cannot be written ({error.strerror or error}); name another one."
        raise OutputError(msg) from error


if __name__ == "__main__":
    sys.exit(main())
