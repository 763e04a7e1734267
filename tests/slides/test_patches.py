from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from stem_core.errors import MppError, SettingsError
from stem_core.slides.patches import PatchSpec, paper_side_px, read_patches
from stem_core.slides.reading import open_slide

Picture = NDArray[np.uint8]


def test_patches_are_centred_on_their_spots(pyramid_path: Path, section: Picture) -> None:
    slide = open_slide(pyramid_path)  # 0.5 µm per pixel
    patches = read_patches(slide, [350, 200], [250, 300], PatchSpec(64, side_um=32))
    assert patches.shape == (2, 3, 64, 64) and patches.dtype == np.uint8
    np.testing.assert_array_equal(patches[0].transpose(1, 2, 0), section[218:282, 318:382])
    np.testing.assert_array_equal(patches[1].transpose(1, 2, 0), section[268:332, 168:232])


def test_physical_side_does_not_depend_on_the_scan(tmp_path: Path, section: Picture) -> None:
    """The same tissue scanned at twice the resolution gives the same patch."""
    Image.fromarray(section).save(tmp_path / "20x.png")
    Image.fromarray(section.repeat(2, 0).repeat(2, 1)).save(tmp_path / "40x.png")
    coarse = read_patches(
        open_slide(tmp_path / "20x.png", mpp=0.5), [300.0], [200.0], PatchSpec(40, side_um=40)
    )
    fine = read_patches(
        open_slide(tmp_path / "40x.png", mpp=0.25), [600.0], [400.0], PatchSpec(40, side_um=40)
    )
    np.testing.assert_array_equal(coarse, fine)


def test_any_chunking_and_order_gives_the_same_pixels(pyramid_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-20, 720, 40), rng.uniform(-20, 520, 40)
    slide = open_slide(pyramid_path)
    whole = read_patches(slide, x, y, PatchSpec(48, side_um=77.7))
    order = rng.permutation(40)
    again = np.empty_like(whole)
    for part in np.array_split(order, 7):
        again[part] = read_patches(slide, x[part], y[part], PatchSpec(48, side_um=77.7))
    np.testing.assert_array_equal(whole, again)


def test_beyond_the_slide_is_white(pyramid_path: Path) -> None:
    patch = read_patches(open_slide(pyramid_path), [0.0], [0.0], PatchSpec(40, side_um=20))[0]
    assert (patch[:, :20] == 255).all() and (patch[:, :, :20] == 255).all()


def test_no_spots_no_patches(pyramid_path: Path) -> None:
    assert read_patches(open_slide(pyramid_path), [], [], PatchSpec(8, side_um=20)).shape == (
        0, 3, 8, 8,
    )  # fmt: skip


def test_paper_mode_begins_on_whole_pixels(pyramid_path: Path, section: Picture) -> None:
    slide = open_slide(pyramid_path)
    assert paper_side_px(slide, 55) == 224
    assert paper_side_px(slide, 150) == 300
    patch = read_patches(slide, [350.3], [250.4], PatchSpec(224, side_px=224))[0]
    np.testing.assert_array_equal(patch.transpose(1, 2, 0), section[138:362, 238:462])


def test_what_cannot_be_cut_is_refused(tmp_path: Path, section: Picture) -> None:
    Image.fromarray(section).save(tmp_path / "a.png")
    slide = open_slide(tmp_path / "a.png")
    with pytest.raises(MppError, match="does not say how many microns"):
        read_patches(slide, [10], [10], PatchSpec(8, side_um=20))
    with pytest.raises(MppError):
        paper_side_px(slide, 55)
    with pytest.raises(SettingsError, match="either in microns"):
        PatchSpec(8)
    with pytest.raises(SettingsError, match="either in microns"):
        PatchSpec(8, side_um=20, side_px=20)
    for side, size in ((0, 8), (-5, 8), (float("nan"), 8), (20, 0)):
        with pytest.raises(SettingsError, match="has no area"):
            PatchSpec(size, side_px=side)
