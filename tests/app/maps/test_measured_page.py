"""A measured section on the Maps page: given, compared, shown; and what goes wrong."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData
from scipy import stats
from streamlit.testing.v1 import AppTest

from app.maps.measured_places import list_measured, measured_place
from stem_core.errors import JobError
from stem_core.evaluation.metrics import evaluate_arrays

from .conftest import GENES, MadeRun
from .page import charts, faults, open_maps, sound, words


def section(run: MadeRun, **changes: object) -> AnnData:
    """A section measured at the run's spots, in another order."""
    mean = run.prediction.mean.astype(np.float64)
    counts = np.random.default_rng(5).poisson(np.exp2(mean) - 1 + 0.5)[::-1].astype(np.float32)
    table = AnnData(changes.get("counts", counts))
    table.obs_names = list(changes.get("ids", run.prediction.spots.ids))[::-1]
    table.var_names = list(changes.get("genes", GENES))
    if "spatial" in changes:
        table.obsm["spatial"] = np.asarray(changes["spatial"], float)
    return table


def content(table: AnnData, folder: Path) -> bytes:
    table.write_h5ad(folder / "given.h5ad")
    return (folder / "given.h5ad").read_bytes()


def give(at: AppTest, name: str, given: bytes) -> AppTest:
    [field] = [f for f in at.file_uploader if "Measured section" in f.label]
    field.set_value((name, given, "application/octet-stream"))
    return sound(at.run())


@pytest.fixture
def given(run: MadeRun, tmp_path: Path) -> bytes:
    return content(section(run), tmp_path)


def test_a_section_is_compared_as_the_evaluation_does(run: MadeRun, given: bytes) -> None:
    at = give(open_maps(run), "case.h5ad", given)
    assert not faults(at) and "40 spots of 40 matched by name" in words(at)
    truth = section(run)
    measured = np.log2(1 + np.asarray(truth.X, np.float64)[::-1])
    p = run.prediction
    figures = evaluate_arrays(p.mean, measured, p.q05, p.q95)
    shown = {metric.label: metric.value for metric in at.metric}
    assert shown["PCC, whole panel"] == f"{figures['pcc_all']:.2f}"
    assert shown["PCC-10"] == f"{figures['pcc_10']:.2f}"
    assert shown["In the 90 % band"] == f"{figures['coverage_90']:.0%}"
    [table] = [t.value.set_index("gene") for t in at.dataframe if "n_effective" in t.value]
    rho = stats.spearmanr(p.mean[:, 1], measured[:, 1]).statistic
    assert table.loc[GENES[1], "spearman"] == pytest.approx(rho, abs=1e-6)
    assert len(charts(at)) == 3
    at.selectbox(key="measured_gene").select(GENES[2])
    sound(at.run())
    at.button(key="three_maps").click()
    sound(at.run())
    gene = GENES[2]
    assert f"mean:{gene};measured:{gene};error:{gene}" in at.query_params["maps"]
    at.button(key="drop_measured").click()
    sound(at.run())
    assert [f for f in at.file_uploader if "Measured section" in f.label]


def test_files_that_do_not_fit_give_one_sentence(
    run: MadeRun, given: bytes, tmp_path: Path
) -> None:
    at = open_maps(run)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr("readme.txt", "no section")
    places = np.column_stack([run.prediction.spots.x_px, run.prediction.spots.y_px])[::-1]
    wrong = {
        "is it another section": content(section(run, spatial=places + 900), tmp_path),
        "share 0 of 40 spots": content(section(run, ids=[f"z{n}" for n in range(40)]), tmp_path),
        "no gene in common": content(section(run, genes=[f"Z{n}" for n in range(7)]), tmp_path),
        "normalised": content(section(run, counts=np.full((40, 7), 0.5, "f4")), tmp_path),
        "cannot be read as h5ad": given[: len(given) // 2],
        "holds no filtered_feature_bc_matrix.h5": archive.getvalue(),
    }
    for said, bad in wrong.items():
        give(at, "case.h5ad", bad)
        assert len(at.error) == 1 and said in faults(at).replace("\\", ""), faults(at)
    give(at, "case.h5ad", content(section(run, counts=np.ones((40, 7), "f4")), tmp_path))
    assert "constant in the measured section" in faults(at).replace("\\", "")
    assert at.button(key="drop_measured")


def test_a_run_deleted_meanwhile_gives_one_sentence(run: MadeRun, given: bytes) -> None:
    at = give(open_maps(run), "case.h5ad", given)
    run.folder.remove()
    at.button(key="drop_measured").click()
    sound(at.run())
    assert len(at.error) == 1 and "There is no such run" in faults(at).replace("\\", "")
    assert not at.warning


def test_a_section_of_the_server_s_folder(
    run: MadeRun, given: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "slides"
    (root / "a").mkdir(parents=True)
    (root / "a" / "case.h5ad").write_bytes(given)
    (root / "b" / "outs").mkdir(parents=True)
    (root / "b" / "outs" / "filtered_feature_bc_matrix.h5").write_bytes(b"")
    secret = tmp_path / "secret.h5ad"
    secret.write_bytes(given)
    (root / "link.h5ad").symlink_to(secret)
    monkeypatch.setenv("STEM_SLIDE_DIR", str(root))
    assert sorted(list_measured()) == ["a/case.h5ad", "b/outs"]
    for place in ("../secret.h5ad", "link.h5ad", str(secret), "a", "nothing.h5ad"):
        with pytest.raises(JobError, match="not in the server's folder"):
            measured_place(place)
    at = open_maps(run)
    at.selectbox(key="server_measured").select("a/case.h5ad")
    sound(at.run())
    at.button(key="take_server_measured").click()
    sound(at.run())
    assert "matched by name" in words(at)
