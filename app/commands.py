"""What the commands of `stem` do; `app.cli` reads the arguments and turns errors into exit codes.

Each command takes the parsed arguments and the stream that stands for standard error. Heavy
imports wait inside, so that `stem --help` and usage errors are quick.
"""

from __future__ import annotations

import argparse
import logging
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from app.exit_codes import BAD_INPUT, DONE
from app.terminal import CTRL_C, Notes, ProgressBar, one_line
from stem_core.errors import OutputError, SettingsError
from stem_core.files import write_atomically

if TYPE_CHECKING:
    from stem_core.prediction.predictor import SamplingSettings
    from stem_core.slides.reading import Slide
    from stem_core.slides.spots import Spots
    from stem_core.slides.tissue import TissueMask
    from zoo.manifest import Manifest

__all__ = [
    "benchmark_sampler",
    "doctor",
    "predict",
    "require_folder",
    "serve_pages",
    "work",
    "write_text",
]

LOG = logging.getLogger("app.commands")

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def predict(args: argparse.Namespace, stream: TextIO) -> int:
    """Predict expression for one slide and write the result."""
    from dataclasses import replace

    from stem_core.prediction.export import claim_output_dir, write_prediction

    out_dir = claim_output_dir(args.out, args.overwrite)

    from stem_core.slides.reading import open_slide
    from stem_core.slides.tissue import find_tissue
    from zoo.registry import open_model

    entry = open_model(args.model)
    notes = Notes(stream)
    with notes.listening(), open_slide(args.image, mpp=args.mpp) as slide:
        slide.require_mpp()
        tissue = find_tissue(slide)
        spots = _choose_spots(args, slide, tissue, entry.manifest)
        from app.spots import unlike_training

        if warning := unlike_training(spots, entry.manifest.layout):
            LOG.warning("%s", warning)

        from stem_core.prediction.predictor import Predictor
        from zoo.loader import load_model

        settings = _sampling(args, entry.manifest)
        predictor = Predictor(load_model(entry.folder), args.device, args.precision)
        bar = ProgressBar(stream)
        try:
            prediction = predictor.predict(
                slide,
                spots,
                settings,
                tissue=tissue,
                progress=bar,
                should_stop=CTRL_C.is_set,
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
    from app.spots import place_spots

    if args.spots is not None and args.pitch_um is not None:
        msg = "--pitch-um lays spots out, but --spots gives measured ones; leave one of them out."
        raise SettingsError(msg)
    return place_spots(
        slide,
        tissue,
        manifest.layout,
        file=args.spots,
        layout=args.layout,
        pitch_um=args.pitch_um,
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


def benchmark_sampler(args: argparse.Namespace, stream: TextIO) -> int:
    """Time the sampler's presets against the published procedure."""
    import json

    from app.benchmark import benchmark_sampler, sampler_table

    if args.json is not None:
        require_folder(args.json)
    found = benchmark_sampler(
        args.device, args.models, lambda what: print(f"Timing {what} …", file=stream, flush=True)
    )
    print(sampler_table(found))
    if args.json is not None:
        write_text(args.json, json.dumps(found, indent=2) + "\n")
    return DONE


def serve_pages(args: argparse.Namespace, stream: TextIO) -> int:
    """Serve the pages until stopped."""
    from app.launch import serve

    if args.host not in LOOPBACK:
        print(
            f"Warning: The app will answer on {args.host}, where others may reach it; it has no "
            "login of its own.",
            file=stream,
        )
    serve(args.port, args.host, args.workers)
    return DONE


def work(args: argparse.Namespace, stream: TextIO) -> int:
    """Run queued predictions until stopped."""
    from app.jobs.worker import run_worker

    run_worker()
    return DONE


def doctor(args: argparse.Namespace, stream: TextIO) -> int:
    """Show the state of this installation."""
    from app.doctor import examine, report

    findings = examine(gated=args.gated)
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


def _as_typed(arguments: list[str]) -> str:
    """Return the command for the run record, without the folders of this machine."""
    return shlex.join(["stem", *(Path(item).name if "/" in item else item for item in arguments)])


def require_folder(path: Path) -> None:
    """Refuse a file whose folder does not exist, before any work."""
    if not path.absolute().parent.is_dir():
        msg = f"The folder of {path} does not exist; make it or name another file."
        raise OutputError(msg)


def write_text(path: Path, text: str) -> None:
    """Write a file aside and rename it; a device such as /dev/stdout is written as it is."""
    try:
        if path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8")
            return
        write_atomically(path, text)
    except OSError as error:
        msg = f"The file {path} cannot be written ({error.strerror or error}); name another one."
        raise OutputError(msg) from error
