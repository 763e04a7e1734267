"""What kept embeddings depend on: all of the slide, the arithmetic, the program's own rules."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import tifffile

from stem_core.encoders import embedding_cache
from stem_core.encoders.embedding_cache import EmbeddingCache
from stem_core.encoders.foundation import load_published
from stem_core.encoders.pair import JoinedEncoder
from stem_core.errors import SettingsError
from stem_core.slides.content import slide_content, slide_files
from stem_core.slides.patches import PatchSpec
from stem_core.slides.reading import Slide, open_slide
from stem_core.training.views import ViewedEncoder
from tests.encoders.published import tiny_facts
from tests.encoders.test_embedding_files import Colours
from tests.encoders.test_foundation import saved
from zoo.loader import find_encoder

SIDE_PX = 1100  # an uncompressed file of more than 3 MiB
PLACE = np.array([SIDE_PX / 2])


def write_slide(path: Path, middle: int) -> Path:
    """Uncompressed; only the pixels around its middle differ from one call to another."""
    picture = np.full((SIDE_PX, SIDE_PX, 3), (200, 120, 170), np.uint8)
    picture[::7, ::5] = (90, 40, 120)
    picture[540:560, 540:560] = middle
    tifffile.imwrite(path, picture, photometric="rgb", resolution=(1e4, 1e4), resolutionunit=3)
    return path


@pytest.fixture
def slide(tmp_path: Path) -> Slide:
    return open_slide(write_slide(tmp_path / "a.tif", 100))


def embedded(slide: Slide, encoder: Colours, cache: Path) -> bytes:
    made = EmbeddingCache(cache).embed(slide, PLACE, PLACE, encoder, PatchSpec(16, side_um=16.0))
    return made.tobytes()


def test_an_edit_anywhere_in_the_slide_is_seen(slide: Slide, tmp_path: Path) -> None:
    first, colours = embedded(slide, Colours(), tmp_path / "kept"), Colours()
    slide.close()
    edited = open_slide(write_slide(tmp_path / "a.tif", 130))
    assert edited.fingerprint() == slide.fingerprint()  # size, first and last MiB
    assert embedded(edited, colours, tmp_path / "kept") != first
    assert colours.seen == [1]
    whole = hashlib.sha256((tmp_path / "a.tif").read_bytes()).hexdigest()
    assert slide_content(edited) == whole
    (tmp_path / "b.tif").write_bytes((tmp_path / "a.tif").read_bytes())
    embedded(open_slide(tmp_path / "b.tif"), colours, tmp_path / "kept")
    assert colours.seen == [1]  # the same content under another name


def test_slides_of_several_files_are_known_by_all_of_them(slide: Slide, tmp_path: Path) -> None:
    path = slide.path
    assert slide_files(slide) == [path]
    pixels = tmp_path / "a" / "Data0001.dat"
    pixels.parent.mkdir()
    pixels.write_text("x")
    for name, content in {"a-0.jpg": "x", "b.jpg": "x", "c.dcm": "\0" * 128 + "DICM"}.items():
        (tmp_path / name).write_text(content)
    (tmp_path / "a.vms").write_text("[Virtual Microscope Specimen]\nImageFile=a-0.jpg\n")
    expected = {
        "mirax": (path, pixels),
        "hamamatsu-vms": (tmp_path / "a.vms", tmp_path / "a-0.jpg"),
        "dicom": (path, tmp_path / "c.dcm"),
    }
    for kind, (entry, other) in expected.items():
        sums = []
        for content in (other.read_text(), other.read_text() + "y"):
            other.write_text(content)
            opened = open_slide(path)
            opened.format, opened.path = kind, entry
            assert slide_files(opened) == [entry, other]
            sums.append(slide_content(opened))
        assert len({*sums, slide_content(slide)}) == 3


def test_another_precision_or_device_is_embedded_anew(slide: Slide, tmp_path: Path) -> None:
    for arithmetic in ("fp32 cpu", "fp32 cuda", "fp16 cuda"):
        encoder = Colours(arithmetic=arithmetic)
        for _ in range(2):
            embedded(slide, encoder, tmp_path / "kept")
        assert encoder.seen == [1]


def test_encoders_say_their_arithmetic(tmp_path: Path) -> None:
    path = saved("uni", tmp_path)
    auto = load_published(tiny_facts("uni"), path)
    half = load_published(tiny_facts("uni"), path, precision="bf16")
    assert auto.arithmetic == "fp32 cpu"  # what it comes to
    assert half.arithmetic == "bf16 cpu"
    assert JoinedEncoder((auto, ViewedEncoder(half, 1, turned=True))).arithmetic == (
        "fp32 cpu+bf16 cpu"
    )
    assert find_encoder(["compact-he"]).arithmetic == "fp32 cpu"
    with pytest.raises(SettingsError, match="needs a GPU"):
        _ = load_published(tiny_facts("uni"), path, precision="fp16").arithmetic


def test_embeddings_of_other_rules_are_made_anew(
    slide: Slide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Colours()
    embedded(slide, encoder, tmp_path / "kept")
    monkeypatch.setattr(embedding_cache, "RULES", embedding_cache.RULES + 1)
    embedded(slide, encoder, tmp_path / "kept")
    assert encoder.seen == [1, 1]


def test_joined_encoders_are_kept_each_for_itself(slide: Slide, tmp_path: Path) -> None:
    first, second = Colours(), Colours("1" * 64)
    embedded(slide, first, tmp_path / "kept")
    cache = EmbeddingCache(tmp_path / "kept")
    pair = JoinedEncoder((second, first))
    found = cache.embed(slide, PLACE, PLACE, pair, PatchSpec(16, side_um=16.0))
    assert found.shape == (1, 6)
    assert (first.seen, second.seen) == ([1], [1])
