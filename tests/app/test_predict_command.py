"""`stem predict` for several slides, resumed and repeated, with a tiny model."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import zoo.loader
from app.cli import main
from app.terminal import CTRL_C
from stem_core.model.stem_model import DomainReference
from stem_core.prediction.export import FILE_NAMES
from stem_core.prediction.predictor import Predictor
from stem_core.prediction.result import read_prediction

QUICK = ("--steps", "2", "--samples", "2", "--device", "cpu", "--precision", "fp32")


@pytest.fixture
def place(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with slides, as the current one, and the tiny model at hand."""
    monkeypatch.setenv("STEM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("STEM_MODELS_DIR", str(tiny_model.parent))
    folder = tmp_path / "work"
    (folder / "slides").mkdir(parents=True)
    monkeypatch.chdir(folder)
    for seed, name in enumerate(("A.png", "B.png")):
        save_slide(folder / "slides" / name, seed)
    return folder


def save_slide(path: Path, seed: int) -> None:
    """Save a pink square with texture on white glass, 500 px wide."""
    random = np.random.default_rng(seed)
    picture = np.full((500, 500, 3), 245, np.uint8)
    picture[60:440, 60:440] = np.array((200, 90, 150)) + random.integers(-40, 40, (380, 380, 3))
    Image.fromarray(picture).save(path)


@pytest.fixture
def predict(place: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run `stem predict`; give exit code, standard output and standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main(["predict", *arguments])
        shown = capfd.readouterr()
        return code, shown.out, shown.err

    return run


BATCH = ("-m", "tiny-test", "--mpp", "1", "--pitch-um", "150", *QUICK)


def summary(out: str) -> list[dict[str, str]]:
    with (Path(out) / "summary.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def times(out: str) -> dict[str, int]:
    """When each result was written."""
    return {p.parent.name: p.stat().st_mtime_ns for p in Path(out).rglob("run.json")}


def test_each_slide_of_a_folder_gets_a_subfolder(
    predict: Callable[..., tuple[int, str, str]],
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (place / "slides" / "notes.txt").write_text("no slide")
    (place / "slides" / "._A.png").write_bytes(b"of another system")
    loaded = []
    load_model = zoo.loader.load_model
    monkeypatch.setattr(zoo.loader, "load_model", lambda p: loaded.append(p) or load_model(p))
    code, out, err = predict("slides", "-o", "results", *BATCH)
    assert code == 0, err
    assert len(loaded) == 1, "one model serves all slides"
    assert "2 slides: 2 predicted, 0 skipped, 0 failed. Summary: " in out
    rows = summary("results")
    assert list(rows[0]) == ["slide", "folder", "state", "spots", "seconds", "error"]
    assert [(row["slide"], row["folder"], row["state"]) for row in rows] == [
        ("A.png", "A", "done"), ("B.png", "B", "done"),
    ]  # fmt: skip
    for row in rows:
        result = Path("results", row["folder"])
        assert sorted(item.name for item in result.iterdir()) == sorted(FILE_NAMES)
        assert len(read_prediction(result / "prediction.h5ad").spots) == int(row["spots"]) > 3
        assert float(row["seconds"]) > 0
    # each as if it were alone
    code, _, err = predict("slides/B.png", "-o", "alone", *BATCH)
    assert code == 0, err
    alone, among_others = (Path(o, "expression.csv").read_bytes() for o in ("alone", "results/B"))
    assert alone == among_others


def test_one_failure_does_not_stop_the_others(
    predict: Callable[..., tuple[int, str, str]], place: Path
) -> None:
    Path("slides/A.png").write_text("no picture")
    code, out, err = predict("slides/A.png", "none.tif", "slides/B.png", "-o", "results", *BATCH)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert err.startswith("stem: 2 of 3 slides failed: A.png, none.tif. ")
    assert "1 predicted, 0 skipped, 2 failed" in out
    a, none, b = summary("results")
    assert (a["state"], none["state"], b["state"]) == ("failed", "failed", "done")
    assert "A.png" in a["error"] and "none.tif" in none["error"] and b["error"] == ""
    assert sorted(item.name for item in Path("results").iterdir()) == ["B", "summary.csv"]
    # with the slide replaced, only what is not finished is done
    save_slide(place / "slides" / "A.png", 0)
    before = times("results")
    code, out, err = predict("slides", "-o", "results", *BATCH, "--resume")
    assert code == 0, err
    assert [row["state"] for row in summary("results")] == ["done", "skipped"]
    assert summary("results")[1]["spots"] == b["spots"]
    assert times("results")["B"] == before["B"]
    assert "Skipped B.png, finished already" in out


def test_a_fault_on_one_slide_names_the_log(
    predict: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    predict_slide = Predictor.predict

    def fail_on_a(self: Predictor, slide, *arguments, **options):
        if slide.path.name == "A.png":
            raise ZeroDivisionError
        return predict_slide(self, slide, *arguments, **options)

    monkeypatch.setattr(Predictor, "predict", fail_on_a)
    code, _, err = predict("slides", "-o", "results", *BATCH)
    assert code == 1
    assert len(err.splitlines()) == 1 and "1 of 2 slides failed: A.png" in err
    a, b = summary("results")
    assert a["state"] == "failed" and "stem.log" in a["error"]
    assert b["state"] == "done"


def test_a_model_that_cannot_be_used_stops_all(
    predict: Callable[..., tuple[int, str, str]], tiny_model: Path, place: Path
) -> None:
    shutil.copytree(tiny_model, place / "damaged")
    (place / "damaged" / "model.safetensors").write_bytes(b"no")
    code, out, err = predict("slides", "-o", "results", "-m", "./damaged", *BATCH[2:])
    assert code == 2
    assert len(err.splitlines()) == 1 and "model.safetensors" in err
    assert out == ""
    assert not Path("results").exists()
    code, _, err = predict("slides", "-o", "results", "-m", "./damaged", *BATCH[2:], "--resume")
    assert code == 2
    assert len(err.splitlines()) == 1 and "model.safetensors" in err
    assert {row["state"] for row in summary("results")} == {"waiting"}


def test_interrupting_keeps_what_is_finished(
    predict: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    predict_slide = Predictor.predict

    def interrupt_on_b(self: Predictor, slide, *arguments, **options):
        if slide.path.name == "B.png":
            CTRL_C.set()
        return predict_slide(self, slide, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "predict", interrupt_on_b)
        code, _, err = predict("slides", "-o", "results", *BATCH)
    assert code == 130
    assert err == (
        "stem: Interrupted; 1 of 2 slides are finished. Run the same command with --resume to "
        "continue.\n"
    )
    assert [row["state"] for row in summary("results")] == ["done", "waiting"]
    assert predict("slides", "-o", "results", *BATCH)[0] == 2, "neither --resume nor --overwrite"
    assert predict("slides", "-o", "results", *BATCH, "--resume")[0] == 0
    assert [row["state"] for row in summary("results")] == ["skipped", "done"]


def test_a_csv_list_has_facts_of_each_slide(
    predict: Callable[..., tuple[int, str, str]], place: Path
) -> None:
    (place / "slides" / "spots.csv").write_text("spot,x_px,y_px\nlast,300,300\nfirst,150,200\n")
    Path("slides/list.csv").write_text(
        "\ufeffSlide,mpp,spots,folder,patient\n"
        "A.png,0.5,spots.csv,first one,P1\n"
        ",,,,\n"
        f"{place / 'slides' / 'B.png'},,,,P2\n",
        encoding="utf-8",
    )
    code, _, err = predict("slides/list.csv", "-o", "results", *BATCH)
    assert code == 0, err
    assert "Warning: The list slides/list.csv has columns that are not used: patient\n" in err
    assert [row["folder"] for row in summary("results")] == ["first one", "B"]
    a = read_prediction(Path("results/first one/prediction.h5ad"))
    assert (a.mpp, a.spots.ids) == (0.5, ("last", "first"))
    b = read_prediction(Path("results/B/prediction.h5ad"))
    assert (b.mpp, b.spots.source) == (1.0, "st")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no column slide"),
        ("image,mpp\nA.png,1\n", "has no column slide"),
        ("slide\n", "names no slide"),
        ("slide,mmp\nA.png,1\n", "a column mmp. Did you mean mpp?"),
        ("slide,mpp\nA.png,one\n", "Row 2 of list.csv has the mpp 'one'"),
        ("slide,mpp\nA.png,nan\n", "Row 2 of list.csv has the mpp 'nan'"),
        ("slide,mpp\n,1\n", "Row 2 of list.csv names no slide"),
        ("slide,folder\nA.png,../x\n", "Give one name without separators"),
        ("slide\nA.png\nother/a.tif\n", "would go to the same subfolder a"),
        ("slide,folder\nA.png,summary.csv\n", "would replace summary.csv"),
    ],
)
def test_a_faulty_list_is_one_sentence(
    predict: Callable[..., tuple[int, str, str]], text: str, says: str
) -> None:
    Path("list.csv").write_text(text)
    code, out, err = predict("list.csv", "-o", "results", *BATCH)
    assert (code, out) == (2, "")
    assert says in err and len(err.splitlines()) == 1
    assert not Path("results").exists()


def test_several_slides_are_refused_where_they_make_no_sense(
    predict: Callable[..., tuple[int, str, str]], place: Path
) -> None:
    (place / "empty").mkdir()
    (place / "full").mkdir()
    (place / "full" / "note.txt").write_text("mine")
    for arguments, says in (
        (["empty", "-o", "x"], "holds no slide"),
        (["none.csv", "-o", "x"], "cannot be read"),
        (["slides", "slides/A.png", "-o", "x"], "the same subfolder A"),
        (["slides", "--spots", "s.csv", "-o", "x"], "CSV list with the columns slide,spots"),
        (["slides", "-o", "full"], "is not empty"),
        (["slides", "-o", "full", "--resume"], "no earlier run can be resumed there"),
        (["slides/A.png", "-o", "full", "--resume"], "is not empty"),
    ):
        code, out, err = predict(*arguments, *BATCH)
        assert (code, out) == (2, ""), arguments
        assert says in err and len(err.splitlines()) == 1, arguments
        assert not (place / "x").exists()
    assert [item.name for item in (place / "full").iterdir()] == ["note.txt"]


def test_resume_compares_what_decides_the_values(
    predict: Callable[..., tuple[int, str, str]], place: Path
) -> None:
    one = ("slides/A.png", "-o", "one", *BATCH)
    assert predict(*one)[0] == 0
    written = times("one")
    code, out, err = predict(*one, "--resume")
    assert (code, err) == (0, "")
    assert out.startswith("Skipped A.png, finished already") and times("one") == written
    (place / "spots.csv").write_text("spot,x_px,y_px\na,300,300\nb,150,200\n")
    plain = [item for item in BATCH if item not in ("--pitch-um", "150")]
    for arguments, says in (
        ([*one, "--seed", "1"], "(seed 0, not 1)"),
        ([*one, "--steps", "3", "--samples", "4"], "(steps 2, not 3; samples 2, not 4)"),
        ([*one, "--mpp", "1.1"], "microns per pixel 1.0, not 1.1"),
        ([*one, "--pitch-um", "160"], "(other spots)"),
        (["slides/B.png", *one[1:]], "(another slide)"),
        (["slides/A.png", "-o", "one", *plain, "--spots", "spots.csv"], "(other spots)"),
        ([*one, "-m", "mouse-olfactory-bulb"], "model tiny-test, not mouse-olfactory-bulb"),
    ):
        code, out, err = predict(*arguments, "--resume")
        assert (code, out) == (2, ""), arguments
        assert "holds a finished result with other settings" in err and says in err, arguments
        assert times("one") == written
    assert predict(*one, "--seed", "1", "--resume", "--overwrite")[0] == 0
    assert json.loads(Path("one/run.json").read_text())["seed"] == 1
    # what a killed run left is not a finished result
    Path("one/run.json").unlink()
    Path("one/.partial-left").mkdir()
    assert predict(*one, "--resume")[0] == 0
    assert json.loads(Path("one/run.json").read_text())["seed"] == 0


def test_a_recorded_run_is_repeated(
    predict: Callable[..., tuple[int, str, str]], place: Path
) -> None:
    assert predict("slides/A.png", "-o", "first", *BATCH, "--seed", "7")[0] == 0
    # the scale that was given then is part of the record
    code, _, err = predict("slides/A.png", "-o", "again", "--config", "first/run.json")
    assert code == 0, err
    for name in ("expression.csv", "uncertainty.csv"):
        assert Path("again", name).read_bytes() == Path("first", name).read_bytes()
    first, again = (json.loads(Path(o, "run.json").read_text()) for o in ("first", "again"))
    changing = {"command", "elapsed_s", "finished"}
    assert {k: v for k, v in first.items() if k not in changing} == {
        k: v for k, v in again.items() if k not in changing
    }
    # options come first, also those of the preset
    code, _, err = predict(
        "slides/A.png", "-o", "other", "--config", "first", "--seed", "8", "--layout", "grid"
    )
    assert code == 0, err
    other = json.loads(Path("other/run.json").read_text())
    assert (other["seed"], other["steps"], other["spots"]["source"]) == (8, 2, "grid")
    # another slide has another scale
    code, _, err = predict("slides/B.png", "-o", "x", "--config", "first/run.json")
    assert code == 2 and "does not say how many microns" in err
    assert predict("slides/B.png", "-o", "x", "--config", "first/run.json", "--mpp", "1")[0] == 0


def test_what_cannot_be_repeated_is_one_sentence(
    predict: Callable[..., tuple[int, str, str]], place: Path
) -> None:
    (place / "spots.csv").write_text("spot,x_px,y_px\na,300,300\nb,150,200\n")
    plain = [item for item in BATCH if item not in ("--pitch-um", "150")]
    one = ("slides/A.png", "-o", "one", *plain, "--spots", "spots.csv")
    assert predict(*one)[0] == 0
    record = json.loads(Path("one/run.json").read_text())
    record["model"]["weights_sha256"] = "0" * 64
    Path("other.json").write_text(json.dumps(record))
    Path("list.json").write_text("[1]")
    Path("broken.json").write_text("{")
    Path("part.json").write_text('{"seed": 1}')
    for arguments, says in (
        (["--config", "one/run.json"], "used measured spots. Name their file with --spots"),
        (["--config", "none.json"], "none.json cannot be read"),
        (["--config", "list.json"], "is not a run record"),
        (["--config", "broken.json"], "is not a run record"),
        (["--config", "part.json"], "is not a run record of this program (model: "),
        (["--config", "other.json", "--spots", "spots.csv"], "is not the one of the recorded run"),
        ([], "No model was named. Name one with --model"),
    ):
        code, out, err = predict("slides/A.png", "-o", "x", *arguments)
        assert (code, out) == (2, ""), arguments
        assert says in err and len(err.splitlines()) == 1, err
    code, _, err = predict("slides/A.png", "-o", "x", "--config", "one", "--spots", "spots.csv")
    assert code == 0, err
    assert Path("x/expression.csv").read_bytes() == Path("one/expression.csv").read_bytes()


def test_quiet_prints_nothing_and_verbose_says_more(
    predict: Callable[..., tuple[int, str, str]],
) -> None:
    assert predict("slides/A.png", "-o", "quiet", *BATCH, "-q") == (0, "", "")
    code, out, _ = predict("slides/A.png", "-o", "loud", *BATCH, "-v")
    assert code == 0 and out.startswith("Predicted ")


def test_the_record_names_no_folder_of_this_machine(
    predict: Callable[..., tuple[int, str, str]], place: Path
) -> None:
    code, _, err = predict(f"{place}/slides/A.png", f"--out={place}/deep", *BATCH)
    assert code == 0, err
    text = Path("deep/run.json").read_text()
    assert str(place) not in text
    assert "stem predict A.png --out=deep -m tiny-test" in json.loads(text)["command"]


def test_resuming_with_other_settings_keeps_results_and_their_rows(
    predict: Callable[..., tuple[int, str, str]],
) -> None:
    assert predict("slides", "-o", "results", *BATCH)[0] == 0
    before, written = summary("results"), times("results")
    code, out, err = predict("slides", "-o", "results", *BATCH, "--seed", "5", "--resume")
    assert code == 2
    assert "0 predicted, 0 skipped, 0 failed, 2 kept with other settings" in out
    assert "2 of 2 slides have a result with other settings: A.png, B.png." in err
    after = summary("results")
    for row, earlier in zip(after, before, strict=True):
        assert (row["state"], row["spots"]) == ("kept", earlier["spots"])
        assert row["seconds"] == earlier["seconds"] and "(seed 0, not 5)" in row["error"]
    assert times("results") == written


def test_a_slide_unlike_the_training_tissue_is_warned_of(
    predict: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    distance = 2.0

    def far(self: DomainReference, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.full(len(embeddings), distance, np.float32)

    monkeypatch.setattr(DomainReference, "distance", far)
    _, _, err = predict("slides/A.png", "-o", "far", *BATCH)
    assert "A.png: Much of this tissue looks unlike what the model was trained on" in err
    assert "median 2.00; 100 % of the spots are above 1" in err
    distance = 0.5
    assert "unlike" not in predict("slides/A.png", "-o", "near", *BATCH)[2]
