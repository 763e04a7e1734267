"""The sections of a training, read when they are first asked for and not before.

A section that is held out is thus not even opened until it is tested.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from stem_core.encoders.condition import Encoder
from stem_core.training.hest import MeasuredSection, read_section
from stem_core.training.recipe import Recipe
from stem_core.training.section_checks import check_section
from zoo.conditions import SectionCondition, section_condition

__all__ = ["Material"]


class Material:
    """Sections and their conditions, kept once read.

    Parameters
    ----------
    recipe
        What the model looks at.
    folder
        With the sections.
    cache
        Folder for embeddings.
    encoder
        That makes them.
    say
        Is told what takes time.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        cache: Path,
        encoder: Encoder,
        say: Callable[[str], None],
    ) -> None:
        self.recipe, self.encoder = recipe, encoder
        self._folder, self._cache, self._say = folder, cache, say
        self._sections: dict[str, MeasuredSection] = {}
        self._conditions: dict[tuple[str, bool], SectionCondition] = {}

    def section(self, name: str) -> MeasuredSection:
        """Read and check a section.

        Raises
        ------
        SectionError
            It is missing, or not what training needs.
        """
        if name not in self._sections:
            section = read_section(self._folder, name)
            check_section(section, self.recipe.layout.pitch_um)
            self._sections[name] = section
        return self._sections[name]

    def condition(self, name: str, *, augmented: bool = False) -> SectionCondition:
        """Assemble what the model sees of a section; with its views where those are wanted."""
        augmented = augmented and self.recipe.augment.views > 1
        if (name, True) in self._conditions:  # it has the patch as it is, too
            return self._conditions[name, True]
        if (name, augmented) not in self._conditions:
            self._conditions[name, augmented] = section_condition(
                self.section(name), self.encoder, self.recipe, self._cache, self._say,
                augmented=augmented,
            )  # fmt: skip
        return self._conditions[name, augmented]
