"""The time a run will take: from a probe, in proportion to the work."""

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest

from app import paths
from app.components.run_settings import Quality, expected_quality
from app.jobs.speed import ModelSpeed, expected_s, measure_all, measure_model, read_speed
from stem_core.prediction.predictor import Predictor
from zoo.loader import load_model
from zoo.registry import find_model

SPEED = ModelSpeed(patch_s=0.01, spot_s=0.001, evaluation_s=0.002, precision="fp32")
STANDARD = {"sampler": "angle", "steps": 4, "samples": 4}


def test_time_is_in_proportion_to_the_work() -> None:
    manifest = find_model("her2st-breast").manifest

    def seconds(n_spots: int, **how: object) -> float:
        return expected_s(SPEED, manifest, n_spots=n_spots, tissue_um2=0.0, **how)  # type: ignore[arg-type]

    start = seconds(0, **STANDARD)
    assert seconds(100, **STANDARD) - start == pytest.approx(100 * (0.011 + 16 * 0.002))
    assert seconds(200, **STANDARD) - start == pytest.approx(2 * (seconds(100, **STANDARD) - start))
    # The published procedure evaluates mirror images as well.
    published = {"sampler": "ancestral", "steps": 1000, "samples": 20}
    assert seconds(1, **published) - start == pytest.approx(0.011 + 40_000 * 0.002)
    # 10 mm² of tissue are surveyed every 154 µm.
    surveyed = expected_s(SPEED, manifest, n_spots=0, tissue_um2=1e7, **STANDARD) - start  # type: ignore[arg-type]
    assert surveyed == pytest.approx(1e7 / 154**2 * 0.01)


def test_probe_of_a_real_model(tiny_model: Path) -> None:
    speed = measure_model(Predictor(load_model(tiny_model), "cpu"))
    assert 0 < speed.evaluation_s < 0.1 and 0 < speed.patch_s < 1 and 0 < speed.spot_s < 0.1


def test_what_was_not_measured_is_not_made_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEM_HOME", str(tmp_path))
    assert read_speed("her2st-breast") is None
    paths.speed_file().write_text("{ damaged")
    assert read_speed("her2st-breast") is None
    paths.speed_file().write_text(
        json.dumps({"m": {"state": "", "speed": asdict(ModelSpeed(1, 1, 1, "bf16"))}})
    )
    assert read_speed("m") == ModelSpeed(1, 1, 1, "bf16")
    assert read_speed("other") is None


def test_a_model_is_timed_once_until_its_files_change(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEM_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    timed: list[ModelSpeed] = []

    def measure(predictor: Predictor) -> ModelSpeed:
        timed.append(ModelSpeed(len(timed), 1, 1, "fp32"))
        return timed[-1]

    monkeypatch.setattr("app.jobs.speed.measure_model", measure)
    monkeypatch.setattr(
        "zoo.registry.list_models", lambda: [SimpleNamespace(name="m", folder=folder)]
    )
    measure_all()
    measure_all()
    assert timed == [read_speed("m")]
    os.utime(folder / "config.json", (1, 1))
    measure_all()
    assert len(timed) == 2 and read_speed("m") == timed[1]


def test_quality_is_said_where_it_was_measured() -> None:
    manifest = find_model("her2st-breast").manifest
    bare = manifest.model_copy(update={"quality": None})
    assert expected_quality(bare, Quality("standard", "angle", 4, 4, 0)) == ""
