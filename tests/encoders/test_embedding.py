"""Patches are read and prepared ahead by threads, with the same result to the bit."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from stem_core.encoders.catalogue import CATALOGUE
from stem_core.encoders.embedding import Encoder, embed_places
from stem_core.encoders.embedding_cache import EmbeddingCache
from stem_core.encoders.foundation import load_published
from stem_core.encoders.pair import JoinedEncoder
from stem_core.encoders.preparation import Prepared, Resized
from stem_core.errors import Cancelled, SlideOpenError
from stem_core.slides.patches import PatchSpec, read_patches
from stem_core.slides.reading import Slide, open_slide
from stem_core.training.views import ViewedEncoder
from tests.encoders.published import tiny_facts, tiny_state
from zoo.loader import find_encoder

PARTS = (slice(0, 64), slice(64, 80))
STOPPED = "from tests.encoders.reading_places import embed_until_stopped as e; e()"
START_S = 60.0  # until a process answers, on a busy machine


@pytest.fixture(scope="module")
def slide(sample_file: Path) -> Iterator[Slide]:
    with open_slide(sample_file) as slide:
        yield slide


def places(slide: Slide, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    random = np.random.default_rng(0)
    return random.uniform(0, slide.width_px, count), random.uniform(0, slide.height_px, count)


def tiny_encoder(name: str, folder: Path) -> Encoder:
    path = folder / f"{name}.safetensors"
    save_file({key: value.contiguous() for key, value in tiny_state(name).items()}, path)
    return load_published(tiny_facts(name), path)


def test_the_embeddings_are_the_same_whoever_reads(slide: Slide, tmp_path: Path) -> None:
    uni = tiny_encoder("uni", tmp_path)
    stained = ViewedEncoder(find_encoder(["compact-he"]), 9, turned=True)
    encoder = JoinedEncoder((uni, stained))
    x, y = places(slide, 80)
    expected = encoder.encode(read_patches(slide, x, y, PatchSpec(70, side_um=60.0)))
    assert np.ptp(expected, 0).min() > 0
    for threads in (1, 2, 4):
        found = embed_places(slide, x, y, encoder, PatchSpec(70, side_um=60.0), threads=threads)
        assert found.tobytes() == expected.tobytes()
        none = embed_places(
            slide, x[:0], y[:0], encoder, PatchSpec(70, side_um=60.0), threads=threads
        )
        assert none.shape == (0, encoder.width)


def test_patches_are_prepared_as_they_are_alone() -> None:
    """Also where nothing has to be resized."""
    given = np.random.default_rng(0).integers(0, 256, (2, 3, 224, 224), dtype=np.uint8)
    rule = CATALOGUE["uni"].input
    assert rule is not None
    np.testing.assert_array_equal(Resized(rule)(given), given)
    cropped = Resized(replace(rule, px=200, crop=True))(given)
    np.testing.assert_array_equal(cropped, given[..., 12:212, 12:212])


class Ahead:
    """Takes its first patches only when three more groups were prepared."""

    name, width, sha256, arithmetic = "ahead", 1, "0" * 64, "fp32 cpu"

    def __init__(self) -> None:
        self.prepared = threading.Semaphore(0)
        self.first = 0

    def preparation(self, patches: NDArray[np.uint8]) -> Prepared:
        self.prepared.release()
        return patches

    def encode(self, patches: NDArray[np.uint8], *, batch: int = 64) -> NDArray[np.float32]:
        return np.zeros((len(patches), 1), np.float32)

    def to(self, device: torch.device) -> None:
        """Nothing to move."""

    def encode_prepared(self, prepared: Prepared) -> NDArray[np.float32]:
        if not self.first:
            self.first = sum(self.prepared.acquire(timeout=20) for _ in range(4))
        return np.zeros((len(prepared), 1), np.float32)


def test_preparing_goes_on_while_the_encoder_works(slide: Slide) -> None:
    encoder = Ahead()
    x, y = places(slide, 64 * 6)
    embed_places(slide, x, y, encoder, PatchSpec(2, side_um=8.0), threads=2)
    assert encoder.first == 4


def test_views_of_a_patch_are_read_once(
    slide: Slide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, cache = [], EmbeddingCache(tmp_path)
    own = Slide.read_box

    def counted(slide: Slide, *args: float) -> NDArray[np.uint8]:
        read.append(1)
        return own(slide, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Slide, "read_box", counted)
    plain = find_encoder(["compact-he"])
    views = [ViewedEncoder(plain, view, turned=True) for view in range(1, 4)]
    x, y = places(slide, 20)
    joined = cache.embed(slide, x, y, JoinedEncoder((plain, *views)), PatchSpec(64, side_um=50.0))
    assert len(read) == 20
    alone = [cache.embed(slide, x, y, e, PatchSpec(64, side_um=50.0)) for e in (plain, *views)]
    assert len(read) == 20  # each was kept for itself
    np.testing.assert_array_equal(joined, np.concatenate(alone, 1))
    assert len({part.tobytes() for part in alone}) == 4


def test_an_error_while_reading_is_raised_and_ends_the_threads(slide: Slide) -> None:
    class Failing(Ahead):
        def preparation(self, patches: NDArray[np.uint8]) -> Prepared:
            msg = "These patches cannot be read; look."
            raise SlideOpenError(msg)

    x, y = places(slide, 64 * 6)
    with pytest.raises(SlideOpenError, match="cannot be read"):
        embed_places(slide, x, y, Failing(), PatchSpec(2, side_um=8.0), threads=2)
    assert not any(thread.name.startswith("patches") for thread in threading.enumerate())


def test_stopping_ends_the_threads(slide: Slide) -> None:
    def stop(done: int, total: int) -> None:
        raise Cancelled

    x, y = places(slide, 64 * 50)
    with pytest.raises(Cancelled):
        embed_places(slide, x, y, Ahead(), PatchSpec(2, side_um=8.0), progress=stop, threads=2)
    assert not any(thread.name.startswith("patches") for thread in threading.enumerate())
