"""Layers of a result: the numbers of the file, the formulas, what was measured, and speed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from anndata import read_h5ad

from app.maps.kept import Kept
from app.maps.layers import Layer
from app.maps.runs import forget_deleted_runs, measured_file, open_values, set_measured
from app.maps.values import MapValues
from stem_core.errors import JobError, SettingsError
from tests.app.maps.conftest import GENES, MadeRun, make_prediction


def test_values_are_those_of_the_file(run: MadeRun) -> None:
    values, adata = open_values(run.id), read_h5ad(run.folder.result_dir / "prediction.h5ad")
    assert values.symbols == GENES
    np.testing.assert_array_equal(values.positions(), adata.obsm["spatial"].astype(np.float32))
    for place, gene in enumerate(GENES):
        np.testing.assert_array_equal(values.layer(values.parse(f"mean:{gene}")), adata.X[:, place])
        for name in ("std", "q05", "q95"):
            layer = values.layer(values.parse(f"{name}:{gene}"))
            np.testing.assert_array_equal(layer, adata.layers[name][:, place])
            assert layer.dtype == np.float32 and not layer.flags.writeable
    np.testing.assert_array_equal(
        values.layer(values.parse("domain")), adata.obs["domain_distance"]
    )
    np.testing.assert_array_equal(
        values.layer(values.parse("difference:GNAS:7SK")), adata.X[:, 0] - adata.X[:, 6]
    )
    with pytest.raises(SettingsError, match="No measured values"):
        values.layer(values.parse("measured:GNAS"))


def test_a_score_is_the_mean_of_z_scores() -> None:
    prediction = make_prediction(500, GENES)
    prediction.mean[:, 1] = 9.5 + prediction.mean[:, 1] * 1e-3  # hardly varies
    prediction.mean[:, 2] = 4.0  # the same everywhere
    values = MapValues(prediction)
    of = [0, 1, 2, 5]
    mean = prediction.mean[:, of].astype(np.float64)
    spread = mean.std(axis=0)
    z = (mean - mean.mean(axis=0)) / np.where(spread > 0, spread, 1)
    spec = "score:" + ",".join(GENES[place] for place in of) + ",ABSENT"
    np.testing.assert_allclose(values.layer(values.parse(spec)), z.mean(axis=1), atol=2e-4)


def test_limits_leave_out_what_has_no_value() -> None:
    prediction = make_prediction(300, GENES, domain=False)
    prediction.mean[:, 2] = 4.0
    measured = np.full(prediction.mean.shape, np.nan, np.float32)
    measured[:200, 0] = np.arange(200)
    values = MapValues(prediction, measured)
    assert values.limits(values.parse("measured:GNAS"), 0, 100) == (0.0, 199.0)
    expected = np.percentile(prediction.mean[:, 1], [2, 98])
    np.testing.assert_allclose(
        values.limits(values.parse("mean:ERBB2"), 2, 98), expected, rtol=1e-5
    )
    assert values.limits(values.parse("mean:HLA-DRB1")) == (4.0, 5.0)
    assert values.limits(values.parse("error:ERBB2")) == (0.0, 1.0)
    assert values.measured_genes == ("GNAS",)
    for wrong in ((-1, 99), (5, 5), (0, 101), (np.nan, 99)):
        with pytest.raises(SettingsError, match="not a range"):
            values.limits(values.parse("mean:GNAS"), *wrong)
    with pytest.raises(SettingsError, match="without a domain distance"):
        values.layer(values.parse("domain"))


def test_measured_values_come_and_go(run: MadeRun) -> None:
    measured = run.prediction.mean + 1
    measured[3:, 1] = np.nan
    set_measured(run.id, measured)
    values = open_values(run.id)
    np.testing.assert_array_equal(values.layer(values.parse("measured:ERBB2")), measured[:, 1])
    error = values.layer(values.parse("error:ERBB2"))
    np.testing.assert_allclose(error[:3], -1, atol=1e-5)
    assert np.isnan(error[3:]).all()
    set_measured(run.id, measured * 2)
    np.testing.assert_array_equal(
        open_values(run.id).layer(Layer.of("measured", "GNAS")), measured[:, 0] * 2
    )
    for wrong in (measured[:-1], measured[:, :2], np.ones(measured.shape, int)):
        with pytest.raises(SettingsError, match="add a section that fits"):
            set_measured(run.id, wrong)
    assert {path.name for path in run.folder.path.iterdir()} == {
        "request.json", "status.json", "result", "measured.safetensors",
    }  # fmt: skip
    set_measured(run.id, None)
    assert open_values(run.id).measured_genes == ()


def test_damaged_measured_values_do_not_hide_the_prediction(run: MadeRun) -> None:
    measured_file(run.folder).write_bytes(b"nonsense")
    values = open_values(run.id)
    np.testing.assert_array_equal(
        values.layer(values.parse("mean:GNAS")), run.prediction.mean[:, 0]
    )
    with pytest.raises(SettingsError, match="No measured values"):
        values.layer(values.parse("measured:GNAS"))


def test_a_result_is_opened_once_and_forgotten_with_its_run(
    make_run: Callable[..., MadeRun],
) -> None:
    run, other = make_run(), make_run()
    values = open_values(run.id)
    assert open_values(run.id) is values
    for _ in range(3):
        open_values(other.id)
    assert open_values(run.id) is values
    run.folder.remove()
    with pytest.raises(JobError, match="no such run"):
        open_values(run.id)
    forget_deleted_runs()
    with pytest.raises(JobError, match="no such run"):
        set_measured(run.id, None)


def test_a_layer_of_100_000_spots_is_quick() -> None:
    values = MapValues(make_prediction(100_000, tuple(f"G{i}" for i in range(50))))
    specs = ["mean:G7", "std:G49", "domain", "difference:G1:G2"]
    for spec in specs:
        started_s = time.perf_counter()
        values.layer(values.parse(spec))
        assert time.perf_counter() - started_s < 0.1, spec
    started_s = time.perf_counter()
    values.layer(values.parse("score:" + ",".join(values.symbols)))
    assert time.perf_counter() - started_s < 1.0


def test_what_is_kept_stays_within_number_and_size() -> None:
    kept: Kept[int, bytes] = Kept(most=3, most_bytes=100, size_of=len)
    for key in (1, 2, 3):
        kept.get(key, lambda: b"x" * 10)
    kept.get(1, lambda: pytest.fail("it was kept"))
    kept.get(4, lambda: b"x" * 10)  # the fourth pushes out 2, the one used longest ago
    assert (len(kept), kept.size_bytes) == (3, 30)
    assert kept.get(2, lambda: b"y") == b"y"
    assert kept.get(5, lambda: b"x" * 500) and (len(kept), kept.size_bytes) == (1, 500)
    kept.drop(lambda key: key == 5)
    assert (len(kept), kept.size_bytes) == (0, 0)
    with pytest.raises(ZeroDivisionError):
        kept.get(6, lambda: bytes(1 // 0))
    assert kept.get(6, lambda: b"a") == b"a"


def test_many_threads_make_a_value_once() -> None:
    kept: Kept[str, int] = Kept(most=2)
    made, found, ready = [], [], threading.Barrier(8)

    def make() -> int:
        made.append(1)
        time.sleep(0.05)
        return 7

    def ask() -> None:
        ready.wait()
        found.append(kept.get("a", make))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (found, made) == ([7] * 8, [1])
