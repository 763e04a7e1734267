"""Which sections teach and which are tested, in each training that a recipe asks for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stem_core.errors import SettingsError
from stem_core.training.recipe import EACH_PATIENT, EACH_SECTION, Recipe
from stem_core.training.section_files import find_sections, patient_name, read_metadata

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
        A section that is held out or watched is not among the sections, one that is watched is
        held out, a patient is not known where whole patients are held out, two trainings are the
        same, or nothing is left to learn from.
    SectionError
        No section is selected, or metadata cannot be read.
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
        _require(recipe.data.patients, [*names, *chosen.exclude], "data.patients")
    patients = {name: _patient(recipe, folder, name) for name in names}
    for field, wanted in (("held_out", recipe.held_out), ("validation", recipe.validation)):
        _require(wanted, names, field)
    away = _left_out(recipe.held_out, patients, whole=recipe.whole_patients)
    _require_unseen(recipe, away, recipe.held_out)
    rest = [name for name in names if name not in away and name not in recipe.validation]
    splits = []
    for test, whole in _folds(recipe, rest, patients):
        _require(test, names, "folds")
        gone = _left_out(test, patients, whole=whole)
        _require_unseen(recipe, gone, test)
        train = tuple(name for name in rest if name not in gone)
        splits.append(Split("+".join(test), train, tuple(test)))
    splits.append(Split(FINAL, tuple(rest), recipe.held_out))
    called = [split.name for split in splits]
    if again := next((name for name in called if called.count(name) > 1), None):
        msg = f"folds of the recipe {recipe.name} make two trainings '{again}'; name it once."
        raise SettingsError(msg)
    least = 2 if recipe.training.target == "residual" else 1
    for split in splits:
        if len(split.train) < least:
            held_out = f" when it holds out {', '.join(split.test)}" if split.test else ""
            left = f"section {split.train[0]} alone" if split.train else "no section"
            msg = (
                f"The recipe {recipe.name} leaves {left} to train on{held_out}, and a "
                f"{recipe.training.target} target needs {least}; hold out less, such as single "
                "sections (leave_out: section)."
            )
            raise SettingsError(msg)
    return Plan(tuple(names), patients, tuple(splits))


def _folds(
    recipe: Recipe, rest: Sequence[str], patients: dict[str, str]
) -> list[tuple[Sequence[str], bool]]:
    """List what each fold is tested on, and whether it leaves out whole patients."""
    found: list[tuple[Sequence[str], bool]] = []
    whole = recipe.whole_patients
    for fold in recipe.folds:
        if fold == EACH_SECTION:
            found += [((name,), whole) for name in rest]
        elif fold == EACH_PATIENT:
            for patient in sorted({patients[name] for name in rest}):
                found.append(([name for name in rest if patients[name] == patient], True))
        else:
            found.append(((fold,) if isinstance(fold, str) else fold, whole))
    return found


def _left_out(test: Sequence[str], patients: dict[str, str], *, whole: bool) -> set[str]:
    """Return what is tested on, with the other sections of its patients where they go whole."""
    if not test or not whole:
        return set(test)
    for name, patient in patients.items():
        if not patient:
            msg = (
                f"Whole patients are to be held out, but whose section {name} is, is not known; "
                "say it under data.patients, or hold out sections alone (leave_out: section)."
            )
            raise SettingsError(msg)
    theirs = {patients[name] for name in test}
    return {name for name, patient in patients.items() if patient in theirs}


def _require_unseen(recipe: Recipe, gone: Iterable[str], test: Sequence[str]) -> None:
    """Refuse to watch what is left out: the weights would be chosen by it."""
    if seen := sorted(set(recipe.validation) & set(gone)):
        of = "" if seen[0] in test else f" with the patient of {', '.join(test)}"
        msg = (
            f"validation names {seen[0]}, which is held out{of}: the weights would be chosen by "
            "what they are tested on; watch another section."
        )
        raise SettingsError(msg)


def _require(wanted: Iterable[str], names: Sequence[str], field: str) -> None:
    for name in wanted:
        if name not in names:
            shown = ", ".join(names[:6]) + (", …" if len(names) > 6 else "")
            msg = f"{field} names '{name}', which is not among the {len(names)} sections ({shown})."
            raise SettingsError(msg)


def _patient(recipe: Recipe, folder: Path | None, name: str) -> str:
    """Whom the recipe or the metadata name; nothing else of the section is looked at."""
    if name in recipe.data.patients:
        return patient_name(recipe.data.patients[name])
    return "" if folder is None else patient_name(read_metadata(folder, name).get("patient"))
