import numpy as np
import pytest
from scipy import stats

from stem_core.diffusion.noise import _philox, gaussian_noise


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # known answers published with Random123 (Salmon et al. 2011)
        ([0, 0, 0, 0], [0, 0], [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_gives_the_published_answers(
    counter: list[int], key: list[int], expected: list[int]
) -> None:
    words = _philox(
        [np.array([c], np.uint64) for c in counter], [np.array([k], np.uint64) for k in key]
    )
    assert [int(w[0]) for w in words] == expected


def test_noise_depends_on_seed_spot_and_sample_alone() -> None:
    ids = [f"spot{i}" for i in range(40)]
    whole = gaussian_noise(7, ids, range(6), 200)
    for index in (0, 17, 39):
        np.testing.assert_array_equal(
            gaussian_noise(7, [ids[index]], range(6), 200)[0], whole[index]
        )
    np.testing.assert_array_equal(gaussian_noise(7, ids[::-1], [4], 200)[::-1, 0], whole[:, 4])
    # A smaller panel sees the same values per quad of the counter; another seed, spot or step sees
    # others.
    assert abs(gaussian_noise(8, ids[:1], range(6), 200) - whole[:1]).mean() > 0.5
    assert abs(gaussian_noise(7, ids[:1], range(6), 200, step=1) - whole[:1]).mean() > 0.5
    assert abs(np.corrcoef(whole.reshape(-1, 200)) - np.eye(240)).max() < 0.35


def test_noise_is_standard_normal() -> None:
    drawn = gaussian_noise(0, [f"s{i}" for i in range(200)], range(4), 200).ravel()
    assert stats.kstest(drawn, "norm").pvalue > 1e-3
    assert abs(drawn.mean()) < 0.01
    assert drawn.std() == pytest.approx(1, abs=0.01)
