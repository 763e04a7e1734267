from pathlib import Path

import numpy as np
import pytest
import torch

from stem_core.diffusion.conditional_mean import SlideLevel
from stem_core.errors import Cancelled, SettingsError
from stem_core.prediction.draws import Draws
from stem_core.prediction.predictor import Predictor, Progress
from stem_core.prediction.settings import SamplingSettings
from stem_core.slides.reading import open_slide
from stem_core.slides.spots import lay_out_spots
from stem_core.slides.tissue import find_tissue
from zoo.loader import load_model
from zoo.registry import find_model

Inputs = tuple[np.ndarray, SlideLevel, list[str]]
DDIM = SamplingSettings("ddim", 3, 4, seed=3)
STANDARD = SamplingSettings("angle", 4, 4)


@pytest.fixture(scope="module")
def bundled() -> Predictor:
    return Predictor(load_model(find_model("her2st-breast").folder), "cpu", "fp32")


@pytest.fixture(scope="module")
def inputs(bundled: Predictor) -> Inputs:
    """Conditions as far out as real ones: around the training mean."""
    random = np.random.default_rng(0)
    given = bundled.model.generator.inputs
    noise = random.normal(size=(20, len(given.mean)))
    condition = (given.mean.numpy() + given.std.numpy() * noise).astype(np.float32)
    level = SlideLevel(torch.randn(len(bundled.model.symbols)) / 5, 0.1)
    return condition, level, [f"spot{i}" for i in range(20)]


@pytest.mark.parametrize(
    "settings",
    [
        DDIM,
        SamplingSettings("ancestral", 5, 3, seed=3),
        SamplingSettings("angle", 3, 4, seed=3),
        SamplingSettings("dpmpp-2m-sde", 3, 2),
    ],
)
def test_values_do_not_depend_on_the_batch(
    bundled: Predictor, inputs: Inputs, settings: SamplingSettings
) -> None:
    condition, level, ids = inputs
    whole = bundled.draw(condition, level, ids, settings)
    for size in (1, 7, 13):
        parts = [
            bundled.draw(condition[i : i + size], level, ids[i : i + size], settings)
            for i in range(0, len(ids), size)
        ]
        pieces = Draws.join(parts)
        for name in ("mean", "std", "q05", "q95", "domain_distance"):
            np.testing.assert_allclose(
                getattr(pieces, name), getattr(whole, name), atol=1e-4, err_msg=name
            )


def test_bf16_says_how_far_it_is_off(
    bundled: Predictor, inputs: Inputs, capsys: pytest.CaptureFixture[str]
) -> None:
    condition, level, ids = inputs
    full = bundled.draw(condition, level, ids, STANDARD)
    half = Predictor(load_model(find_model("her2st-breast").folder), "cpu", "bf16")
    assert half.precision == "bf16"
    whole = half.draw(condition, level, ids, STANDARD)
    parts = [half.draw(condition[i : i + 7], level, ids[i : i + 7], STANDARD) for i in (0, 7, 14)]
    pieces = Draws.join(parts)
    scale = full.std.mean()
    off = {
        "against fp32": np.abs(whole.std - full.std).max() / scale,
        "in batches of 7": np.abs(pieces.std - whole.std).max() / scale,
    }
    with capsys.disabled():
        words = ", ".join(f"{name} {value:.2%}" for name, value in off.items())
        print(f"\nspread in bf16, largest difference in units of the mean spread: {words}")
    assert max(off.values()) < 0.1
    np.testing.assert_allclose(whole.mean, full.mean, atol=1e-4)  # pairs cancel in any precision


def test_seed_decides(bundled: Predictor, inputs: Inputs) -> None:
    condition, level, ids = inputs
    again = bundled.samples(condition, level, ids, DDIM)
    np.testing.assert_array_equal(bundled.samples(condition, level, ids, DDIM), again)
    other = bundled.samples(condition, level, ids, SamplingSettings("ddim", 3, 4, seed=4))
    assert np.abs(other - again).max() > 0.1


def test_draws_are_ordered_and_not_negative(bundled: Predictor, inputs: Inputs) -> None:
    draws = bundled.draw(*inputs, DDIM)
    assert (draws.q05 >= 0).all() and (draws.mean >= 0).all() and (draws.std >= 0).all()
    assert (draws.q95 >= draws.q05).all()
    assert np.median(draws.std) > 0.05


def test_draws_survive_the_disk(tmp_path: Path, bundled: Predictor, inputs: Inputs) -> None:
    draws = bundled.draw(*inputs, DDIM)
    draws.save(tmp_path / "d.safetensors")
    np.testing.assert_array_equal(Draws.load(tmp_path / "d.safetensors").q95, draws.q95)


def test_keeping_single_draws_changes_nothing_else(bundled: Predictor, inputs: Inputs) -> None:
    plain, kept = bundled.draw(*inputs, DDIM), bundled.draw(*inputs, DDIM, keep=(0, 2))
    for name in ("mean", "std", "q05", "q95", "domain_distance"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(plain, name), err_msg=name)
    samples = bundled.samples(*inputs, DDIM)
    np.testing.assert_array_equal(kept.singles, samples[:, [0, 2]].astype(np.float16))
    ridge = bundled.model.ridge
    assert ridge is not None
    np.testing.assert_array_equal(kept.baseline, ridge.predict(inputs[0]).astype(np.float16))
    np.testing.assert_array_equal(plain.baseline, kept.baseline)
    assert plain.singles is None
    # Draws 0 and 1 are a pair: one mirrors the other around the mean.
    np.testing.assert_allclose(samples[:, :2].mean(1), samples[:, 2:].mean(1), atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"steps": 0}, "between 2 and 1000"),
        ({"samples": 0}, "samples is 0"),
        ({"steps": -1}, "steps is -1"),
        ({"samples": -4}, "samples is -4"),
        ({"steps": 1001}, "between 2 and 1000"),
        ({"samples": 1002}, "between 1 and 1000"),
        ({"samples": 3}, "pairs of opposite noise; choose an even number"),
        ({"sampler": "dpmpp-2m", "samples": 1}, "choose an even number"),
        ({"seed": -1}, "seed is -1"),
        ({"sampler": "magic"}, "choose one of angle, dpmpp-2m, dpmpp-2m-sde, ddim, ancestral"),
    ],
)
def test_settings_are_checked(changes: dict[str, object], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        SamplingSettings(**{"sampler": "ddim", "steps": 5, "samples": 2, **changes})  # type: ignore[arg-type]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_where_there_is_none_is_refused(bundled: Predictor) -> None:
    with pytest.raises(SettingsError, match="no CUDA device"):
        Predictor(bundled.model, "cuda")


def test_whole_journey_and_stopping(sample_piece: Path, tiny_model: Path) -> None:
    predictor = Predictor(load_model(tiny_model), "cpu")
    seen: list[Progress] = []
    with open_slide(sample_piece) as slide:
        spots = lay_out_spots(slide, find_tissue(slide), "st").take(slice(0, 10))
        prediction = predictor.predict(
            slide, spots, SamplingSettings("ddim", 2, 2), progress=seen.append, chunk=4
        )
        with pytest.raises(Cancelled):
            predictor.predict(slide, spots, DDIM, should_stop=lambda: True)
    assert prediction.mean.shape == (10, 24)
    assert prediction.ridge is not None and prediction.ridge.shape == (10, 24)
    assert prediction.ridge.min() >= 0 and prediction.ridge.std() > 0
    assert [p.done for p in seen if p.stage == "predict"] == [0, 4, 8, 10]
    assert prediction.run["seed"] == 0 and prediction.run["model"]["name"] == "tiny-test"
