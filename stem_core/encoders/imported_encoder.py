"""An encoder that is known by its embeddings alone: files of another tool, in place of weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from stem_core.encoders.embedding import Encoder
from stem_core.encoders.imported_embeddings import read_embeddings
from stem_core.errors import SectionError, SpotsError
from stem_core.files import file_sha256
from stem_core.slides.spots import Spots

__all__ = ["EmbeddingSource", "ImportedEncoder", "ImportedEncoders"]


@dataclass(frozen=True)
class ImportedEncoder:
    """An encoder that was run elsewhere, on the patches of the spots.

    Attributes
    ----------
    name, width
        As in the catalogue.
    folder
        Holds `<section>.h5`.
    patch_um
        Side of the patches, for files that do not say it.
    """

    name: str
    width: int
    folder: Path
    patch_um: float | None = None

    def of_spots(
        self, section: str, spots: Spots, *, side_um: float, mpp: float
    ) -> NDArray[np.float32]:
        """Take the embeddings of a section's spots, in their order.

        Parameters
        ----------
        section
            Its name.
        spots
            By barcode and place, or by place alone where the file has no barcodes.
        side_um
            Side of the patches that are needed.
        mpp
            Of the slide.

        Returns
        -------
        float32 array, shape (N, width)

        Raises
        ------
        SectionError
            The file is missing or damaged, lacks a spot, or has other patches, places or another
            width.
        """
        self.require_file(section)
        try:
            read = read_embeddings(
                self.file(section), side_um=side_um, mpp=mpp, patch_um=self.patch_um
            )
            found = read.of_spots(spots.ids, spots.x_px, spots.y_px)
        except SpotsError as error:
            msg = f"Section {section}, encoder {self.name}: {error}"
            raise SectionError(msg) from error
        if found.shape[1] != self.width:
            msg = (
                f"The embeddings of section {section} have {found.shape[1]} values a patch, but "
                f"{self.name} gives {self.width}; put those of {self.name} into {self.folder}."
            )
            raise SectionError(msg)
        return found

    def require_file(self, section: str) -> None:
        """See to it that the file of a section is there, without opening it.

        Raises
        ------
        SectionError
            It is missing.
        """
        path = self.file(section)
        if not path.is_file():
            msg = (
                f"The embeddings of section {section} by {self.name} are missing: put {path.name} "
                f"into {self.folder}, or leave data.embeddings out of the recipe."
            )
            raise SectionError(msg)

    def file_sums(self, sections: Iterable[str]) -> dict[str, str]:
        """Hash the files of sections: name of the file -> sha256."""
        files = [self.file(section) for section in sections]
        return {path.name: file_sha256(path) for path in files}

    def file(self, section: str) -> Path:
        """Return where the file of a section is to lie."""
        return self.folder / f"{section}.h5"


@dataclass(frozen=True)
class ImportedEncoders:
    """The encoders of a model, all of them run elsewhere; their embeddings lie side by side.

    Attributes
    ----------
    parts
        In the model's order.
    """

    parts: tuple[ImportedEncoder, ...]

    @property
    def name(self) -> str:
        """Their names with a plus between them."""
        return "+".join(part.name for part in self.parts)

    @property
    def width(self) -> int:
        """Values per patch of all together."""
        return sum(part.width for part in self.parts)

    @property
    def sha256(self) -> str:
        """Empty: which weights they had is not known."""
        return ""

    def of_spots(
        self, section: str, spots: Spots, *, side_um: float, mpp: float
    ) -> NDArray[np.float32]:
        """Take the embeddings of a section's spots, (N, width), as `ImportedEncoder` does."""
        parts = [part.of_spots(section, spots, side_um=side_um, mpp=mpp) for part in self.parts]
        return np.concatenate(parts, 1)


EmbeddingSource: TypeAlias = Encoder | ImportedEncoders
"""Where the embeddings of a model come from in training."""
