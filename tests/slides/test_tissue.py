"""The tissue mask on drawn pictures whose answer is known, and on the real sections."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from stem_core.errors import NoTissueError
from stem_core.slides.reading import open_slide
from stem_core.slides.tissue import TissueMask, find_tissue

Picture = NDArray[np.uint8]


def find(picture: Picture, path: Path) -> TissueMask:
    Image.fromarray(picture).save(path)
    return find_tissue(open_slide(path))


def ellipse(width: int = 700, height: int = 500) -> NDArray[np.bool_]:
    y, x = np.mgrid[0:height, 0:width]
    place = ((x - width / 2) / (0.3 * width)) ** 2 + ((y - height / 2) / (0.3 * height)) ** 2
    return np.asarray(place < 1)


def overlap(found: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> float:
    return float((found & wanted).sum() / (found | wanted).sum())


def test_section_is_found(pyramid_path: Path) -> None:
    tissue = find_tissue(open_slide(pyramid_path))
    assert tissue.mask.shape == (500, 700) and tissue.mask.dtype == bool
    assert tissue.scale_px == 1.0
    assert overlap(tissue.mask, ellipse()) > 0.95
    assert tissue.fraction() == pytest.approx(ellipse().mean(), rel=0.05)


def test_mask_is_a_small_overview_of_a_large_slide(
    pyramid_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stem_core.slides.tissue.MASK_PX", 280)
    tissue = find_tissue(open_slide(pyramid_path))
    assert tissue.mask.shape == (200, 280) and tissue.scale_px == 2.5
    shares = tissue.fraction_at([350, 20], [250, 480], 40)
    np.testing.assert_allclose(shares, [1, 0], atol=0.05)


@pytest.mark.parametrize("strength", [0.25, 1.6])
def test_pale_and_dark_stain(tmp_path: Path, section: Picture, strength: float) -> None:
    glass = np.array([243, 241, 244.0])
    stained = (glass * (section / glass) ** strength).clip(0, 255).astype(np.uint8)
    assert overlap(find(stained, tmp_path / "a.png").mask, ellipse()) > 0.9


@pytest.mark.parametrize("glass", [(214, 207, 222), (236, 222, 232), (255, 255, 255)])
def test_tinted_glass(tmp_path: Path, section: Picture, glass: tuple[int, int, int]) -> None:
    tinted = (section * (np.array(glass) / np.array([243, 241, 244]))).clip(0, 255)
    assert overlap(find(tinted.astype(np.uint8), tmp_path / "a.png").mask, ellipse()) > 0.93


def test_pen_black_border_and_shadows_are_left_out(tmp_path: Path, section: Picture) -> None:
    picture = section.copy()
    picture[:25] = 4  # black border
    picture[430:450, 60:300] = (40, 90, 190)  # blue pen
    picture[460:480, 60:300] = (30, 140, 80)  # green pen
    shadow = np.zeros(picture.shape[:2])
    shadow[60:160, 20:110] = 60
    shadow = ndimage.gaussian_filter(shadow, 12)
    picture = (picture - shadow[:, :, None]).clip(0, 255).astype(np.uint8)
    assert overlap(find(picture, tmp_path / "a.png").mask, ellipse()) > 0.9


def test_a_pink_smear_without_grain_is_left_out(tmp_path: Path, section: Picture) -> None:
    smear = np.zeros(section.shape[:2])
    smear[330:480, 30:190] = 1
    smear = ndimage.gaussian_filter(smear, 15)[:, :, None]
    picture = (section * (1 - smear * np.array([0.05, 0.25, 0.1]))).astype(np.uint8)
    assert overlap(find(picture, tmp_path / "a.png").mask, ellipse()) > 0.9


@pytest.mark.parametrize("kind", ["white", "noisy", "vignette", "grey dirt"])
def test_no_tissue(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(0)
    picture = np.full((500, 700, 3), 242.0)
    if kind == "noisy":
        picture += rng.normal(0, 2, picture.shape)
    if kind == "vignette":
        y, x = np.mgrid[-1:1:500j, -1:1:700j]
        picture *= (1 - 0.10 * (x**2 + y**2))[:, :, None]
        picture += rng.normal(0, 1.5, picture.shape)
    if kind == "grey dirt":
        for y, x in rng.integers(10, 490, (60, 2)):
            picture[y : y + 3, x : x + 3] = 120
    with pytest.raises(NoTissueError, match=r"No tissue was found on blank\.png") as error:
        find(picture.clip(0, 255).astype(np.uint8), tmp_path / "blank.png")
    assert "\n" not in str(error.value)


def test_fraction_at_is_the_share_of_the_disc() -> None:
    mask = np.zeros((100, 200), dtype=bool)
    mask[:, 100:] = True
    tissue = TissueMask(mask, scale_px=4.0)
    shares = tissue.fraction_at([400, 200, 600, 790, 5000], [200, 200, 200, 200, 200], 80)
    assert shares.dtype == np.float32
    np.testing.assert_allclose(shares[:3], [0.5, 0, 1], atol=0.03)
    assert 0.5 < shares[3] < 0.9 and shares[4] == 0  # partly and wholly outside the slide


def test_fraction_at_against_counting() -> None:
    rng = np.random.default_rng(3)
    mask = ndimage.gaussian_filter(rng.normal(size=(300, 300)), 15) > 0
    tissue = TissueMask(mask, scale_px=2.0)
    x, y = rng.uniform(100, 500, (2, 40))
    shares = tissue.fraction_at(x, y, 80)
    rows, columns = (np.mgrid[0:300, 0:300] + 0.5) * 2
    counted = [mask[np.hypot(columns - a, rows - b) < 40].mean() for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(shares, counted, atol=0.05)


def test_fraction_at_has_no_rows_for_no_spots() -> None:
    assert TissueMask(np.ones((2, 2), dtype=bool), 1.0).fraction_at([], [], 5).shape == (0,)


@pytest.mark.parametrize(
    ("section_name", "share"),
    [
        ("her2st/B4", 0.92),
        ("mouse_olfactory_bulb/MOB1", 0.96),
        ("mouse_olfactory_bulb/MOB3", 0.90),
    ],
)
def test_real_sections(real_data: Path, section_name: str, share: float) -> None:
    """Measured spots, which others judged to be on tissue, are on it; the glass is not."""
    folder, name = section_name.split("/")
    with open_slide(real_data / folder / "wsis" / f"{name}.tif") as slide:
        tissue = find_tissue(slide)
        with h5py.File(real_data / folder / "st" / f"{name}.h5ad") as file:
            xy = file["obsm/spatial"][:]
        on_tissue = tissue.fraction_at(xy[:, 0], xy[:, 1], 100 / slide.require_mpp())
    assert (on_tissue >= 0.5).mean() >= share
    hull = np.zeros_like(tissue.mask)
    rows, columns = (xy[:, ::-1] / tissue.scale_px).astype(int).T
    hull[rows, columns] = True
    reach = ndimage.distance_transform_edt(~hull) * tissue.scale_px * slide.require_mpp()
    assert tissue.mask[reach > 400].sum() < 0.03 * tissue.mask.sum()


def test_same_slide_same_mask(draw: Callable[..., Picture], tmp_path: Path) -> None:
    picture = draw(300, 200, seed=4)
    first, second = (find(picture, tmp_path / name).mask for name in ("a.png", "b.png"))
    np.testing.assert_array_equal(first, second)
