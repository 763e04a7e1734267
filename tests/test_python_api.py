"""The Python interface: the examples of its docstrings and of docs/python.md, and its refusals."""

from __future__ import annotations

import doctest
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stem_in_a_browser as stem
from stem_core.encoders.condition import SlideSurvey
from stem_core.errors import OutputError, SettingsError
from stem_core.prediction.predictor import Predictor
from stem_core.slides.reading import Slide
from stem_core.slides.tissue import TissueMask, find_tissue

GUIDE = Path(__file__).parents[1] / "docs" / "python.md"
EXAMPLES = [
    *doctest.DocTestFinder(exclude_empty=True).find(stem),
    doctest.DocTestParser().get_doctest(GUIDE.read_text(encoding="utf-8"), {}, "guide", None, 0),
]


@pytest.fixture(autouse=True)
def home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, give_sample: Callable[[Path], None]
) -> None:
    monkeypatch.setenv("STEM_HOME", str(tmp_path / "home"))
    give_sample(tmp_path / "home")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module", autouse=True)
def looked_at() -> Iterator[None]:
    """Find tissue once a slide and survey it once a model: slow, and each time the same."""
    masks: dict[object, TissueMask] = {}
    surveys: dict[object, SlideSurvey] = {}
    survey, find = Predictor.survey, find_tissue

    def known_tissue(slide: Slide) -> TissueMask:
        key = (slide.path.name, slide.width_px)
        if key not in masks:
            masks[key] = find(slide)
        return masks[key]

    def known_survey(self: Predictor, slide: Slide, *told: Any, **named: Any) -> SlideSurvey:
        key = (self.model.manifest.name, slide.path.name, slide.width_px)
        if key not in surveys:
            surveys[key] = survey(self, slide, *told, **named)
        return surveys[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stem_core.slides.tissue.find_tissue", known_tissue)
        patch.setattr(Predictor, "survey", known_survey)
        yield


@pytest.mark.filterwarnings("ignore:These spots")
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name.split(".")[-1])
def test_examples(example: doctest.DocTest, capsys: pytest.CaptureFixture[str]) -> None:
    failed, tried = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example)
    assert tried and not failed, capsys.readouterr().out


def test_every_function_has_an_example() -> None:
    shown = {example.name.split(".")[-1] for example in EXAMPLES}
    assert set(stem.__all__) <= shown


def test_importing_it_loads_nothing() -> None:
    program = "import sys, stem_in_a_browser; print({'torch', 'numpy', 'app'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "set()"


def test_refusals(tiny_model: Path, sample_piece: Path) -> None:
    model, slide = stem.load_model(tiny_model), sample_piece
    with pytest.raises(SettingsError, match="no preset 'quick'; choose one of preview, "):
        stem.predict(model, slide, preset="quick")  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="unlike"):
        adata = stem.predict(model, slide, preset="preview", layout="grid", pitch_um=300)
    with pytest.raises(SettingsError, match="NOPE"):
        stem.plot_map(adata, "NOPE")
    with pytest.raises(SettingsError, match="6 maps"):
        stem.plot_map(adata, ["domain"] * 7)
    del adata.layers["q05"]
    with pytest.raises(OutputError, match="q05"):
        stem.compare(adata, adata)


def test_a_folder_with_a_bad_slide(tiny_model: Path, tmp_path: Path) -> None:
    slides = tmp_path / "slides"
    slides.mkdir()
    (slides / "broken.svs").write_bytes(b"no image")
    found = stem.predict_folder(stem.load_model(tiny_model), slides, tmp_path / "out")
    assert found.index.tolist() == ["broken.svs"]
    assert "broken.svs" in found["error"].iloc[0]
    assert np.array_equal(found["spots"], [0])
