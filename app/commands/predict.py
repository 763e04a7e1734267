"""`stem predict`: expression for one slide, or for several with one model."""

from __future__ import annotations

import csv
import io
import logging
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

from app.commands.options import Device, ModelName, OptionalNumber, OptionalWhole, Out
from app.commands.outputs import write_text
from app.commands.slide_lists import SUMMARY_FILE, SlideTask, list_slides, names_several
from app.terminal import (
    BAD_INPUT,
    CTRL_C,
    DONE,
    FAULT,
    INTERRUPTED,
    ProgressBar,
    Terminal,
    TerminalOptions,
    one_line,
)
from stem_core.errors import Cancelled, OutputError, SettingsError, StemError
from stem_core.model.config import LayoutKind

if TYPE_CHECKING:
    from app.commands.recorded_runs import RunRecord
    from stem_core.prediction.predictor import Predictor
    from stem_core.prediction.settings import SamplingSettings
    from stem_core.slides.reading import Slide
    from stem_core.slides.spots import Spots
    from stem_core.slides.tissue import TissueMask
    from zoo.registry import InstalledModel

__all__ = ["PlaceOptions", "SamplingOptions", "predict"]

LOG = logging.getLogger("app.commands.predict")

_PLACES = Group("Slide and spots", sort_key=40)
_SAMPLING = Group("Sampling", sort_key=50)
_NAMED_FAILURES = 5


@dataclass(frozen=True)
class PlaceOptions:
    """Where expression is predicted.

    Attributes
    ----------
    spots
        Measured spots: an h5ad, Space Ranger's tissue_positions or a CSV with x_px,y_px.
    layout
        Layout of spots on the tissue (default: the one of the model's training platform).
    pitch_um
        Distance between spots that are laid out, in µm.
    mpp
        Microns per pixel of the image, where it does not state them.
    """

    spots: Annotated[Path | None, Parameter(group=_PLACES)] = None
    layout: Annotated[LayoutKind | None, Parameter(group=_PLACES)] = None
    pitch_um: Annotated[OptionalNumber, Parameter(group=_PLACES)] = None
    mpp: Annotated[OptionalNumber, Parameter(group=_PLACES)] = None


@dataclass(frozen=True)
class SamplingOptions:
    """How expression is sampled.

    Attributes
    ----------
    preset
        Preset of the model: preview, standard or published (default standard).
    steps
        Number of sampling steps (default: the preset's).
    samples
        Number of samples of each spot (default: the preset's).
    sampler
        Sampling method (default: the preset's).
    seed
        Seed of the noise (default 0).
    precision
        Precision of the denoiser: auto, fp32 or bf16 (default auto, the faster one here).
    """

    preset: Annotated[
        Literal["preview", "standard", "published"] | None, Parameter(group=_SAMPLING)
    ] = None
    steps: Annotated[OptionalWhole, Parameter(group=_SAMPLING)] = None
    samples: Annotated[OptionalWhole, Parameter(group=_SAMPLING)] = None
    sampler: Annotated[str | None, Parameter(group=_SAMPLING)] = None
    seed: Annotated[OptionalWhole, Parameter(group=_SAMPLING)] = None
    precision: Annotated[Literal["auto", "fp32", "bf16"] | None, Parameter(group=_SAMPLING)] = None


def predict(
    slides: list[Path],
    /,
    *,
    out: Out,
    model: ModelName = None,
    config: Path | None = None,
    places: Annotated[PlaceOptions, Parameter(name="*")] = PlaceOptions(),
    sampling: Annotated[SamplingOptions, Parameter(name="*")] = SamplingOptions(),
    device: Device = "auto",
    overwrite: bool = False,
    resume: bool = False,
    terminal: TerminalOptions = Terminal(),
) -> int:
    """Predict expression for one slide, or for several with one model.

    Parameters
    ----------
    slides
        H&E slides: image files, folders of them, or CSV lists with the columns slide and,
        optionally, mpp, spots and folder.
    out
        Folder for the result. Several slides, a folder or a list get a subfolder each, and a
        summary.csv.
    model
        Name of the model, as stem zoo list shows it, or path of a model folder, such as
        ./trained/NAME. Required unless --config names a run.
    config
        File run.json of an earlier run, whose settings are repeated; options given here come
        first.
    device
        Device: auto, cpu, cuda or cuda:N (default auto).
    overwrite
        Replace results that are in the folder.
    resume
        Skip slides whose result is finished with the same settings.
    """
    from stem_core.prediction.export import claim_output_dir

    several = names_several(slides)
    if several and places.spots is not None:
        msg = (
            "The option --spots names the spots of one slide. For several slides, name them in a "
            "CSV list with the columns slide,spots."
        )
        raise SettingsError(msg)
    out = claim_output_dir(out, overwrite or resume)
    if several:
        tasks = list_slides(slides, out)
        _check_batch_folder(out, tasks, overwrite=overwrite)
    else:
        tasks = [SlideTask(slides[0].expanduser(), out, places.spots)]
    tasks = [task if task.mpp is not None else replace(task, mpp=places.mpp) for task in tasks]
    run = _make_run(
        model, config, places, sampling, measured=all(task.spots is not None for task in tasks)
    )
    run = replace(
        run, device=device, overwrite=overwrite, resume=resume,
        command=_as_typed(terminal.arguments),
    )  # fmt: skip
    worker = _SlideWorker(run, terminal)
    if several:
        return _predict_several(worker, tasks, out)
    outcome = worker.predict(tasks[0])
    terminal.say(f"{outcome.sentence}\nFor research use only.")
    return DONE


@dataclass(frozen=True)
class _Run:
    """What all slides of a command share."""

    entry: InstalledModel
    settings: SamplingSettings
    layout: LayoutKind | None
    pitch_um: float | None
    precision: str
    recorded: RunRecord | None
    device: str = "auto"
    overwrite: bool = False
    resume: bool = False
    command: str = ""


@dataclass(frozen=True)
class _Outcome:
    """How a slide ended; a row of the summary."""

    state: Literal["waiting", "done", "skipped", "kept", "failed"] = "waiting"
    n_spots: int | None = None
    elapsed_s: float | None = None
    error: str = ""
    sentence: str = ""


class _SlideWorker:
    """Predicts slides one after the other; the model is loaded once, when first needed."""

    def __init__(self, run: _Run, terminal: Terminal) -> None:
        self.run = run
        self.terminal = terminal
        self.model_error: StemError | None = None
        self._predictor: Predictor | None = None

    def predict(self, task: SlideTask) -> _Outcome:
        """Predict a slide and write the result, unless it is finished already."""
        from app.spots import domain_words
        from stem_core.prediction.export import claim_output_dir, write_prediction
        from stem_core.slides.tissue import find_tissue

        run = self.run
        overwrite = run.overwrite or (run.resume and _is_unfinished(task.folder))
        with self._open(task) as slide:
            slide.require_mpp()
            tissue = find_tissue(slide)
            spots = self._spots(task, slide, tissue)
            if run.resume and (finished := self._finished(task, slide, spots)) is not None:
                return _Outcome(
                    "skipped", finished.spots.n, finished.elapsed_s,
                    sentence=f"Skipped {task.slide.name}, finished already: {task.folder}",
                )  # fmt: skip
            claim_output_dir(task.folder, overwrite)
            predictor = self.load()
            bar = ProgressBar(self.terminal)
            try:
                prediction = predictor.predict(
                    slide, spots, run.settings, tissue=tissue, progress=bar,
                    should_stop=CTRL_C.is_set,
                )  # fmt: skip
            finally:
                bar.close()
        prediction = replace(prediction, run={**prediction.run, "command": run.command})
        write_prediction(prediction, task.folder, overwrite=overwrite)
        words, far = domain_words(prediction.domain_distance)
        if far:
            self.terminal.warn(f"{task.slide.name}: {words}")
        spots_words = f"{len(spots)} spot{'s' if len(spots) > 1 else ''}"
        return _Outcome(
            "done", len(spots), prediction.run["elapsed_s"],
            sentence=f"Predicted {len(prediction.symbols)} genes at {spots_words} of "
            f"{task.slide.name} with {run.entry.name}: {task.folder}",
        )  # fmt: skip

    def _open(self, task: SlideTask) -> Slide:
        """Open a slide; a scale the user gave to a recorded run holds for the same slide alone."""
        from stem_core.slides.reading import open_slide

        mpp, recorded = task.mpp, self.run.recorded
        if mpp is None and recorded is not None and recorded.slide.mpp_source == "user":
            with open_slide(task.slide) as slide:
                if slide.fingerprint() == recorded.slide.fingerprint:
                    mpp = recorded.slide.mpp
        return open_slide(task.slide, mpp=mpp)

    def _spots(self, task: SlideTask, slide: Slide, tissue: TissueMask) -> Spots:
        from app.spots import place_spots, unlike_training

        trained_on = self.run.entry.manifest.layout
        spots = place_spots(
            slide, tissue, trained_on, file=task.spots, layout=self.run.layout,
            pitch_um=self.run.pitch_um,
        )  # fmt: skip
        if warning := unlike_training(spots, trained_on):
            LOG.warning("%s", warning)
        return spots

    def _finished(self, task: SlideTask, slide: Slide, spots: Spots) -> RunRecord | None:
        from app.commands.recorded_runs import WantedRun, read_finished

        run = self.run
        wanted = WantedRun(run.entry, run.settings, run.precision)
        return read_finished(task.folder, wanted, slide, spots, replace=run.overwrite)

    def load(self) -> Predictor:
        """Load the model, once; what fails here fails for every slide."""
        from stem_core.prediction.predictor import Predictor
        from zoo.loader import load_model

        if self._predictor is None:
            try:
                self._predictor = Predictor(
                    load_model(self.run.entry.folder), self.run.device, self.run.precision
                )
            except StemError as error:
                self.model_error = error
                raise
        return self._predictor


def _predict_several(worker: _SlideWorker, tasks: Sequence[SlideTask], out: Path) -> int:
    """Predict slides one after the other; the summary is true after each of them."""
    from app.commands.recorded_runs import OtherSettingsError
    from stem_core.prediction.export import claim_output_dir

    terminal = worker.terminal
    if not worker.run.resume:  # every slide needs the model: nothing is written where it fails
        worker.load()
    claim_output_dir(out, overwrite=True).mkdir(parents=True, exist_ok=True)
    outcomes = [_Outcome() for _ in tasks]
    code = DONE
    for place, task in enumerate(tasks):
        _write_summary(out, tasks, outcomes)
        if terminal.watched:
            terminal.report(f"Slide {place + 1} of {len(tasks)}: {task.slide.name}")
        try:
            outcomes[place] = worker.predict(task)
            terminal.say(outcomes[place].sentence)
            continue
        except (KeyboardInterrupt, Cancelled):
            return _say_interrupted(terminal, outcomes)
        except OtherSettingsError as error:
            code, record = max(code, BAD_INPUT), error.record
            outcomes[place] = _Outcome(
                "kept", record.spots.n, record.elapsed_s, error=one_line(error)
            )
            terminal.say(f"Kept the result of {task.slide.name}: {one_line(error)}")
            continue
        except StemError as error:
            if error is worker.model_error:
                raise
            code, reason = max(code, BAD_INPUT), one_line(error)
        except Exception as error:  # noqa: BLE001 - a fault on one slide does not stop the others
            if CTRL_C.is_set():
                return _say_interrupted(terminal, outcomes)
            from app.faults import fault_sentence, record_fault

            code = FAULT
            reason = one_line(fault_sentence(record_fault(error, f"predicting {task.slide.name}")))
        outcomes[place] = _Outcome("failed", error=reason)
        terminal.say(f"Failed {task.slide.name}: {reason}")
    _write_summary(out, tasks, outcomes)
    count = Counter(outcome.state for outcome in outcomes)
    kept = f", {count['kept']} kept with other settings" if count["kept"] else ""
    terminal.say(
        f"{len(tasks)} slides: {count['done']} predicted, {count['skipped']} skipped, "
        f"{count['failed']} failed"
        f"{kept}. Summary: {out / SUMMARY_FILE}\nFor research use only."
    )
    for state, words in (("failed", "failed"), ("kept", "have a result with other settings")):
        pairs = zip(tasks, outcomes, strict=True)
        names = [task.slide.name for task, outcome in pairs if outcome.state == state]
        more = len(names) - _NAMED_FAILURES
        if names:
            terminal.fail(
                f"{len(names)} of {len(tasks)} slides {words}: "
                f"{', '.join(names[:_NAMED_FAILURES])}{f' and {more} more' if more > 0 else ''}. "
                f"{out / SUMMARY_FILE} says why."
            )
    return code


def _write_summary(out: Path, tasks: Sequence[SlideTask], outcomes: Sequence[_Outcome]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("slide", "folder", "state", "spots", "seconds", "error"))
    for task, outcome in zip(tasks, outcomes, strict=True):
        seconds = "" if outcome.elapsed_s is None else f"{outcome.elapsed_s:.1f}"
        row = (task.slide.name, task.folder.name, outcome.state, outcome.n_spots, seconds)
        writer.writerow((*row, outcome.error))
    write_text(out / SUMMARY_FILE, text.getvalue())


def _say_interrupted(terminal: Terminal, outcomes: Sequence[_Outcome]) -> int:
    ended = sum(outcome.state in ("done", "skipped") for outcome in outcomes)
    terminal.fail(
        f"Interrupted; {ended} of {len(outcomes)} slides are finished. Run the same command with "
        "--resume to continue."
    )
    return INTERRUPTED


def _check_batch_folder(out: Path, tasks: Sequence[SlideTask], *, overwrite: bool) -> None:
    """Refuse to resume in a folder that holds anything but the results of several slides."""
    if overwrite or not out.is_dir():
        return
    ours = {SUMMARY_FILE, *(task.folder.name for task in tasks)}
    held = sorted(item.name for item in out.iterdir())
    if held and SUMMARY_FILE not in held and not ours.issuperset(held):
        msg = (
            f"The folder {out} holds {next(name for name in held if name not in ours)} and no "
            f"{SUMMARY_FILE}, so no earlier run can be resumed there. Name another folder or allow "
            "overwriting (--overwrite)."
        )
        raise OutputError(msg)


def _is_unfinished(folder: Path) -> bool:
    """Return whether a folder holds nothing but a part of a result."""
    from stem_core.prediction.export import FILE_NAMES

    if not folder.is_dir():
        return True
    held = {item.name for item in folder.iterdir() if not item.name.startswith(".partial-")}
    return held < set(FILE_NAMES)


def _make_run(
    model: str | None,
    config: Path | None,
    places: PlaceOptions,
    sampling: SamplingOptions,
    *,
    measured: bool,
) -> _Run:
    """Put the options of the command line over the settings of a recorded run."""
    recorded = None
    if config is not None:
        from app.commands.recorded_runs import read_run

        recorded = read_run(config)
    laid_out = places.layout is not None or places.pitch_um is not None
    if measured and laid_out:
        name = "--layout" if places.layout is not None else "--pitch-um"
        msg = f"{name} lays spots out, but --spots names measured ones. Leave one of them out."
        raise SettingsError(msg)
    entry = _find_model(model, recorded)
    layout, pitch_um = places.layout, places.pitch_um
    if recorded is not None and not measured and not laid_out:
        layout, pitch_um = _recorded_layout(recorded, entry)
    precision = sampling.precision or ("auto" if recorded is None else recorded.precision)
    return _Run(entry, _settings(sampling, entry, recorded), layout, pitch_um, precision, recorded)


def _find_model(name: str | None, recorded: RunRecord | None) -> InstalledModel:
    """Find the model that was named, else that of the recorded run, which must be the same one."""
    from zoo.registry import open_model

    if name is not None:
        return open_model(name)
    if recorded is None:
        msg = (
            "No model was named. Name one with --model (stem zoo list shows them), or a run to "
            "repeat with --config (see stem predict --help)."
        )
        raise SettingsError(msg)
    from app.commands.recorded_runs import same_model

    entry = open_model(recorded.model.name)
    if not same_model(recorded, entry):
        msg = (
            f"The model {entry.name} {entry.manifest.version} here is not the one of the recorded "
            f"run (version {recorded.model.version}, other files). Name a model with --model to "
            "use it with the recorded settings."
        )
        raise SettingsError(msg)
    return entry


def _recorded_layout(
    recorded: RunRecord, entry: InstalledModel
) -> tuple[LayoutKind | None, float | None]:
    """Return layout and pitch that lay spots out as in the recorded run."""
    spots, trained_on = recorded.spots, entry.manifest.layout
    if spots.source == "measured":
        msg = "The recorded run used measured spots. Name their file with --spots."
        raise SettingsError(msg)
    as_trained = (spots.source, spots.diameter_um) == (trained_on.kind, trained_on.spot_diameter_um)
    return (None if as_trained else spots.source), spots.pitch_um


def _settings(
    sampling: SamplingOptions, entry: InstalledModel, recorded: RunRecord | None
) -> SamplingSettings:
    """Return the settings of the preset or the recorded run with the options put over them."""
    from stem_core.prediction.settings import SamplingSettings

    if recorded is not None and sampling.preset is None:
        base = SamplingSettings(
            recorded.sampler, recorded.steps, recorded.samples, spacing=recorded.spacing
        )
    else:
        preset = getattr(entry.manifest.presets, sampling.preset or "standard")
        base = SamplingSettings(preset.sampler, preset.steps, preset.samples)
    seed = 0 if recorded is None else recorded.seed
    other = sampling.sampler not in (None, base.sampler)
    return SamplingSettings(
        sampler=sampling.sampler or base.sampler,
        steps=base.steps if sampling.steps is None else sampling.steps,
        samples=base.samples if sampling.samples is None else sampling.samples,
        seed=seed if sampling.seed is None else sampling.seed,
        spacing="" if other else base.spacing,
    )


def _as_typed(arguments: Sequence[str]) -> str:
    """Return the command for the run record, without the folders of this machine."""
    return shlex.join(["stem", *map(_without_folder, arguments)])


def _without_folder(argument: str) -> str:
    option, equals, value = argument.partition("=")
    if argument.startswith("-") and equals:
        return f"{option}={Path(value).name if '/' in value else value}"
    return Path(argument).name if "/" in argument else argument
