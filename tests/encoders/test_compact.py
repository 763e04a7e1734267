from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stem_core.encoders.compact import CompactEncoder, load_compact_encoder
from stem_core.encoders.condition import (
    condition_groups,
    condition_width,
    spot_condition,
    survey_condition,
    survey_slide,
)
from stem_core.errors import ModelFileError
from stem_core.model.config import ConditionConfig
from stem_core.slides.patches import PatchSpec, read_patches
from stem_core.slides.reading import open_slide
from stem_core.slides.spots import lay_out_spots
from stem_core.slides.tissue import find_tissue
from zoo.loader import ENCODERS_DIR

SPEC = ConditionConfig(side_um=154.0, size_px=128, survey_pitch_um=400.0, context_um=(150.0, 300.0))

WEIGHTS = ENCODERS_DIR / "compact-he.safetensors"


@pytest.fixture(scope="module")
def encoder() -> CompactEncoder:
    return load_compact_encoder(WEIGHTS)


@pytest.fixture(scope="module")
def sample(sample_file: Path) -> Path:
    return sample_file


@pytest.fixture(scope="module")
def patches(sample: Path) -> np.ndarray:
    with open_slide(sample) as slide:
        spots = lay_out_spots(slide, find_tissue(slide), "st")
        return read_patches(slide, spots.x_px[:48], spots.y_px[:48], PatchSpec(128, side_um=154.0))


def between(a: np.ndarray, b: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Distance of embeddings per patch, in standard deviations over patches."""
    return np.sqrt((((a - b) / scale) ** 2).mean(1))


def test_bundled_encoder_is_small_enough(encoder: CompactEncoder) -> None:
    assert WEIGHTS.stat().st_size < 12_000_000
    assert len(encoder.sha256) == 64


def test_turns_and_flips_leave_the_embedding(encoder: CompactEncoder, patches: np.ndarray) -> None:
    base = encoder.encode(patches)
    scale = base.std(0) + 1e-6
    for turned in (np.rot90(patches, 1, (2, 3)), np.rot90(patches, 2, (2, 3)), patches[..., ::-1]):
        assert between(encoder.encode(np.ascontiguousarray(turned)), base, scale).max() < 0.05


def test_learned_half_hardly_sees_a_stain_shift(
    encoder: CompactEncoder, patches: np.ndarray
) -> None:
    """10 % more stain moves a patch less than half as far as another patch is away."""
    base = encoder.encode(patches)[:, -64:]
    darker = (255 * (patches / 255.0) ** 1.1).round().astype(np.uint8)
    scale = base.std(0) + 1e-6
    moved = between(encoder.encode(darker)[:, -64:], base, scale)
    apart = between(base, np.roll(base, 7, 0), scale)
    assert np.median(moved) < 0.5 * np.median(apart)


def test_condition_of_a_spot_is_its_own(encoder: CompactEncoder, sample: Path) -> None:
    ConditionConfig(side_um=154.0, size_px=128, survey_pitch_um=400.0, context_um=(150.0, 300.0))
    with open_slide(sample) as slide:
        tissue = find_tissue(slide)
        spots = lay_out_spots(slide, tissue, "st").take(slice(0, 9))
        survey = survey_slide(slide, tissue, encoder, SPEC)
        whole = spot_condition(slide, spots, survey, encoder, SPEC)
        alone = spot_condition(slide, spots.take(slice(4, 5)), survey, encoder, SPEC)
    assert whole.shape == (9, condition_width(SPEC, encoder.width))
    assert np.isfinite(whole).all()
    np.testing.assert_allclose(alone[0], whole[4], rtol=1e-3, atol=1e-3)


def test_condition_of_the_survey_is_that_of_spots_there(
    encoder: CompactEncoder, sample: Path
) -> None:
    ConditionConfig(side_um=154.0, size_px=128, survey_pitch_um=400.0, context_um=(150.0, 300.0))
    with open_slide(sample) as slide:
        survey = survey_slide(slide, find_tissue(slide), encoder, SPEC)
        mpp = slide.require_mpp()
        at = slice(3, 6)
        spots = replace(
            lay_out_spots(slide, find_tissue(slide), "st").take(slice(0, 3)),
            x_px=np.float64(survey.x_um[at]) / mpp,
            y_px=np.float64(survey.y_um[at]) / mpp,
        )
        there = spot_condition(slide, spots, survey, encoder, SPEC)
    lattice = survey_condition(survey, SPEC)
    assert len(lattice) == len(survey.x_um) <= 1000
    np.testing.assert_allclose(lattice[at], there, rtol=1e-3, atol=1e-3)
    # Relative to the slide, its own lattice has mean 0.
    relative = lattice[:, condition_groups(SPEC, encoder.width)["relative"]][:, : encoder.width]
    assert np.abs(relative.mean(0)).max() < 1e-3


def test_damaged_weights_give_a_sentence(tmp_path: Path) -> None:
    broken = tmp_path / "compact-he.safetensors"
    broken.write_bytes(WEIGHTS.read_bytes()[:5000])
    with pytest.raises(ModelFileError, match="install it again"):
        load_compact_encoder(broken)
