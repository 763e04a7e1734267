"""Embeddings kept on disk, read ahead, and taken from other tools' files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from stem_core.encoders.embedding import embed_places
from stem_core.encoders.embedding_cache import EmbeddingCache
from stem_core.encoders.imported_embeddings import read_embeddings
from stem_core.encoders.preparation import AsRead, Prepared
from stem_core.errors import OutputError, SpotsError
from stem_core.slides.patches import PatchSpec, read_patches
from stem_core.slides.reading import Slide, open_slide


class Colours:
    """An encoder that counts the patches it was given."""

    name, width = "colours", 3
    preparation = AsRead()

    def __init__(self, sha256: str = "0" * 64, arithmetic: str = "fp32 cpu") -> None:
        self.sha256, self.arithmetic = sha256, arithmetic
        self.seen: list[int] = []

    def encode(self, patches: NDArray[np.uint8], *, batch: int = 64) -> NDArray[np.float32]:
        self.seen.append(len(patches))
        return patches.mean((2, 3)).astype(np.float32)

    def encode_prepared(self, prepared: Prepared) -> NDArray[np.float32]:
        assert isinstance(prepared, np.ndarray)
        return self.encode(prepared)

    def to(self, device: torch.device) -> None:
        """Nothing to move."""


@pytest.fixture(scope="module")
def slide(sample_file: Path) -> Iterator[Slide]:
    with open_slide(sample_file) as slide:
        yield slide


def places(slide: Slide, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    random = np.random.default_rng(0)
    return random.uniform(0, slide.width_px, count), random.uniform(0, slide.height_px, count)


def test_reading_ahead_changes_nothing(slide: Slide) -> None:
    x, y = places(slide, 150)
    encoder, told = Colours(), []
    found = embed_places(
        slide, x, y, encoder, PatchSpec(16, side_um=50.0),
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    np.testing.assert_array_equal(
        found, encoder.encode(read_patches(slide, x, y, PatchSpec(16, side_um=50.0)))
    )
    assert encoder.seen == [64, 64, 22, 150]
    assert told == [(64, 150), (128, 150), (150, 150)]
    none = embed_places(slide, x[:0], y[:0], encoder, PatchSpec(16, side_um=50.0))
    assert none.shape == (0, 3)


def test_embeddings_are_kept_for_exactly_what_they_depend_on(slide: Slide, tmp_path: Path) -> None:
    cache, encoder = EmbeddingCache(tmp_path / "kept"), Colours()
    x, y = places(slide, 5)
    first = cache.embed(slide, x, y, encoder, PatchSpec(16, side_um=50.0))
    again = cache.embed(slide, x, y, encoder, PatchSpec(16, side_um=50.0))
    np.testing.assert_array_equal(first, again)
    assert encoder.seen == [5]
    [entry] = (tmp_path / "kept").iterdir()
    cache.embed(slide, x + 1, y, encoder, PatchSpec(16, side_um=50.0))
    cache.embed(slide, x, y, encoder, PatchSpec(16, side_um=60.0))
    cache.embed(slide, x, y, encoder, PatchSpec(16, side_px=50.0))
    cache.embed(slide, x, y, encoder, PatchSpec(32, side_um=50.0))
    other = Colours("1" * 64)
    cache.embed(slide, x, y, other, PatchSpec(16, side_um=50.0))
    assert len(encoder.seen) == 5
    assert other.seen == [5]
    assert len(list((tmp_path / "kept").iterdir())) == 6

    whole = entry.read_bytes()
    for damaged in (whole[:-3], whole[:-1] + bytes([whole[-1] ^ 1]), b""):
        entry.write_bytes(damaged)
        before = len(encoder.seen)
        np.testing.assert_array_equal(
            cache.embed(slide, x, y, encoder, PatchSpec(16, side_um=50.0)), first
        )
        cache.embed(slide, x, y, encoder, PatchSpec(16, side_um=50.0))
        assert len(encoder.seen) == before + 1  # made again, once
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        EmbeddingCache(tmp_path / "file").embed(slide, x, y, encoder, PatchSpec(16, side_um=50.0))


VALUES = np.arange(12, dtype=np.float32).reshape(4, 3)
CORNERS = np.array([[0, 0], [400, 0], [0, 400], [400, 400]])


def hest(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["embeddings"], file["coords"] = VALUES, CORNERS
        file["barcodes"] = np.array([[b"A"], [b"B"], [b"C"], [b"D"]])
    return path


def trident(path: Path, **attrs: float) -> Path:
    with h5py.File(path, "w") as file:
        file["features"], file["coords"] = VALUES, CORNERS
        known = {"patch_size": 224, "patch_size_level0": 448, "level0_magnification": 40}
        file["coords"].attrs.update(known | attrs)
    return path


def test_hest_files_are_taken_by_barcode(tmp_path: Path) -> None:
    path = hest(tmp_path / "a.h5")
    found = read_embeddings(path, side_um=112.0, patch_um=112.0)
    anywhere = np.zeros(2)  # without microns per pixel, how far a patch reaches is not known
    np.testing.assert_array_equal(found.of_spots(["D", "A"], anywhere, anywhere), VALUES[[3, 0]])
    with pytest.raises(SpotsError, match="do not have 1 of 2 spots, the first is E"):
        found.of_spots(["E", "A"], anywhere, anywhere)
    with pytest.raises(SpotsError, match="do not say how many microns"):
        read_embeddings(path, side_um=112.0)


def test_the_barcodes_of_another_section_are_refused(tmp_path: Path) -> None:
    """Visium's barcodes are the same on every section."""
    found = read_embeddings(hest(tmp_path / "a.h5"), side_um=112.0, patch_um=112.0, mpp=0.5)
    middles = CORNERS[[3, 0]] + 112
    for convention in (middles, CORNERS[[3, 0]], middles + np.array([50, -50])):
        given = found.of_spots(["D", "A"], *convention.T.astype(float))
        np.testing.assert_array_equal(given, VALUES[[3, 0]])
    with pytest.raises(SpotsError, match=r"\(1 of 2, the first is A, 150 px away\)") as told:
        found.of_spots(["D", "A"], *(middles + np.array([[0, 0], [150, 0]])).T.astype(float))
    assert "give the file of this section" in str(told.value)
    assert len(str(told.value).splitlines()) == 1


def test_trident_files_are_taken_by_place(tmp_path: Path) -> None:
    path = trident(tmp_path / "a.h5")
    found = read_embeddings(path, side_um=112.0, mpp=0.25)
    assert found.patch_um == 112.0
    x, y = np.array([624.0, 224.0]), np.array([224.5, 224.0])
    np.testing.assert_array_equal(found.of_spots(["p", "q"], x, y), VALUES[[1, 0]])
    with pytest.raises(SpotsError, match="do not have 1 of 2 spots, the first is q"):
        found.of_spots(["p", "q"], x - [0, 100], y)
    told = trident(tmp_path / "b.h5", level0_mpp=0.25)
    assert read_embeddings(told, side_um=112.0).patch_um == 112.0  # the slide's is not known


@pytest.mark.parametrize("name", ["level0_mpp", "mpp"])
def test_a_file_may_not_contradict_the_slides_microns_per_pixel(tmp_path: Path, name: str) -> None:
    """448 pixels at 0.5 µm are 224 µm, whatever the file says of its pixels."""
    path = trident(tmp_path / "a.h5", **{name: 0.25})
    for side_um in (112.0, 224.0):
        with pytest.raises(SpotsError, match=r"at 0.25 µm per pixel, but .* has 0.5;") as told:
            read_embeddings(path, side_um=side_um, mpp=0.5)
        assert len(str(told.value).splitlines()) == 1
    # Within 5 % it is the slide's that counts.
    assert read_embeddings(path, side_um=112.0, mpp=0.26).patch_um == pytest.approx(116.48)


def test_another_patch_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpotsError, match=r"patches 224 µm wide, but 112 µm are needed") as told:
        read_embeddings(trident(tmp_path / "a.h5"), side_um=112.0, mpp=0.5)
    assert len(str(told.value).splitlines()) == 1


def test_files_that_point_elsewhere_or_are_damaged(tmp_path: Path) -> None:
    hest(tmp_path / "secret.h5")
    path = tmp_path / "links.h5"
    for link in (
        h5py.ExternalLink("secret.h5", "/embeddings"),
        h5py.SoftLink("/coords"),
    ):
        with h5py.File(path, "w") as file:
            file["coords"] = CORNERS
            file["embeddings"] = link
        with pytest.raises(SpotsError, match="'embeddings' in another file, which is not followed"):
            read_embeddings(path, side_um=112.0, patch_um=112.0)
    (tmp_path / "raw").write_bytes(VALUES.tobytes())
    with h5py.File(path, "w") as file:
        file["coords"] = CORNERS
        outside = [(str(tmp_path / "raw"), 0, VALUES.nbytes)]
        file.create_dataset("embeddings", VALUES.shape, "<f4", external=outside)
    with pytest.raises(SpotsError, match="in another file"):
        read_embeddings(path, side_um=112.0, patch_um=112.0)
    (tmp_path / "cut.h5").write_bytes(hest(tmp_path / "b.h5").read_bytes()[:900])
    with pytest.raises(SpotsError, match="cannot be read"):
        read_embeddings(tmp_path / "cut.h5", side_um=112.0)
    with h5py.File(path, "w") as file:
        file["coords"], file["embeddings"] = CORNERS, np.full((4, 3), np.nan)
    with pytest.raises(SpotsError, match="not finite"):
        read_embeddings(path, side_um=112.0, patch_um=112.0)
