from __future__ import annotations

import numpy as np
import pytest

from stem_core.slides.resampling import axis_weights, resample, to_uint8


def test_whole_factor_is_the_block_mean() -> None:
    image = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    out = resample(image, axis_weights(0, 12, 3, 12), axis_weights(0, 20, 5, 20))
    blocks = image.reshape(3, 4, 5, 4, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(out, blocks, atol=1e-3)


def test_fractional_box_is_the_exact_area_integral() -> None:
    """Against a supersampled image, on which the same box has whole-pixel edges."""
    image = np.random.default_rng(1).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    fine = image.repeat(10, axis=0).repeat(10, axis=1)
    out = resample(image, axis_weights(0.7, 7.9, 3, 9), axis_weights(1.2, 7.2, 4, 9))
    wanted = fine[7:79, 12:72].reshape(3, 24, 4, 15, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(out, wanted, atol=1e-3)


@pytest.mark.parametrize(
    ("start", "stop", "out"), [(0, 10, 10), (0.3, 9.1, 4), (2, 5, 17), (3, 4, 1)]
)
def test_weights_inside_sum_to_one(start: float, stop: float, out: int) -> None:
    np.testing.assert_allclose(axis_weights(start, stop, out, 10).sum(axis=1), 1.0, atol=1e-6)


def test_identity_is_exact() -> None:
    image = np.random.default_rng(2).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    same = to_uint8(resample(image, axis_weights(0, 7, 7, 7), axis_weights(0, 5, 5, 5)))
    np.testing.assert_array_equal(same, image)


def test_what_lies_outside_is_white() -> None:
    black = np.zeros((4, 4, 3), dtype=np.uint8)
    out = resample(black, axis_weights(-4, 8, 3, 4), axis_weights(-2, 6, 2, 4))
    np.testing.assert_allclose(out[:, :, 0], [[255, 255], [127.5, 127.5], [255, 255]], atol=1e-3)


def test_enlarging_interpolates_and_keeps_the_edge() -> None:
    ramp = np.repeat(np.array([[0, 100, 200]], dtype=np.uint8), 2, axis=0)[:, :, None].repeat(3, 2)
    out = resample(ramp, axis_weights(0, 2, 2, 2), axis_weights(0, 3, 6, 3))
    np.testing.assert_allclose(out[0, :, 0], [0, 25, 75, 125, 175, 200], atol=1e-3)
