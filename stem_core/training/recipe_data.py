"""The `data` part of a recipe: which sections, where they lie, and embeddings that are there."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from stem_core.model.config import Config

__all__ = ["DataSource", "Download", "SectionName", "Select", "require_known"]

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

    For what is told where sections are missing; nothing is fetched by itself.
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
