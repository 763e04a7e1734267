"""Single draws and the ridge baseline of a run: kept beside it, told as layers, shown in turn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from starlette.testclient import TestClient

from app.jobs.draws_file import find_draws, save_draws
from app.maps.layers import Layer
from app.maps.panels import panels_of
from app.maps.runs import open_values
from stem_core.errors import OutputError, SettingsError
from stem_core.prediction.draws import MOST_SINGLES, Draws, singles_to_keep
from stem_core.prediction.settings import SamplingSettings

from .conftest import GENES, MadeRun
from .page import open_maps, sound


def keep(run: MadeRun, count: int = 3, made: int = 10, *, baseline: bool = True) -> Draws:
    """Leave single draws beside a run, as the worker does."""
    random = np.random.default_rng(8)
    p = run.prediction
    n, genes = p.mean.shape
    draws = Draws(
        p.mean, p.std, p.q05, p.q95,
        singles=random.normal(3, 2, (n, count, genes)).astype(np.float16),
        baseline=random.normal(3, 2, (n, genes)).astype(np.float16) if baseline else None,
    )  # fmt: skip
    save_draws(draws, made, run.folder.draws_file)
    return draws


def test_layers_are_what_was_kept(run: MadeRun, client: TestClient) -> None:
    kept = keep(run)
    values = open_values(run.id)
    assert (values.n_draws, values.draws_made, values.has_baseline) == (3, 10, True)
    assert kept.singles is not None and kept.baseline is not None

    def told(layer: str) -> NDArray[np.float32]:
        answer = client.get(f"{run.base}/map/values", params={"layer": layer})
        assert answer.status_code == 200
        np.testing.assert_array_equal(
            np.frombuffer(answer.content, "<f4"), values.layer(values.parse(layer))
        )
        return np.frombuffer(answer.content, "<f4")

    for gene in ("GNAS", "A:B", "7SK"):
        place = GENES.index(gene)
        for number in (1, 2, 3):
            found = told(f"draw:{gene}:{number}")
            np.testing.assert_array_equal(found, kept.singles[:, number - 1, place])
        np.testing.assert_array_equal(told(f"baseline:{gene}"), kept.baseline[:, place])
    np.testing.assert_array_equal(values.baseline(), kept.baseline)


def test_titles_say_which_draw_it_is(run: MadeRun) -> None:
    keep(run)
    values = open_values(run.id)
    layers = [values.parse(text) for text in ("mean:A:B", "draw:A:B:2", "baseline:GNAS")]
    [mean, draw, base] = panels_of(values, layers, "Viridis", (1, 99), shared=True)
    assert (draw.title, draw.note) == ("A:B, draw 2 of 3", "kept of 10 made")
    assert base.title == "GNAS, ridge baseline" and not base.note
    assert draw.unit == base.unit == mean.unit == "log2(1 + count)"
    assert (draw.low, draw.high) == (mean.low, mean.high)
    assert Layer("draw", ("GNAS",), number=4).title() == "GNAS, draw 4"


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ("draw:GNAS:4", "kept 3 single draws, so there is no draw 4; choose 1 to 3"),
        ("draw:GNAS:0", "has no number; write it 'draw:GENE:1'"),
        ("draw:GNAS", "has no number"),
        ("draw:GNAS:1:2", "no gene 'GNAS:1'"),
        ("draw:GNAS:-1", "has no number"),
        ("draw:GNAS:99999999999", "has no number"),
        ("draw:GNAX:1", "did you mean GNAS"),
        ("baseline:", "names no gene"),
    ],
)
def test_what_is_no_draw_is_refused_in_a_sentence(
    run: MadeRun, client: TestClient, layer: str, said: str
) -> None:
    keep(run)
    answer = client.get(f"{run.base}/map/values", params={"layer": layer})
    assert answer.status_code == 400 and said in answer.json()["error"]


def test_older_runs_and_models_without_baseline_do_not_offer_them(
    run: MadeRun, make_run: Callable[..., MadeRun]
) -> None:
    values = open_values(run.id)
    with pytest.raises(SettingsError, match="kept no single draws, since it is older"):
        values.layer(values.parse("draw:GNAS:1"))
    with pytest.raises(SettingsError, match="kept no ridge baseline"):
        values.layer(values.parse("baseline:GNAS"))
    at = open_maps(run, "draw:GNAS:1")
    assert "".join(at.query_params["maps"]).startswith("mean:")
    assert not {"Single draw", "Ridge baseline"} & set(at.selectbox(key="kind_0").options)
    other = make_run()
    keep(other, baseline=False)
    assert open_values(other.id).layer(Layer("draw", ("GNAS",), number=1)).shape == (40,)
    with pytest.raises(SettingsError, match="its model has none"):
        open_values(other.id).baseline()


@pytest.mark.parametrize("damage", ["cut", "nonsense", "other"])
def test_a_damaged_file_does_not_hide_the_prediction(run: MadeRun, damage: str) -> None:
    keep(run)
    file = run.folder.draws_file
    content = file.read_bytes()
    file.write_bytes(b"nonsense" if damage == "nonsense" else content[: len(content) // 2])
    if damage == "other":
        file.write_bytes(content.replace(b'"made"', b'"mode"'))
    with pytest.raises(OutputError, match=r"draws.safetensors is damaged"):
        find_draws(file)
    values = open_values(run.id)
    assert values.n_draws == 0 and not values.has_baseline
    np.testing.assert_array_equal(
        values.layer(values.parse("mean:GNAS")), run.prediction.mean[:, 0]
    )


def test_a_file_that_goes_away_is_told(run: MadeRun) -> None:
    keep(run)
    values = open_values(run.id)
    run.folder.draws_file.unlink()
    with pytest.raises(OutputError, match="single draws of this run cannot be read"):
        values.layer(values.parse("draw:GNAS:1"))


def test_the_page_draws_again(run: MadeRun) -> None:
    keep(run)
    at = open_maps(run, "draw:A:B:2")
    assert "Ridge baseline" in at.selectbox(key="kind_0").options
    for number in (3, 1, 2):
        [again] = [button for button in at.button if button.label == "Draw again"]
        sound(again.click().run())
        assert "".join(at.query_params["maps"]) == f"draw:A:B:{number}"


@pytest.mark.parametrize(
    ("sampler", "samples", "kept"),
    [
        ("angle", 2, (0, 1)),
        ("angle", 4, (0, 2, 1, 3)),
        ("angle", 8, (0, 2, 4, 6, 1, 3, 5, 7)),
        ("angle", 10, (0, 2, 4, 6, 8)),  # one of each pair, since not all fit
        ("dpmpp-2m", 20, (0, 2, 4, 6, 8, 10, 12, 14)),
        ("ancestral", 3, (0, 1, 2)),
        ("ancestral", 20, tuple(range(MOST_SINGLES))),
    ],
)
def test_which_draws_are_kept(sampler: str, samples: int, kept: tuple[int, ...]) -> None:
    settings = SamplingSettings(sampler, steps=4, samples=samples)
    assert singles_to_keep(settings, 1000, 200) == kept
    if settings.paired and samples > 2:  # round and round, no draw is followed by its mirror
        assert all(a // 2 != b // 2 for a, b in zip(kept, kept[1:] + kept[:1], strict=True))
    [first] = singles_to_keep(settings, 1_000_000, 200)  # 400 MB each: one all the same
    assert first == 0
    pairs = samples // 2 if settings.paired and samples > 2 else samples
    assert len(singles_to_keep(settings, 100_000, 200)) == min(3, pairs)  # 40 MB each
