"""The recipe of a model: a YAML file that says how it is trained, checked before any work.

A recipe names its sections, what is held out and how (`protocol`), the panel, the encoders, what
the model looks at, and the settings of training. Unknown keys are refused.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from stem_core.model.config import Config, ModelConfig
from stem_core.prediction.settings import SamplingSettings
from stem_core.training.fit_settings import FitSettings

__all__ = [
    "Augmentation",
    "DataSource",
    "Download",
    "PanelChoice",
    "Recipe",
    "SectionName",
    "Select",
    "require_known",
]

SectionName = Annotated[str, Field(pattern=r"^[\w+-][\w.+-]{0,99}$")]


def _stays_below(folder: str) -> str:
    path = PurePosixPath(folder)
    if path.is_absolute() or ".." in path.parts:
        msg = "it must be a folder below the data folder"
        raise ValueError(msg)
    return folder


FolderBelow = Annotated[str, AfterValidator(_stays_below)]


class Select(Config):
    """Sections by what their metadata say, found when the training starts.

    Attributes
    ----------
    dataset_title_starts
        Beginning of `dataset_title`, in any case.
    where
        Other fields of the metadata, and what they must be.
    exclude
        Sections that are not wanted.
    """

    dataset_title_starts: str = ""
    where: dict[str, str] = Field(default_factory=dict)
    exclude: tuple[SectionName, ...] = ()

    @model_validator(mode="after")
    def _selects(self) -> Select:
        if not self.dataset_title_starts and not self.where:
            msg = "give dataset_title_starts, or where with a field of the metadata"
            raise ValueError(msg)
        return self


class Download(Config):
    """Where the sections can be had on the Hub: dataset, revision (40 digits, or `unpinned`).

    For the advice where sections are missing; nothing is downloaded by itself.
    """

    dataset: str
    revision: str = "unpinned"


class DataSource(Config):
    """Which sections, and where they lie below the data folder.

    Attributes
    ----------
    folder
        Below the data folder; "." for itself.
    sections
        Their names; or else `select`.
    patients
        Section -> patient, over what the metadata say.
    download
        Where to get them, for those who have no data yet.
    embeddings
        Encoder -> folder below the data folder, with a `<section>.h5` each that another tool made;
        taken instead of running the encoder.
    embeddings_patch_um
        Side of their patches, for files that do not say it.
    """

    folder: FolderBelow = "."
    sections: tuple[SectionName, ...] = ()
    select: Select | None = None
    patients: dict[SectionName, str] = Field(default_factory=dict)
    download: Download | None = None
    embeddings: dict[str, FolderBelow] = Field(default_factory=dict)
    embeddings_patch_um: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _names_sections(self) -> DataSource:
        if bool(self.sections) == (self.select is not None):
            msg = "give either sections or select"
            raise ValueError(msg)
        if len(set(self.sections)) != len(self.sections):
            msg = "sections names a section twice"
            raise ValueError(msg)
        if self.sections:
            require_known(self.patients, self.sections, "patients")
        if self.embeddings_patch_um is not None and not self.embeddings:
            msg = "embeddings_patch_um says something of embeddings; name their folders"
            raise ValueError(msg)
        return self


def require_known(names: Any, known: tuple[str, ...], field: str) -> None:
    """Refuse a name that is not among the sections; `field` is what names it."""
    for name in names:
        if name not in known:
            msg = (
                f"{field} names '{name}', which is not among the {len(known)} sections "
                f"({', '.join(known[:6])}{', …' if len(known) > 6 else ''})"
            )
            raise ValueError(msg)


EACH_SECTION, EACH_PATIENT = "each-section", "each-patient"


class PanelChoice(Config):
    """Which genes: a rule and how many, or a list in `file` (one symbol a line)."""

    rule: Literal["hmhvg", "deg", "file"] = "hmhvg"
    genes: int = Field(default=200, ge=2, le=20_000)
    file: str | None = None

    @model_validator(mode="after")
    def _file_or_rule(self) -> PanelChoice:
        if (self.rule == "file") != (self.file is not None):
            msg = "rule: file and a file go together"
            raise ValueError(msg)
        return self


class Augmentation(Config):
    """Views of each patch that training chooses from, embedded once.

    Attributes
    ----------
    dihedral
        The four quarter turns and their mirror images.
    stains
        Further views of each, with haematoxylin and eosin a little stronger or weaker.
    """

    dihedral: bool = False
    stains: int = Field(default=0, ge=0, le=16)

    @property
    def views(self) -> int:
        """How many views there are; 1 is the patch as it is."""
        return (8 if self.dihedral else 1) * (1 + self.stains)


class Recipe(ModelConfig):
    """A model, and how it is trained.

    Attributes
    ----------
    protocol
        `strict`: panel, scaling, weights and calibration come from training sections alone, and
        whole patients are held out. `paper`: the panel comes from all sections, as published, and
        the held-out section alone is held out.
    leave_out
        What a held-out section takes with it: its `patient`, or the `section` alone. By default
        as the protocol says.
    folds
        Each is trained without, and tested on, one section, a list of sections, or every section
        or patient in turn (`each-section`, `each-patient`); the final weights then learn from all.
    held_out
        Never trained on, the final weights neither; these are tested on them.
    validation
        Not trained on; watched while training and used for stopping early. None of what is held
        out, with its patient where that is held out.
    """

    protocol: Literal["strict", "paper"] = "strict"
    leave_out: Literal["patient", "section"] | None = None
    data: DataSource
    folds: tuple[SectionName | tuple[SectionName, ...], ...] = ()
    held_out: tuple[SectionName, ...] = ()
    validation: tuple[SectionName, ...] = ()
    panel: PanelChoice = PanelChoice()
    encoders: tuple[str, ...] = Field(min_length=1)
    augment: Augmentation = Augmentation()
    training: FitSettings = FitSettings()

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        for preset in (self.presets.preview, self.presets.standard, self.presets.published):
            preset.settings()  # raises where it cannot be sampled so
        if self.training.target == "residual" and self.condition.survey_pitch_um is None:
            msg = "training.target: residual needs condition.survey_pitch_um and context_um"
            raise ValueError(msg)
        if self.data.embeddings:
            self._takes_embeddings()
        named = [s for fold in self.folds for s in ([fold] if isinstance(fold, str) else fold)]
        if known := self.data.sections:
            require_known([s for s in named if not s.startswith("each-")], known, "folds")
            require_known(self.held_out, known, "held_out")
            require_known(self.validation, known, "validation")
        if both := sorted({*self.held_out, *named} & set(self.validation)):
            msg = (
                f"{both[0]} cannot be held out and in validation: the weights would be chosen by "
                "what they are tested on"
            )
            raise ValueError(msg)
        self._names_once()
        if both := sorted(set(named) & set(self.held_out)):
            msg = f"{both[0]} is in folds and in held_out; name it in one of them"
            raise ValueError(msg)
        if self.training.denoiser.patience and not self.validation:
            msg = "training.denoiser.patience stops early by the validation sections: name some"
            raise ValueError(msg)
        return self

    def _names_once(self) -> None:
        """Check that no fold is empty, and that nothing is tested or watched twice."""
        folds = [(fold,) if isinstance(fold, str) else fold for fold in self.folds]
        if not all(folds):
            msg = "folds has an empty list; name the sections that a fold is tested on"
            raise ValueError(msg)
        whole = ["+".join(sorted(fold)) for fold in folds]
        for field, names in (("held_out", self.held_out), ("validation", self.validation),
                             *(("folds", fold) for fold in folds), ("folds", whole)):  # fmt: skip
            if again := [name for name in names if list(names).count(name) > 1]:
                msg = f"{field} names {again[0]} twice; once is enough"
                raise ValueError(msg)

    def _takes_embeddings(self) -> None:
        """Check that embeddings of the spots' own patches are all that is needed."""
        if self.condition.survey_pitch_um is not None:
            msg = (
                "data.embeddings are of the spots alone and not of the tissue around them; set "
                "condition.survey_pitch_um: null and context_um: []"
            )
            raise ValueError(msg)
        if self.augment.views > 1:
            msg = (
                "data.embeddings hold one view of each patch, so nothing can be augmented; set "
                "augment.dihedral: false and stains: 0"
            )
            raise ValueError(msg)
        if set(self.data.embeddings) != set(self.encoders):
            msg = (
                f"data.embeddings has folders of {', '.join(self.data.embeddings)}, the encoders "
                f"are {', '.join(self.encoders)}; name a folder for each of them"
            )
            raise ValueError(msg)

    @property
    def standard(self) -> SamplingSettings:
        """The standard preset, with which figures are measured."""
        return self.presets.standard.settings()

    @property
    def fit(self) -> FitSettings:
        """How it is trained; the band is calibrated as the standard preset draws."""
        return replace(self.training, calibration=self.standard)

    @property
    def whole_patients(self) -> bool:
        """Whether a held-out section takes the other sections of its patient with it."""
        return (self.leave_out or {"strict": "patient", "paper": "section"}[self.protocol]) == (
            "patient"
        )

    def panel_file(self, recipe: Path) -> Path | None:
        """Return where the panel's list lies: its name counts from the recipe's own folder."""
        return None if self.panel.file is None else recipe.parent / self.panel.file
