"""Which sections teach and which are tested, in each training that a recipe asks for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stem_core.errors import SettingsError
from stem_core.training.hest import find_sections
from stem_core.training.recipe import EACH_PATIENT, EACH_SECTION, Recipe

__all__ = ["FINAL", "Plan", "Split", "make_plan"]

FINAL = "final"


@dataclass(frozen=True)
class Split:
    """One training.

    Attributes
    ----------
    name
        `final` for the weights that are kept, else that of the fold; fit for a folder's name.
    train, test
        Sections it learns from, and those it is tested on; the latter it never sees.
    """

    name: str
    train: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """All trainings of a recipe.

    Attributes
    ----------
    sections
        All of the recipe's.
    patients
        Section -> patient; empty where it is not known.
    splits
        Folds, then the final one.
    """

    sections: tuple[str, ...]
    patients: dict[str, str]
    splits: tuple[Split, ...]


def make_plan(recipe: Recipe, folder: Path | None) -> Plan:
    """Plan the trainings of a recipe.

    Of the sections only the metadata are read.

    Parameters
    ----------
    recipe
        The recipe.
    folder
        With the sections; None plans as far as the recipe alone says.

    Raises
    ------
    SettingsError
        A section that is held out or watched is not among the sections, a patient is not known
        where whole patients are held out, or nothing is left to learn from.
    SectionError
        No section is selected.
    """
    names = recipe.data.sections
    if recipe.data.select is not None:
        if folder is None:
            msg = f"The recipe {recipe.name} selects its sections by metadata: give --data."
            raise SettingsError(msg)
        chosen = recipe.data.select
        names = tuple(
            find_sections(
                folder,
                title_starts=chosen.dataset_title_starts,
                exclude=chosen.exclude,
                where=chosen.where,
            )
        )
    patients = {name: recipe.data.patients.get(name, _patient(folder, name)) for name in names}
    for field, wanted in (("held_out", recipe.held_out), ("validation", recipe.validation)):
        _require(wanted, names, field)
    away = _with_patients(recipe, recipe.held_out, patients)
    rest = [name for name in names if name not in away and name not in recipe.validation]
    splits = []
    for name, test in _folds(recipe, rest, patients):
        _require(test, names, "folds")
        gone = _with_patients(recipe, test, patients)
        splits.append(Split(name, tuple(n for n in rest if n not in gone), tuple(test)))
    splits.append(Split(FINAL, tuple(rest), recipe.held_out))
    for split in splits:
        if not split.train:
            msg = (
                f"The recipe {recipe.name} leaves no section to train on when it holds out "
                f"{', '.join(split.test)}; hold out less, or set leave_out: section."
            )
            raise SettingsError(msg)
    return Plan(tuple(names), patients, tuple(splits))


def _folds(
    recipe: Recipe, rest: Sequence[str], patients: dict[str, str]
) -> list[tuple[str, Sequence[str]]]:
    """Name each fold, and list what it is tested on."""
    found: list[tuple[str, Sequence[str]]] = []
    for fold in recipe.folds:
        if fold == EACH_SECTION:
            found += [(name, (name,)) for name in rest]
        elif fold == EACH_PATIENT:
            for patient in sorted({patients[name] for name in rest}):
                if not patient:
                    raise _unknown_patient(next(n for n in rest if not patients[n]))
                own = tuple(name for name in rest if patients[name] == patient)
                found.append(("+".join(own), own))
        else:
            test = (fold,) if isinstance(fold, str) else fold
            found.append(("+".join(test), test))
    return found


def _with_patients(recipe: Recipe, test: Sequence[str], patients: dict[str, str]) -> set[str]:
    """Add the other sections of the same patients, where whole patients are held out."""
    if not test or not recipe.whole_patients:
        return set(test)
    for name, patient in patients.items():
        if not patient:
            raise _unknown_patient(name)
    theirs = {patients[name] for name in test}
    return {name for name, patient in patients.items() if patient in theirs}


def _unknown_patient(name: str) -> SettingsError:
    msg = (
        f"Whole patients are to be held out, but whose section {name} is, is not known; say it "
        "under data.patients, or set leave_out: section."
    )
    return SettingsError(msg)


def _require(wanted: Sequence[str], names: Sequence[str], field: str) -> None:
    for name in wanted:
        if name not in names:
            shown = ", ".join(names[:6]) + (", …" if len(names) > 6 else "")
            msg = f"{field} names '{name}', which is not among the {len(names)} sections ({shown})."
            raise SettingsError(msg)


def _patient(folder: Path | None, name: str) -> str:
    """Whom the metadata name; nothing else of the section is looked at."""
    if folder is None:
        return ""
    try:
        text = (folder / "metadata" / f"{name}.json").read_text(encoding="utf-8")
        said = json.loads(text)
    except (OSError, ValueError):
        return ""
    value = said.get("patient") if isinstance(said, dict) else None
    return "" if value is None else str(value)
