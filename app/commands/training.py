"""`stem train` and `stem sections check | download`."""

from __future__ import annotations

import difflib
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from app.commands.options import Device, OptionalNumber, OptionalOut, WorkerCount
from app.extras import require_packages
from app.terminal import (
    BAD_INPUT,
    DONE,
    INTERRUPTED,
    Terminal,
    TerminalOptions,
    one_line,
)
from stem_core.errors import SectionError, SettingsError, StemError, TrainingError

if TYPE_CHECKING:
    from stem_core.training.recipe import Recipe
    from stem_core.training.training_order import TrainingOrder

__all__ = ["check_sections", "download_sections", "recipe_file", "train"]


def train(
    recipe: str,
    /,
    *,
    data: Path | None = None,
    out: OptionalOut = None,
    work: Path | None = None,
    changes: Annotated[list[str] | None, Parameter(name="--set")] = None,
    check: bool = False,
    resume: bool = False,
    device: Device = "auto",
    processes: WorkerCount = 1,
    terminal: TerminalOptions = Terminal(),
) -> int:
    """Train a model from its recipe.

    Parameters
    ----------
    recipe
        Name of a recipe of this program, such as her2st-breast, or path of a YAML file.
    data
        Folder with the sections.
    out
        Model folder to write (default: trained/NAME).
    work
        Folder for everything else (default: NAME.training beside the model folder).
    changes
        Setting to put over the recipe, KEY=VALUE, such as training.denoiser.steps=500; may be
        repeated.
    check
        Check the recipe (and the data), train nothing.
    resume
        Continue an interrupted training.
    device
        Device: auto, cpu, cuda or cuda:N (default auto).
    processes
        Number of processes on this machine, one per GPU (default 1).
    """
    if processes > 1 and not check:
        from app.training_processes import train_together

        return train_together(terminal.arguments, processes, terminal.stream)
    try:
        file = recipe_file(recipe)
        require_packages("Training", "training", without=("tensorboard",))
        if data is not None and not data.is_dir():
            msg = f"The data folder {data} is not there; name the folder with the sections."
            raise SettingsError(msg)
        if check:
            return _check(file, tuple(changes or ()), data, terminal)
        if data is None:
            msg = "Training needs the sections: name their folder with --data (or only --check)."
            raise SettingsError(msg)
        from stem_core.training.training_order import TrainingOrder

        read = _read(file, tuple(changes or ()))
        out = Path("trained") / read.name if out is None else out
        order = TrainingOrder(
            recipe=read,
            recipe_file=file,
            data=data,
            out=out,
            work=out.with_name(f"{out.name}.training") if work is None else work,
            device=device,
            resume=resume,
            say=terminal.say,
            changes=tuple(changes or ()),
        )
        return _train(order, terminal)
    except KeyboardInterrupt:
        terminal.fail("Interrupted; go on with the same command and --resume.")
        return INTERRUPTED
    except StemError as error:
        # Every process meets the same fault; the first one says it.
        if os.environ.get("RANK", "0") != "0" and not isinstance(error, TrainingError):
            return BAD_INPUT
        raise


def check_sections(
    folder: Path,
    /,
    *ids: str,
    pitch_um: OptionalNumber = None,
    terminal: TerminalOptions = Terminal(),
) -> int:
    """Check measured sections, one line each; exit code 2 where one cannot be trained on.

    Parameters
    ----------
    folder
        Folder of the sections, in the layout of HEST-1k.
    ids
        Ids of sections (default: all in the folder).
    pitch_um
        Distance between spots in µm, where the section does not say it.
    """
    from stem_core.training.hest import read_section
    from stem_core.training.section_checks import check_section
    from stem_core.training.section_files import section_names

    names = ids or section_names(folder)
    if not names:
        msg = f"There are no sections in {folder}; expected st/*.h5ad with wsis/, or */outs."
        raise SectionError(msg)
    failed = []
    for name in names:
        try:
            terminal.say(check_section(read_section(folder, name), pitch_um).sentence())
        except StemError as error:
            failed.append(f"{name} ({one_line(error).rstrip('.')})")
            terminal.say(f"{name}: {one_line(error)}")
    if failed:
        terminal.fail(
            f"{len(failed)} of {len(names)} sections cannot be trained on: {'; '.join(failed)}."
        )
        return BAD_INPUT
    return DONE


def download_sections(
    *ids: str,
    to: Path,
    metadata: bool = False,
    dataset: str = "MahmoodLab/hest",
    revision: str | None = None,
    terminal: TerminalOptions = Terminal(),
) -> int:
    """Fetch sections of HEST-1k from the Hub, or the metadata of all sections.

    Parameters
    ----------
    ids
        HEST ids of sections; without any, the metadata of all sections are fetched.
    to
        Folder to write to.
    metadata
        Also fetch the metadata of all sections.
    dataset
        Dataset on the Hub, ORG/NAME (default: MahmoodLab/hest).
    revision
        Revision of the dataset (default: the newest).
    """
    from zoo.hest_download import download_metadata, download_sections

    if metadata or not ids:
        found = download_metadata(to, dataset=dataset, revision=revision)
        terminal.say(f"Metadata of {found:,} sections are in {to / 'metadata'}")
    if ids:
        for table in download_sections(ids, to, dataset=dataset, revision=revision):
            terminal.say(str(table))
    return DONE


def recipe_file(name_or_path: str) -> Path:
    """Return the file of a recipe: one of this program by its name, another one by its path.

    Raises
    ------
    SettingsError
        No recipe has this name.
    """
    if "/" in name_or_path or os.sep in name_or_path or name_or_path.endswith((".yaml", ".yml")):
        return Path(name_or_path)
    from stem_core.training.recipe_file import packaged_recipes

    found = packaged_recipes()
    if name_or_path in found:
        return found[name_or_path]
    close = difflib.get_close_matches(name_or_path, found, n=1)
    hint = f"Did you mean {close[0]}? " if close else ""
    msg = (
        f"There is no recipe '{name_or_path}'. {hint}Recipes of this program: "
        f"{', '.join(found)}; another one is named by its path, such as ./{name_or_path}.yaml."
    )
    raise SettingsError(msg)


def _read(file: Path, changes: tuple[str, ...]) -> Recipe:
    from stem_core.training.recipe_file import read_recipe

    return read_recipe(file, changes)


def _check(file: Path, changes: tuple[str, ...], data: Path | None, terminal: Terminal) -> int:
    from stem_core.training.recipe_check import check_recipe

    terminal.say("\n".join(check_recipe(_read(file, changes), file, data)))
    terminal.say("The recipe is sound." if data is None else "Recipe and data are sound.")
    return DONE


def _train(order: TrainingOrder, terminal: Terminal) -> int:
    from stem_core.training.train import train_model
    from zoo.loader import recipe_encoder

    manifest = train_model(order, recipe_encoder(order.recipe, order.data))
    if manifest is not None:
        terminal.say(
            f"Model {manifest.name}: {order.out} (held-out PCC {manifest.held_out.summary})\n"
            f"{_what_next(manifest.name, order.out.absolute())}\nFor research use only."
        )
    return DONE


def _what_next(name: str, folder: Path) -> str:
    """Say how to predict with a model folder, from the command line and in the app."""
    from zoo.registry import list_models

    said = [f"stem predict SLIDE --model {shlex.quote(str(folder))} --out DIR"]
    said.append(f"STEM_MODELS_DIR={shlex.quote(str(folder.parent))} stem app")
    if any(entry.name == name and entry.folder != folder for entry in list_models()):
        said[1] += f"   (once it has another name in its config.json: {name} is there already)"
    return "\n".join(said)
