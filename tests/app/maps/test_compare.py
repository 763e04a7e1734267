"""Two runs of one slide beside each other: their addresses, and the Compare page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from starlette.testclient import TestClient
from streamlit.testing.v1 import AppTest

from app.jobs.draws_file import save_draws
from app.maps.pairs import forget_deleted_pairs, open_pair
from app.maps.runs import set_measured
from app.state import job_queue
from stem_core.errors import JobError, SettingsError
from stem_core.prediction.draws import Draws
from stem_core.prediction.export import write_prediction
from stem_core.prediction.result import Prediction
from stem_core.prediction.values import PredictedArrays

from .conftest import GENES, MadeRun
from .page import MAIN, charts, faults, sound, words

SHARED = ("7SK", "GNAS", "A:B")
ROWS = np.random.default_rng(4).permutation(40)[:30]


def taken(prediction: Prediction, rows: np.ndarray, genes: tuple[str, ...]) -> Prediction:
    """Another model's prediction of some of the spots, in another order, a little beside."""
    random = np.random.default_rng(6)
    spots = prediction.spots.take(rows)
    columns = [prediction.symbols.index(g) if g in prediction.symbols else 0 for g in genes]
    mean = prediction.mean[rows][:, columns]
    mean = (mean + 0.4 * random.normal(size=mean.shape)).clip(0).astype(np.float32)
    std = random.uniform(0.3, 0.9, mean.shape).astype(np.float32)
    return replace(
        prediction, spots=replace(spots, x_px=spots.x_px + 20.0), symbols=genes,
        ensembl=("",) * len(genes),
        values=PredictedArrays(mean=mean, std=std, q05=mean - std, q95=mean + std),
        domain_distance=None, gene_table=prediction.gene_table.reindex(genes),
    )  # fmt: skip


@pytest.fixture
def pair(make_run: Callable[..., MadeRun]) -> tuple[MadeRun, MadeRun]:
    """Run A with a baseline, and run B with three of its genes and two of its own."""
    one, other = make_run(), make_run()
    p = one.prediction
    base = (p.mean * 0.8).astype(np.float16)
    singles = p.mean[:, None].astype(np.float16)
    save_draws(
        Draws(p.mean, p.std, p.q05, p.q95, singles=singles, baseline=base), 4, one.folder.draws_file
    )
    other.prediction = taken(p, ROWS, ("ZZZ", *SHARED, "YYY"))
    write_prediction(other.prediction, other.folder.result_dir, overwrite=True)
    return one, other


def open_page(**query: str) -> AppTest:
    job_queue.clear()
    at = AppTest.from_file(str(MAIN), default_timeout=60)
    at.run()
    at.switch_page("views/compare.py")
    for name, value in query.items():
        at.query_params[name] = value
    return sound(at.run())


def address(at: AppTest) -> dict[str, str]:
    return {name: "".join(at.query_params[name]) for name in at.query_params}


def test_values_stand_at_the_spots_of_the_first(
    client: TestClient, pair: tuple[MadeRun, MadeRun]
) -> None:
    one, other = pair
    base = f"{one.base}/with/{other.id}"
    p, q = one.prediction, other.prediction

    def told(layer: str) -> np.ndarray:
        answer = client.get(f"{base}/map/values", params={"layer": layer})
        assert answer.status_code == 200, answer.text
        return np.frombuffer(answer.content, "<f4")

    assert client.get(f"{base}/map/spots").content == client.get(f"{one.base}/map/spots").content
    for same in ("map/ids", "tiles/11/0_0.jpeg"):
        assert client.get(f"{base}/{same}").content == client.get(f"{one.base}/{same}").content
    at = np.full(40, -1)
    for spot in range(40):
        away = np.hypot(q.spots.x_px - p.spots.x_px[spot], q.spots.y_px - p.spots.y_px[spot])
        if away.min() < p.spots.pitch_um / 2 / p.mpp:
            at[spot] = away.argmin()
    assert (at[ROWS] >= 0).all() and (at < 0).any()
    there = at >= 0
    for gene in SHARED:
        mine, others = p.symbols.index(gene), q.symbols.index(gene)
        np.testing.assert_array_equal(told(f"a:mean:{gene}"), p.mean[:, mine])
        b = told(f"b:mean:{gene}")
        np.testing.assert_array_equal(b[there], q.mean[at[there], others])
        assert np.isnan(b[~there]).all()
        apart = (p.mean[:, mine] - q.mean[at, others]) / np.hypot(p.std[:, mine], q.std[at, others])
        np.testing.assert_allclose(told(f"apart:{gene}")[there], apart[there], rtol=1e-5)
    np.testing.assert_allclose(told("a:baseline:GNAS"), p.mean[:, 0] * 0.8, rtol=1e-3)


def test_what_cannot_be_compared_is_refused_in_a_sentence(
    client: TestClient, pair: tuple[MadeRun, MadeRun], make_run: Callable[..., MadeRun]
) -> None:
    one, other = pair
    base = f"{one.base}/with/{other.id}"
    for layer, said in (
        ("mean:GNAS", "There is no layer 'mean:GNAS' of two runs"),
        ("b:mean:ERBB2", "no gene 'ERBB2'"),
        ("apart:ERBB2", "no gene 'ERBB2'"),
        ("b:domain", "without a domain distance"),
        ("b:baseline:GNAS", "kept no ridge baseline"),
        ("a:measured:GNAS", "No measured values"),
    ):
        answer = client.get(f"{base}/map/values", params={"layer": layer})
        assert answer.status_code == 400 and said in answer.json()["error"], layer
    elsewhere = make_run()
    record = {**elsewhere.prediction.run, "slide": {"sha256": "0" * 64}}
    write_prediction(
        replace(elsewhere.prediction, run=record), elsewhere.folder.result_dir, overwrite=True
    )
    answer = client.get(f"{one.base}/with/{elsewhere.id}/map/values?layer=a:mean:GNAS")
    assert answer.status_code == 400 and "of different slides" in answer.json()["error"]
    for guessed in ("0" * 32, "x", "..%2F..", make_run("running").id):
        for address in (f"{one.base}/with/{guessed}", f"/api/runs/{guessed}/with/{one.id}"):
            assert client.get(f"{address}/map/spots").status_code == 404
    other.folder.remove()
    answer = client.get(f"{base}/map/spots")
    assert answer.status_code == 404 and "no such run" in answer.json()["error"]
    forget_deleted_pairs()
    with pytest.raises(JobError, match="no such run"):
        open_pair(one.id, other.id)
    with pytest.raises(SettingsError, match="different slides"):
        open_pair(one.id, elsewhere.id)


def test_two_runs_on_the_page(pair: tuple[MadeRun, MadeRun]) -> None:
    one, other = pair
    at = open_page(**{"run": one.id, "with": other.id, "gene": "GNAS"})
    assert not faults(at) and not at.warning
    assert address(at) == {"run": one.id, "with": other.id, "gene": "GNAS"}
    assert "3 genes in common" in words(at) and "of 40 of A have a spot of B" in words(at)
    [table] = [frame.value for frame in at.dataframe]
    assert set(table["gene"]) == set(SHARED) and table["ccc"].is_monotonic_decreasing
    matched = open_pair(one.id, other.id).at
    there = matched >= 0
    a = one.prediction.mean[there, 0].astype(float)
    b = other.prediction.mean[matched[there], 2].astype(float)
    figures = {metric.label: metric.value for metric in at.metric}
    assert figures["PCC"].startswith(f"{stats.pearsonr(a, b)[0]:.2f} (")
    assert figures["A − B"].replace("−", "-") == f"{a.mean() - b.mean():+.2f}"
    assert len(charts(at)) == 2
    [gene] = [box for box in at.selectbox if "Gene" in box.label]
    assert set(gene.options) == set(SHARED)
    sound(gene.select("A:B").run())
    assert address(at)["gene"] == "A:B"
    again = open_page(**{"run": one.id, "with": other.id, "gene": "ERBB2"})
    assert "ERBB2 is not in both panels" in words(again)
    swapped = open_page(**{"run": other.id, "with": one.id, "gene": "GNAS"})
    assert "Run A kept no ridge baseline" in words(swapped)


@pytest.mark.parametrize("to_other", [False, True])
def test_what_was_measured_is_the_judge(pair: tuple[MadeRun, MadeRun], to_other: bool) -> None:
    one, other = pair
    given = other if to_other else one
    random = np.random.default_rng(1)
    measured = random.normal(4, 1, given.prediction.mean.shape).astype(np.float32)
    set_measured(given.id, measured)
    at = open_page(**{"run": one.id, "with": other.id, "gene": "GNAS"})
    table = at.dataframe[1].value.set_index("gene")
    matched = open_pair(one.id, other.id).at
    rows = np.flatnonzero(matched >= 0)
    truth = measured[matched[rows], 2] if to_other else measured[rows, 0]
    p, q = one.prediction, other.prediction
    for name, values in (
        ("a", p.mean[rows, 0]), ("b", q.mean[matched[rows], 2]), ("baseline", p.mean[rows, 0]),
    ):  # fmt: skip
        found = table.loc["GNAS", f"{name}_pcc"]
        assert found == pytest.approx(stats.pearsonr(values, truth)[0], abs=1e-3)
    assert "Mean **PCC** with the measured section over 3 genes" in words(at)


def test_nothing_to_compare_yet(make_run: Callable[..., MadeRun]) -> None:
    at = open_page()
    assert "No run is finished yet" in words(at)
    one = make_run()
    make_run("running")
    at = open_page()
    assert "no other finished run of this slide: 1 run has no result (yet)" in words(at)
    assert address(at)["run"] == one.id and "with" not in address(at)
    elsewhere = make_run()
    write_prediction(
        replace(elsewhere.prediction, run={"slide": {"sha256": "0" * 64}}),
        elsewhere.folder.result_dir, overwrite=True,
    )  # fmt: skip
    at = open_page(**{"run": one.id, "with": elsewhere.id})
    assert "1 other finished run is of other slides" in words(at)
    assert not at.dataframe


def test_disjoint_panels_are_one_sentence(make_run: Callable[..., MadeRun]) -> None:
    one, other = make_run(), make_run()
    write_prediction(
        taken(one.prediction, ROWS, ("ZZZ", "YYY")), other.folder.result_dir, overwrite=True
    )
    at = open_page(**{"run": one.id, "with": other.id})
    [warning] = at.warning
    assert f"no gene in common ({len(GENES)} and 2 genes)" in warning.value
    assert not at.dataframe and not faults(at)


def test_unknown_and_deleted_runs_are_told(pair: tuple[MadeRun, MadeRun]) -> None:
    one, other = pair
    at = open_page(**{"run": "0" * 32, "with": other.id})
    assert len(at.error) == 1 and len(at.dataframe) == 1  # said, and another run shown
    at = open_page(**{"run": one.id, "with": "../../etc"})
    assert len(at.error) == 1 and address(at)["with"] == other.id
    at = open_page(**{"run": one.id, "with": other.id})
    other.folder.remove()
    sound(at.run())
    assert "no such run" in faults(at) and not at.dataframe
    assert "no other finished run of this slide" in words(at)
