"""A training as it was asked for, and the folders it works in."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stem_core.errors import OutputError
from stem_core.files import unwritable_as
from stem_core.training.plan import FINAL, Split
from stem_core.training.recipe import Recipe
from stem_core.training.recipe_file import packaged_recipes

__all__ = ["TrainingOrder"]

log = logging.getLogger(__name__)

_RECORD = "recipe.json"
_OURS = (_RECORD, "embeddings", "report", FINAL)  # in the work folder


@dataclass(frozen=True)
class TrainingOrder:
    """A training as it was asked for.

    Attributes
    ----------
    recipe, recipe_file
        What to do, and the file it was read from.
    changes
        What was put over the recipe, `key=value`.
    data
        Folder that the recipe's `data.folder` lies in.
    out
        The model folder, new or empty.
    work
        For everything else.
    device
        `auto`, `cpu`, `cuda` or `cuda:N`.
    resume
        Go on with what is in `work`.
    say
        Is told, in a line, what is going on.
    """

    recipe: Recipe
    recipe_file: Path
    data: Path
    out: Path
    work: Path
    device: str = "auto"
    resume: bool = False
    say: Callable[[str], None] = log.info
    changes: tuple[str, ...] = ()

    @property
    def sections(self) -> Path:
        """Folder of the sections."""
        return self.data / self.recipe.data.folder

    @property
    def recipe_name(self) -> str:
        """The place of a recipe of the zoo, the file's name of another one; and what was changed.

        It can be typed after `stem train`.
        """
        file = self.recipe_file
        ours = packaged_recipes().get(file.stem)
        place = f"zoo/recipes/{file.name}" if file.resolve() == ours else file.name
        return " ".join([shlex.quote(place), *(f"--set {shlex.quote(c)}" for c in self.changes)])

    def report_path(self, split: Split, section: str) -> Path:
        """Where the held-out figures of a section are kept."""
        return self.work / split.name / f"held-out-{section}.json"

    def check_folders(self) -> None:
        """See to it that nothing is there that would be lost, and that both folders can be filled.

        Raises
        ------
        OutputError
            There is a model, or a training that is not to be resumed; or one folder would lie in
            the other's way.
        """
        out, work = self.out.resolve(), self.work.resolve()
        if work == out or out in work.parents or _is_taken(out, work):
            msg = (
                f"The model folder {self.out} and the work folder {self.work} are in each other's "
                "way; name another one with --work, beside the model folder."
            )
            raise OutputError(msg)
        if self.out.exists() and not (self.out.is_dir() and not any(self.out.iterdir())):
            msg = f"The model folder {self.out} is there already; name another one with --out."
            raise OutputError(msg)
        if (self.work / _RECORD).exists() and not self.resume:
            msg = (
                f"{self.work} holds a training already; go on with it by --resume, or name another "
                "folder with --work."
            )
            raise OutputError(msg)

    def begin(self) -> None:
        """Make the folders, and write down the recipe.

        Raises
        ------
        OutputError
            They cannot be written.
        """
        with unwritable_as(self.work):
            self.work.mkdir(parents=True, exist_ok=True)
            self.out.parent.mkdir(parents=True, exist_ok=True)
            text = self.recipe.model_dump_json(indent=1) + "\n"
            (self.work / _RECORD).write_text(text, encoding="utf-8")


def _is_taken(path: Path, work: Path) -> bool:
    """Tell whether a path is where the training itself writes in its work folder."""
    return work in path.parents and path.relative_to(work).parts[0] in _OURS
