"""What `stem train` does."""

from __future__ import annotations

import argparse
import os
import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import TextIO

from app.exit_codes import BAD_INPUT, DONE, INTERRUPTED
from app.terminal import Notes
from stem_core.errors import SettingsError, StemError, TrainingError

__all__ = ["train"]

_NEEDED = {"yaml": "pyyaml", "scanpy": "scanpy"}  # beyond what predicting needs


def train(args: argparse.Namespace, stream: TextIO) -> int:
    """Check a recipe, or train its model."""
    if args.processes > 1 and not args.check:
        from app.training_processes import train_together

        return train_together(args.arguments, args.processes, stream)
    notes = Notes(stream)
    try:
        with notes.listening():
            code = _train(args)
    except KeyboardInterrupt:
        print("stem: Interrupted; go on with the same command and --resume.", file=stream)
        return INTERRUPTED
    except StemError as error:
        # Every process meets the same fault; the first one says it.
        if os.environ.get("RANK", "0") != "0" and not isinstance(error, TrainingError):
            return BAD_INPUT
        raise
    notes.tell()
    return code


def _train(args: argparse.Namespace) -> int:
    absent = [what for name, what in _NEEDED.items() if find_spec(name) is None]
    if absent:
        msg = f"Training needs {' and '.join(absent)}; run pip install {' '.join(absent)}."
        raise SettingsError(msg)
    from stem_core.training.recipe_file import read_recipe

    recipe = read_recipe(args.recipe, args.set)
    if args.data is not None and not args.data.is_dir():
        msg = f"The data folder {args.data} is not there; name the folder with the sections."
        raise SettingsError(msg)
    if args.check:
        from zoo.recipe_check import check_recipe

        print("\n".join(check_recipe(recipe, args.recipe, args.data)))
        print("The recipe is sound." if args.data is None else "Recipe and data are sound.")
        return DONE
    if args.data is None:
        msg = "Training needs the sections: name their folder with --data (or only --check)."
        raise SettingsError(msg)

    from zoo.conditions import recipe_encoder
    from zoo.train import train_model
    from zoo.training_order import TrainingOrder

    out = Path("trained") / recipe.name if args.out is None else args.out
    order = TrainingOrder(
        recipe=recipe,
        recipe_file=args.recipe,
        data=args.data,
        out=out,
        work=out.with_name(f"{out.name}.training") if args.work is None else args.work,
        device=args.device,
        resume=args.resume,
        say=lambda text: print(text, flush=True),
        changes=tuple(args.set),
    )
    manifest = train_model(order, recipe_encoder(recipe, args.data))
    if manifest is not None:
        print(
            f"Model {manifest.name}: {out} (held-out PCC {manifest.held_out.summary})\n"
            f"{_what_next(manifest.name, out.absolute())}\nFor research use only."
        )
    return DONE


def _what_next(name: str, folder: Path) -> str:
    """Say how a model folder is predicted with, from the command line and in the app."""
    from zoo.registry import list_models

    said = [f"stem predict IMAGE --model {shlex.quote(str(folder))} --out DIR"]
    said.append(f"STEM_MODELS_DIR={shlex.quote(str(folder.parent))} stem app")
    if any(entry.name == name and entry.folder != folder for entry in list_models()):
        said[1] += f"   (once it has another name in its config.json: {name} is there already)"
    return "\n".join(said)
