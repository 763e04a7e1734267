"""The recipe of a model: a YAML file that says how it is trained, checked before any work.

A recipe names its sections, what is held out and how (`protocol`), the panel, the encoders, what
the model looks at, and the settings of training. Unknown keys are refused.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from stem_core.encoders.condition import ConditionSpec
from stem_core.prediction.settings import SamplingSettings
from stem_core.training.fit import FitSettings

__all__ = [
    "Augmentation",
    "ConditionChoice",
    "DataSource",
    "Download",
    "LayoutFacts",
    "ManifestFacts",
    "PanelChoice",
    "PresetChoice",
    "Presets",
    "Recipe",
    "Select",
]

NAME_PATTERN = r"^[a-z0-9][a-z0-9-]{1,63}$"
EACH_SECTION, EACH_PATIENT = "each-section", "each-patient"
Positive = Annotated[float, Field(gt=0)]
SectionName = Annotated[str, Field(pattern=r"^[\w+-][\w.+-]{0,99}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Select(_Strict):
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
    where: dict[str, str] = {}
    exclude: tuple[SectionName, ...] = ()

    @model_validator(mode="after")
    def _selects(self) -> Select:
        if not self.dataset_title_starts and not self.where:
            msg = "give dataset_title_starts, or where with a field of the metadata"
            raise ValueError(msg)
        return self


class Download(_Strict):
    """Where the data can be had on the Hub: dataset, revision (40 digits, or `unpinned`), ids."""

    dataset: str
    revision: str = "unpinned"
    ids: tuple[SectionName, ...] = ()


class DataSource(_Strict):
    """Which sections, and where they lie below the data folder.

    Attributes
    ----------
    source
        Kind of folder: `hest` (wsis/, st/, metadata/), `spaceranger` (a folder with outs/ each) or
        `folder` (one's own wsis/ and st/).
    folder
        Below the data folder; "." for itself.
    sections
        Their names; or else `select`.
    patients
        Section -> patient, over what the metadata say.
    download
        Where to get them, for those who have no data yet.
    """

    source: Literal["hest", "spaceranger", "folder"] = "hest"
    folder: str = "."
    sections: tuple[SectionName, ...] = ()
    select: Select | None = None
    patients: dict[SectionName, str] = {}
    download: Download | None = None

    @field_validator("folder")
    @classmethod
    def _stays_below(cls, folder: str) -> str:
        if PurePosixPath(folder).is_absolute() or ".." in PurePosixPath(folder).parts:
            msg = "it must be a folder below the data folder"
            raise ValueError(msg)
        return folder

    @model_validator(mode="after")
    def _names_sections(self) -> DataSource:
        if bool(self.sections) == (self.select is not None):
            msg = "give either sections or select"
            raise ValueError(msg)
        if len(set(self.sections)) != len(self.sections):
            msg = "sections names a section twice"
            raise ValueError(msg)
        if self.sections:
            _require_known(self.patients, self.sections, "patients")
        return self


class PanelChoice(_Strict):
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


class ConditionChoice(_Strict):
    """What the model looks at, see `stem_core.encoders.condition.ConditionSpec`."""

    side_um: Positive
    size_px: int = Field(gt=0)
    survey_pitch_um: Positive | None
    context_um: tuple[Positive, ...] = ()
    patch_mode: Literal["physical", "paper"] = "physical"

    @model_validator(mode="after")
    def _fits_together(self) -> ConditionChoice:
        if (self.survey_pitch_um is None) != (not self.context_um):
            msg = "context_um needs a survey_pitch_um, and the other way round"
            raise ValueError(msg)
        return self


class LayoutFacts(_Strict):
    """How spots lie on the training platform."""

    kind: Literal["visium", "st", "grid"]
    pitch_um: Positive
    spot_diameter_um: Positive


class PresetChoice(_Strict):
    """A named choice of sampler, steps and samples per spot."""

    sampler: str
    steps: int
    samples: int

    @model_validator(mode="after")
    def _can_be(self) -> PresetChoice:
        self.settings  # noqa: B018 - raises where it cannot be
        return self

    @property
    def settings(self) -> SamplingSettings:
        """As the sampler takes it."""
        return SamplingSettings(self.sampler, self.steps, self.samples)


class Presets(_Strict):
    """The three presets of a model."""

    preview: PresetChoice
    standard: PresetChoice
    published: PresetChoice


class Augmentation(_Strict):
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


class LicenceFacts(_Strict):
    """Under which terms code, weights and training data may be used."""

    code: str
    weights: str
    data: str


class ManifestFacts(_Strict):
    """What the manifest says that no data do."""

    version: str
    title: str
    tissue: str
    organ: str
    species: str
    platform: str
    disease: str
    panel_rule: str
    licences: LicenceFacts
    citation: str
    hub_datasets: tuple[str, ...] = ()


class Recipe(_Strict):
    """How a model is trained.

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
        Not trained on; watched while training and used for stopping early. Under the strict
        protocol none of what is held out.
    """

    name: str = Field(pattern=NAME_PATTERN)
    protocol: Literal["strict", "paper"] = "strict"
    leave_out: Literal["patient", "section"] | None = None
    data: DataSource
    folds: tuple[SectionName | tuple[SectionName, ...], ...] = ()
    held_out: tuple[SectionName, ...] = ()
    validation: tuple[SectionName, ...] = ()
    panel: PanelChoice = PanelChoice()
    encoders: tuple[str, ...] = Field(min_length=1)
    condition: ConditionChoice
    augment: Augmentation = Augmentation()
    layout: LayoutFacts
    presets: Presets
    training: FitSettings = FitSettings()
    manifest: ManifestFacts

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        if self.training.target == "residual" and self.condition.survey_pitch_um is None:
            msg = "training.target: residual needs condition.survey_pitch_um and context_um"
            raise ValueError(msg)
        named = [s for fold in self.folds for s in ([fold] if isinstance(fold, str) else fold)]
        if known := self.data.sections:
            _require_known([s for s in named if not s.startswith("each-")], known, "folds")
            _require_known(self.held_out, known, "held_out")
            _require_known(self.validation, known, "validation")
        seen = {*self.held_out, *named} if self.protocol == "strict" else set()
        if both := sorted(seen & set(self.validation)):
            msg = (
                f"under the strict protocol {both[0]} cannot be held out and in validation: "
                "training would look at it"
            )
            raise ValueError(msg)
        if both := sorted(set(named) & set(self.held_out)):
            msg = f"{both[0]} is in folds and in held_out; name it in one of them"
            raise ValueError(msg)
        if self.training.denoiser.patience and not self.validation:
            msg = "training.denoiser.patience stops early by the validation sections: name some"
            raise ValueError(msg)
        return self

    @property
    def spec(self) -> ConditionSpec:
        """What the model looks at."""
        c = self.condition
        return ConditionSpec(c.side_um, c.size_px, c.survey_pitch_um, c.context_um, c.patch_mode)

    @property
    def standard(self) -> SamplingSettings:
        """The standard preset, with which figures are measured."""
        return self.presets.standard.settings

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


def _require_known(names: Any, known: tuple[str, ...], field: str) -> None:
    for name in names:
        if name not in known:
            msg = (
                f"{field} names '{name}', which is not among the {len(known)} sections "
                f"({', '.join(known[:6])}{', …' if len(known) > 6 else ''})"
            )
            raise ValueError(msg)
