"""The synthetic sample slide: a real pyramidal file that behaves like a section."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

from stem_core.slides.patches import PatchSpec, read_patches
from stem_core.slides.reading import open_slide
from stem_core.slides.sample import SAMPLE_MPP, SAMPLE_NAME, make_sample_slide, sample_slide
from stem_core.slides.spots import lay_out_spots
from stem_core.slides.tissue import TissueMask, find_tissue


@pytest.fixture(scope="module")
def sample(sample_file: Path) -> Path:
    return sample_file


def test_it_is_a_pyramid_with_mpp_and_a_label(sample: Path) -> None:
    assert sample.name == SAMPLE_NAME
    with open_slide(sample) as slide:
        assert slide.width_px == slide.height_px == 4096 and slide.level_count == 5
        assert slide.mpp == pytest.approx(SAMPLE_MPP) and slide.mpp_source == "metadata"
        corner = slide.read_box(0, 0, 1300, 220, 1300, 220)
        with tifffile.TiffFile(sample) as tiff:
            assert "SYNTHETIC" in tiff.pages.first.description
    caption = (np.abs(corner.astype(int) - (70, 120, 175)).max(axis=2) < 20).mean()
    assert caption > 0.02


@pytest.fixture(scope="module")
def tissue(sample: Path) -> TissueMask:
    with open_slide(sample) as slide:
        return find_tissue(slide)


def test_tissue_is_found_and_the_caption_is_not(sample: Path, tissue: TissueMask) -> None:
    with open_slide(sample) as slide:
        assert 0.35 < tissue.fraction() < 0.65
        assert not tissue.mask[: int(230 / tissue.scale_px), : int(1400 / tissue.scale_px)].any()
        assert 100 < len(lay_out_spots(slide, tissue, "st")) < 300
        assert len(lay_out_spots(slide, tissue, "visium")) > 400


def test_regions_differ_as_on_a_section(sample: Path, tissue: TissueMask) -> None:
    """Purple nests, pink stroma and dense lymphocytes: colours and textures vary between spots."""
    with open_slide(sample) as slide:
        spots = lay_out_spots(slide, tissue, "st")
        patches = read_patches(slide, spots.x_px, spots.y_px, PatchSpec(48, side_um=150))
    red, green, blue = patches.reshape(len(patches), 3, -1).mean(axis=2).T
    assert (red > blue).mean() > 0.15 and (blue > red).mean() > 0.3
    assert green.std() > 15 and (green < np.minimum(red, blue)).all()


def test_it_is_made_once(sample: Path) -> None:
    stamp = sample.stat().st_mtime_ns
    began = time.perf_counter()
    assert sample_slide(sample.parent) == sample and sample.stat().st_mtime_ns == stamp
    assert time.perf_counter() - began < 0.5
    assert sample.stat().st_mode & 0o600 == 0o600
    assert [entry.name for entry in sample.parent.iterdir()] == [SAMPLE_NAME]


def test_same_program_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stem_core.slides.sample.SIZE_PX", 512)  # a smaller one, for speed
    paths = [make_sample_slide(tmp_path / name) for name in ("a.tif", "b.tif")]
    assert len({hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}) == 1
