"""Embeddings that another tool computed (HEST, TRIDENT), from its files in place of weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from stem_core.encoders.embedding import Encoder
from stem_core.errors import SectionError, SpotsError
from stem_core.files import file_sha256
from stem_core.slides.spots import Spots

__all__ = [
    "EmbeddingSource",
    "ImportedEmbeddings",
    "ImportedEncoder",
    "ImportedEncoders",
    "read_embeddings",
]


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


TOLERANCE = 0.05
_MOST_BYTES = 32 * 10**9
_NEAR_PX = 2.0


@dataclass(frozen=True)
class ImportedEmbeddings:
    """Embeddings of a slide's patches.

    Attributes
    ----------
    path
        Of the file.
    values
        float32, (N, width).
    patch_um
        Side of the patches in microns.
    spot_ids
        Barcodes; None where the file has none.
    x_px, y_px
        Middles of the patches in level-0 pixels, (N,); None where their side in pixels is not
        known.
    side_px
        Side of the patches in level-0 pixels; None where it is not known.
    """

    path: Path
    values: NDArray[np.float32]
    patch_um: float
    spot_ids: tuple[str, ...] | None
    x_px: NDArray[np.float64] | None
    y_px: NDArray[np.float64] | None
    side_px: float | None

    def of_spots(
        self, spot_ids: Sequence[str], x_px: NDArray[np.float64], y_px: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """Take the embeddings of spots, in their order: by barcode, or else by place.

        Barcodes repeat from section to section, so what they choose must also lie where the spot
        does.

        Raises
        ------
        SpotsError
            A spot has none, or a patch that does not hold it.
        """
        if self.spot_ids is not None:
            rows = {name: row for row, name in enumerate(self.spot_ids)}
            lacking = [name for name in spot_ids if name not in rows]
            chosen = [rows.get(name, 0) for name in spot_ids]
        else:
            assert self.x_px is not None
            assert self.y_px is not None
            tree = cKDTree(np.stack([self.x_px, self.y_px], 1))
            away, near = tree.query(np.stack([x_px, y_px], 1))
            lacking = [name for name, d in zip(spot_ids, away, strict=True) if d > _NEAR_PX]
            chosen = [int(row) for row in near]
        if lacking:
            msg = (
                f"The embeddings {self.path.name} do not have {len(lacking)} of {len(spot_ids)} "
                f"spots, the first is {lacking[0]}; make them for these spots."
            )
            raise SpotsError(msg)
        if self.spot_ids is not None:
            self._check_places(spot_ids, x_px, y_px, chosen)
        return self.values[chosen]

    def _check_places(
        self,
        spot_ids: Sequence[str],
        x_px: NDArray[np.float64],
        y_px: NDArray[np.float64],
        chosen: list[int],
    ) -> None:
        """Refuse patches that do not hold their spots, which lie in their middles.

        Some files give middles for corners: their spots lie on the corner, which is let pass.
        """
        if self.x_px is None or self.y_px is None or self.side_px is None:
            return
        away = np.maximum(np.abs(self.x_px[chosen] - x_px), np.abs(self.y_px[chosen] - y_px))
        outside = np.flatnonzero(away > self.side_px / 2 + _NEAR_PX)
        if len(outside):
            msg = (
                f"The embeddings {self.path.name} have other places than the spots of their "
                f"barcodes ({len(outside)} of {len(spot_ids)}, the first is "
                f"{spot_ids[outside[0]]}, {away[outside[0]]:,.0f} px away), as those of another "
                "section have; give the file of this section."
            )
            raise SpotsError(msg)


def read_embeddings(
    path: Path, *, side_um: float, mpp: float | None = None, patch_um: float | None = None
) -> ImportedEmbeddings:
    """Read the embeddings that HEST or TRIDENT wrote.

    Parameters
    ----------
    path
        An h5 file.
    side_um
        Side of the patches that are needed, in microns.
    mpp
        Microns per level-0 pixel of the slide, by which a side in its pixels is converted; without
        it, the file's own.
    patch_um
        Side of the patches in the file, for files that do not say it.

    Raises
    ------
    SpotsError
        The file cannot be read, is of neither kind, points outside itself, holds values that are
        not finite, does not say how wide its patches are, they are not `side_um` wide, or its
        microns per pixel are not the slide's.
    """
    try:
        with h5py.File(path, "r") as file:
            name = next((n for n in ("embeddings", "features") if n in file), None)
            if name is None or "coords" not in file:
                msg = (
                    f"The file {path.name} holds no 'embeddings' or 'features' with 'coords'; give "
                    "one that HEST or TRIDENT wrote."
                )
                raise SpotsError(msg)
            values = np.asarray(_own(file, name, path), np.float32)
            corners = np.asarray(_own(file, "coords", path), np.float64)
            attrs = {**file.attrs, **file[name].attrs, **file["coords"].attrs}
            names = np.asarray(_own(file, "barcodes", path)) if "barcodes" in file else None
    except (OSError, KeyError, ValueError, TypeError) as error:
        if isinstance(error, SpotsError):
            raise
        msg = f"The embeddings {path.name} cannot be read ({error}); make them again."
        raise SpotsError(msg) from error
    if values.ndim == 3 and values.shape[0] == 1:
        values, corners = values[0], corners[0] if corners.ndim == 3 else corners
    if values.ndim != 2 or corners.shape != (len(values), 2) or not np.isfinite(values).all():
        msg = (
            f"The embeddings {path.name} have the shape {values.shape} with places of shape "
            f"{corners.shape}, or hold values that are not finite; make them again."
        )
        raise SpotsError(msg)
    own_mpp = _number(attrs, "level0_mpp") or _number(attrs, "mpp")
    if own_mpp is not None and mpp is not None and abs(own_mpp / mpp - 1) > TOLERANCE:
        msg = (
            f"The embeddings {path.name} were made at {own_mpp:.4g} µm per pixel, but the slide "
            f"has {mpp:.4g}; make them with the slide's, or correct that of the slide."
        )
        raise SpotsError(msg)
    mpp = mpp or own_mpp
    found = _patch_um(attrs, mpp) or patch_um
    if found is None:
        msg = (
            f"The embeddings {path.name} do not say how many microns wide their patches are; say "
            "it (in a recipe by data.embeddings_patch_um), or make them with a tool that writes it."
        )
        raise SpotsError(msg)
    if abs(found / side_um - 1) > TOLERANCE:
        msg = (
            f"The embeddings {path.name} were made with patches {found:.4g} µm wide, but "
            f"{side_um:.4g} µm are needed; make them with that size."
        )
        raise SpotsError(msg)
    level0 = _number(attrs, "patch_size_level0")
    side_px = level0 or (None if mpp is None else found / mpp)
    middles = None if side_px is None else corners + side_px / 2
    ids = None if names is None else tuple(_text(n) for n in names.reshape(-1))
    if ids is None and level0 is None:
        msg = (
            f"The embeddings {path.name} have neither barcodes nor a 'patch_size_level0', so it is "
            "not known which spot each belongs to; make them with a tool that writes one of them."
        )
        raise SpotsError(msg)
    if ids is not None and len(ids) != len(values):
        msg = f"The embeddings {path.name} name {len(ids)} barcodes for {len(values)} patches."
        raise SpotsError(msg)
    x_px, y_px = (None, None) if middles is None else (middles[:, 0], middles[:, 1])
    return ImportedEmbeddings(path, values, found, ids, x_px, y_px, side_px)


def _own(file: h5py.File, name: str, path: Path) -> Any:
    """Read a dataset that lies in the file itself."""
    link = file.get(name, getlink=True)
    dataset = file[name] if isinstance(link, h5py.HardLink) else None
    if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
        msg = (
            f"The embeddings {path.name} keep '{name}' in another file, which is not followed; "
            "give a file that holds everything itself."
        )
        raise SpotsError(msg)
    if dataset.size * dataset.dtype.itemsize > _MOST_BYTES:
        msg = f"The embeddings {path.name} claim {dataset.size:,} values in '{name}'; split them."
        raise SpotsError(msg)
    return dataset[()]


def _patch_um(attrs: dict[str, Any], mpp: float | None) -> float | None:
    """Work out the side of the patches from what is written, the surest first."""
    level0, side = _number(attrs, "patch_size_level0"), _number(attrs, "patch_size")
    if level0 is not None and mpp is not None:
        return level0 * mpp
    target = _number(attrs, "target_mpp")
    if side is not None and target is not None:
        return side * target
    return None


def _number(attrs: dict[str, Any], name: str) -> float | None:
    try:
        value = float(np.asarray(attrs[name]).reshape(-1)[0])
    except (KeyError, TypeError, ValueError, IndexError):
        return None
    return value if np.isfinite(value) and value > 0 else None


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
