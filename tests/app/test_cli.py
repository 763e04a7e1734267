"""The command line: exit codes, one line on standard error, and whole results or none."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
import re
import resource
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from app.cli import main
from app.terminal import Notes, ProgressBar, Terminal, quiet_stderr
from stem_core.constants import NOTICE
from stem_core.prediction.export import FILE_NAMES, write_prediction
from stem_core.prediction.result import read_prediction
from tests.forked import Forked, run_forked
from tests.prediction.test_result import make_prediction
from zoo.registry import BUNDLED_DIR

ROOT = Path(__file__).resolve().parents[2]
MODEL = "her2st-breast"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "STEM_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def stem(
    tmp_path: Path,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
):
    """Run `stem` in this process, which saves the imports, and in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STEM_HOME", environment["STEM_HOME"])

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        capfd.readouterr()
        code = main([*map(str, arguments)])
        return subprocess.CompletedProcess(arguments, code, *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def small_slide(tmp_path_factory: pytest.TempPathFactory, sample_file: Path) -> Path:
    """A piece of the synthetic sample slide, as PNG without microns per pixel."""
    from stem_core.slides.reading import open_slide
    from stem_core.slides.tissue import find_tissue

    folder = tmp_path_factory.mktemp("small")
    with open_slide(sample_file) as slide:
        rows, columns = np.nonzero(find_tissue(slide).mask)
        scale = find_tissue(slide).scale_px
        x, y = columns.mean() * scale, rows.mean() * scale
        pixels = slide.read_box(x - 900, y - 900, 1800, 1800, 900, 900)
    pixels[:60] = 245
    Image.fromarray(pixels).save(folder / "small.png")
    return folder / "small.png"


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Measured spots in an order of their own; the first lies on glass."""
    path = tmp_path_factory.mktemp("spots") / "spots.csv"
    rows = ["barcode,x_px,y_px", "on glass,450,20"]
    rows += [f"s{n},{200 + 90 * (n % 6)},{200 + 90 * (n // 6)}" for n in (5, 3, 17, 0, 29)]
    path.write_text("\n".join(rows) + "\n")
    return path


def one_sentence(done: subprocess.CompletedProcess[str], code: int = 2) -> str:
    """Exactly one line on standard error, and nothing on standard output."""
    assert done.returncode == code, done.stderr
    assert done.stderr.endswith("\n")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stdout == ""
    return done.stderr


# --- quick answers ------------------------------------------------------------------------------


def children_s() -> float:
    """Processor time of finished child processes: other work on the machine hardly changes it."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_help_is_fast_and_loads_nothing_heavy(flag: str, tmp_path: Path) -> None:
    program = (
        "import sys\nfrom app.cli import main\n"
        "assert main([FLAG]) == 0\n"
        "assert not {'torch', 'numpy', 'pandas', 'anndata', 'streamlit'} & set(sys.modules)"
    )
    best_s = float("inf")
    program = f"FLAG = {flag!r}\n{program}"
    for _ in range(3):
        start_s = children_s()
        done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True)
        best_s = min(best_s, children_s() - start_s)
        assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"Usage: stem" if flag == "--help" else b"stem ")
    assert best_s < 0.5


SLIDE = ("predict", "a.tif", "--model", "m", "--out", "o")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["predicct"], 'Did you mean "predict"?'),
        (["zoo", "lsit"], 'Did you mean "list"?'),
        (["zoo", "pull"], "NAME is missing"),
        (["train", "her2st-brest"], "Did you mean her2st-breast?"),
        (["predict"], "SLIDES is missing"),
        (["predict", "a.tif", "--model", "m"], "--out is missing"),
        (["predict", "a.tif", "--model"], "--model needs a value"),
        ([*SLIDE, "--mpp", "abc"], '--mpp must be a number, not "abc"'),
        ([*SLIDE, "--mpp", "nan"], '"nan" for --mpp. It must be a finite number'),
        ([*SLIDE, "--steps", "2.5"], '--steps: it must be a whole number, not "2.5"'),
        ([*SLIDE, "--preset", "standrd"], 'Did you mean "standard"?'),
        ([*SLIDE, "--device", "tpu"], '"tpu" for --device. Choose auto, cpu, cuda or cuda:N'),
        ([*SLIDE, "--colour", "x"], "Unknown option: --colour"),
        ([*SLIDE, "--pitch-mu", "9"], "Did you mean --pitch-um?"),
        ([*SLIDE, "--precision", "fp8"], '"fp8" for --precision. Choose from: "auto", "fp32"'),
        ([*SLIDE, "-q", "-v"], "Use --quiet or --verbose, not both"),
        (["app", "--workers", "0"], "Choose 1 to 64"),
        (["app", "--port", "70000"], "70000 is not a port"),
        (["app", "there"], '"there" is one argument too many'),
        (["evaluate", "p.h5ad"], "--truth is missing"),
        (["map", "r", "--layer", "domain", "-o", "m.png", "--view", "1,2"], "x,y,width in µm"),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: list[str], says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    shown = capfd.readouterr()
    assert shown.out == ""
    assert len(shown.err.splitlines()) == 1
    assert shown.err.startswith("stem: ")
    assert says in shown.err
    if arguments[0] != "train":
        assert re.search(r"\(see stem [a-z -]*--help\)$", shown.err)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["zoo"], ["predict", "--help"]])
def test_help_is_no_error(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    shown = capfd.readouterr()
    assert shown.err == ""
    assert shown.out.startswith(" ".join(["Usage: stem", *(a for a in arguments if a[0] != "-")]))
    assert max(map(len, shown.out.splitlines())) <= 100


@pytest.mark.parametrize("command", ["predict", "map", "export", "zoo convert"])
def test_short_names_of_options(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([*command.split(), "--help"]) == 0
    shown = capfd.readouterr().out
    for names in ("--out, -o PATH", "--quiet, -q", "--verbose, -v"):
        assert f"  {names}" in shown
    assert ("--model, -m NAME" in shown) == (command == "predict")


def test_version_names_the_installed_package(stem) -> None:
    done = stem("--version")
    assert done.returncode == 0
    assert re.fullmatch(r"stem \d+\.\d+\.\d+\S*\n", done.stdout)


COMMANDS = (
    "predict", "map", "export", "evaluate", "train", "sections check", "sections download",
    "benchmark sampler", "zoo list", "zoo info", "zoo pull", "zoo pull-encoder", "zoo verify",
    "zoo remove", "zoo push", "zoo convert", "app", "worker", "doctor",
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_the_manual_names_every_option(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([*command.split(), "--help"]) == 0
    page = capfd.readouterr().out
    options = set(re.findall(r"^  (--[a-z-]+)", page, re.MULTILINE))
    manual = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    shared = set(re.findall(r"`(--[a-z-]+)`", manual.split("## stem predict")[0]))
    part = " ".join(command.split()[:1])
    section = re.search(rf"^## stem {part}\b.*?(?=^## |\Z)", manual, re.MULTILINE | re.DOTALL)
    assert section is not None
    named = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]*)", section.group()))
    assert options - shared <= named
    if " " not in command:
        assert named <= options | shared | {"--help"}


# --- predict ------------------------------------------------------------------------------------


def test_predict_writes_the_measured_spots_in_file_order(
    stem, small_slide: Path, measured: Path, tmp_path: Path
) -> None:
    arguments = ["predict", small_slide, "--model", MODEL, "--mpp", "1.0", "--spots", measured]
    quick = ["--preset", "preview", "--steps", "2", "--samples", "2", "--device", "cpu"]
    done = stem(*arguments, *quick, "--out", tmp_path / "a", "--seed", "3")
    assert done.returncode == 0, done.stderr
    assert all(line.startswith("Warning: ") for line in done.stderr.splitlines())
    assert "6 spots" in done.stdout
    assert "research use only" in done.stdout
    assert sorted(item.name for item in (tmp_path / "a").iterdir()) == sorted(FILE_NAMES)

    expression = pd.read_csv(tmp_path / "a" / "expression.csv", dtype={"spot": str})
    assert list(expression["spot"]) == ["on glass", "s5", "s3", "s17", "s0", "s29"]
    prediction = read_prediction(tmp_path / "a" / "prediction.h5ad")
    np.testing.assert_array_equal(expression.iloc[:, 5:].to_numpy(np.float32), prediction.mean)
    run = json.loads((tmp_path / "a" / "run.json").read_text())
    assert run["notice"] == NOTICE
    assert run["command"].startswith("stem predict small.png --model her2st-breast --mpp 1.0")
    assert str(tmp_path) not in json.dumps(run), "the run record names files, not folders"

    again = stem(*arguments, *quick, "--out", tmp_path / "b", "--seed", "3")
    assert again.returncode == 0, again.stderr
    for name in ("expression.csv", "uncertainty.csv", "genes.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()

    by_path = [*arguments[:3], BUNDLED_DIR / MODEL, *arguments[4:]]
    own = stem(*by_path, *quick, "--out", tmp_path / "c", "--seed", "3")
    assert own.returncode == 0, own.stderr
    assert (tmp_path / "c/expression.csv").read_bytes() == (
        tmp_path / "a/expression.csv"
    ).read_bytes()

    full = stem(*arguments, *quick, "--out", tmp_path / "a")
    assert "--overwrite" in one_sentence(full)
    replaced = stem(*arguments, *quick, "--out", tmp_path / "a", "--seed", "4", "--overwrite")
    assert replaced.returncode == 0, replaced.stderr
    # The mean of opposite residuals does not depend on the seed, their spread does.
    assert (tmp_path / "a" / "uncertainty.csv").read_bytes() != (
        tmp_path / "b" / "uncertainty.csv"
    ).read_bytes()


def test_predict_lays_spots_out_as_the_model_was_trained(
    stem, small_slide: Path, tmp_path: Path
) -> None:
    arguments = ["predict", small_slide, "--model", MODEL, "--mpp", "1.0", "--preset", "preview"]
    quick = ["--steps", "2", "--samples", "2"]
    done = stem(*arguments, *quick, "--out", tmp_path / "own")
    assert done.returncode == 0, done.stderr
    assert "These spots" not in done.stderr
    spots = read_prediction(tmp_path / "own" / "prediction.h5ad").spots
    assert (spots.source, spots.pitch_um, spots.diameter_um) == ("st", 200.0, 100.0)

    other = stem(*arguments, *quick, "--out", tmp_path / "other", "--layout", "visium")
    assert other.returncode == 0, other.stderr
    assert "Warning: These spots (Visium: 55 µm, 100 µm apart) are unlike" in other.stderr
    spots = read_prediction(tmp_path / "other" / "prediction.h5ad").spots
    assert (spots.source, spots.pitch_um, spots.diameter_um) == ("visium", 100.0, 55.0)


@pytest.fixture(scope="session")
def bad_inputs(
    tmp_path_factory: pytest.TempPathFactory, small_slide: Path, sample_file: Path
) -> Path:
    """A folder of files that cannot be used."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "text.tif").write_text("this is not an image")
    Image.open(small_slide).convert("L").save(folder / "grey.png")
    Image.new("RGB", (800, 800), "white").save(folder / "empty.png")
    (folder / "columns.csv").write_text("spot,column,row\na,1,2\n")
    (folder / "outside.csv").write_text("spot,x_px,y_px\na,100,100\nb,5000,100\n")
    (folder / "file").write_text("")
    full = sample_file.read_bytes()
    (folder / "truncated.tif").write_bytes(full[: len(full) // 3])
    return folder


@pytest.mark.parametrize(
    ("image", "options", "said"),
    [
        ("missing.tif", [], "missing.tif"),
        ("text.tif", [], "text.tif"),
        ("truncated.tif", [], "truncated.tif"),
        ("grey.png", ["--mpp", "1"], "grey.png"),
        ("empty.png", ["--mpp", "1"], "tissue"),
        ("SMALL", [], "microns per pixel"),
        ("SMALL", ["--mpp", "0"], "0"),
        ("SMALL", ["--mpp", "-1"], "-1"),
        ("SMALL", ["--mpp", "50"], "50"),
        ("SMALL", ["--mpp", "1", "--spots", "columns.csv"], "columns.csv"),
        ("SMALL", ["--mpp", "1", "--spots", "outside.csv"], "outside"),
        ("SMALL", ["--mpp", "1", "--spots", "outside.csv", "--pitch-um", "50"], "--pitch-um"),
        ("SMALL", ["--mpp", "1", "--spots", "outside.csv", "--layout", "st"], "--layout lays"),
        ("SMALL", ["--mpp", "1", "--model", "her2st-brest"], "did you mean her2st-breast?"),
        ("SMALL", ["--mpp", "1", "--model", "kidney-visium-hmhv"], "mean kidney-visium-hmhvg?"),
        ("SMALL", ["--mpp", "1", "--model", "./her2st-breast"], "is not a model folder"),
        ("SMALL", ["--mpp", "1", "--out", "file/out"], "cannot be written"),
        ("SMALL", ["--mpp", "1", "--pitch-um", "0"], "pitch"),
        ("SMALL", ["--mpp", "1", "--steps", "0"], "steps"),
        ("SMALL", ["--mpp", "1", "--samples", "0"], "samples"),
        ("SMALL", ["--mpp", "1", "--sampler", "magic"], "magic"),
        ("SMALL", ["--mpp", "1", "--steps", "-3"], "steps"),
        ("SMALL", ["--mpp", "1", "--steps", "1001"], "between 2 and 1000"),
        ("SMALL", ["--mpp", "1", "--samples", "1002"], "between 1 and 1000"),
        ("SMALL", ["--mpp", "1", "--samples", "3"], "choose an even number"),
    ],
)
def test_bad_input_is_one_sentence(
    bad_inputs: Path,
    small_slide: Path,
    tmp_path: Path,
    environment: dict[str, str],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    image: str,
    options: list[str],
    said: str,
) -> None:
    monkeypatch.setenv("STEM_HOME", environment["STEM_HOME"])
    monkeypatch.chdir(bad_inputs)
    before = sorted(bad_inputs.iterdir())
    name = str(small_slide) if image == "SMALL" else image
    code = main(["predict", name, "--model", MODEL, "--out", str(tmp_path / "out"), *options])
    shown = capfd.readouterr()
    assert code == 2, shown.err
    assert len(shown.err.splitlines()) == 1, shown.err
    assert said.lower() in shown.err.lower()
    assert shown.out == ""
    assert not (tmp_path / "out").exists()
    assert sorted(bad_inputs.iterdir()) == before


def test_interrupting_leaves_nothing(
    small_slide: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    """Ctrl-C in mid-run, also where the shell had it ignored: 130, one line, no output."""
    arguments = [
        "predict", str(small_slide), "--model", MODEL, "--mpp", "1", "--layout", "grid",
        "--pitch-um", "20", "--preset", "published", "--out", str(tmp_path / "out"),
    ]  # fmt: skip
    program = f"""
import signal, sys
from pathlib import Path
from app.cli import main
from stem_core.prediction.predictor import Predictor
signal.signal(signal.SIGINT, signal.SIG_IGN)
draw = Predictor.draw
def drawing(*given, **named):
    Path("begun").touch()
    return draw(*given, **named)
Predictor.draw = drawing
sys.exit(main({arguments!r}))
"""
    out, err, begun = tmp_path / "stdout", tmp_path / "stderr", tmp_path / "begun"
    process = Forked("tests.forked:execute", [program], environment, tmp_path, out, err)
    until = time.monotonic() + 120
    while not begun.exists():
        assert process.poll() is None and time.monotonic() < until, err.read_text()
        time.sleep(0.05)
    time.sleep(0.2)  # in the middle of it
    assert process.poll() is None
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(60) == 130, err.read_text()
    assert err.read_text() == "stem: Interrupted; nothing was written.\n"
    assert out.read_text() == ""
    assert not (tmp_path / "out").exists()


def test_a_fault_of_ours_names_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import zoo.registry

    def broken() -> None:
        msg = "something nobody thought of"
        raise RuntimeError(msg)

    monkeypatch.setenv("STEM_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(zoo.registry, "list_offers", broken)
    monkeypatch.setattr(logging.getLogger("stem"), "handlers", [])
    assert main(["zoo", "list"]) == 1
    shown = capfd.readouterr()
    assert len(shown.err.splitlines()) == 1
    assert "nobody thought of" not in shown.err
    log = tmp_path / "home" / "log" / "stem.log"
    assert str(log) in shown.err
    reference = re.search(r"F-[0-9A-F]{8}", shown.err)
    assert reference is not None
    text = log.read_text(encoding="utf-8")
    assert reference.group() in text
    assert "something nobody thought of" in text


# --- the other commands -------------------------------------------------------------------------


def test_evaluate_writes_the_figures(stem, tmp_path: Path) -> None:
    import anndata

    prediction = make_prediction(30)
    paths = write_prediction(prediction, tmp_path / "out")
    counts = np.round(np.exp2(np.maximum(prediction.mean, 0)) - 1 + np.arange(30)[:, None] % 4)
    truth = anndata.AnnData(counts.astype(np.float32))
    truth.obs_names, truth.var_names = list(prediction.spots.ids), list(prediction.symbols)
    truth.write_h5ad(tmp_path / "truth.h5ad")

    arguments = ["evaluate", paths["prediction.h5ad"], "--truth", tmp_path / "truth.h5ad"]
    done = stem(*arguments, "-q", "-o", tmp_path / "figures.json")
    assert done.returncode == 0, done.stderr
    warned = "Warning: The measured file is called truth, the slide C5: make sure that they"
    assert done.stdout == "" and done.stderr == ""
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert {
        "pcc_10", "pcc_50", "pcc_all", "mse", "mae", "rvd", "coverage_90", "n_spots", "n_genes",
        "n_constant_genes", "spearman_all", "baselines", "matched_by", "left_out",
    } <= set(figures)  # fmt: skip
    assert (figures["n_spots"], figures["n_genes"]) == (30, 5)
    printed = stem(*arguments, "--json")
    assert json.loads(printed.stdout) == figures
    assert printed.stderr.startswith(warned)
    assert "does not exist" in one_sentence(stem(*arguments, "-o", tmp_path / "no" / "f.json"))
    one_sentence(stem("evaluate", tmp_path / "none.h5ad", "--truth", tmp_path / "truth.h5ad"))
    one_sentence(stem("evaluate", paths["genes.csv"], "--truth", tmp_path / "truth.h5ad"))


def test_results_are_made_and_used_without_the_web_packages(
    tmp_path: Path, tiny_model: Path, small_slide: Path, environment: dict[str, str]
) -> None:
    """`pip install stem-in-a-browser` alone, as on a cluster."""
    quick = ["--pitch-um", "150", "--steps", "2", "--samples", "2", "--device", "cpu"]
    program = f"""
import sys
for name in ("streamlit", "starlette", "uvicorn", "plotly", "dbos", "sqlalchemy"):
    sys.modules[name] = None
from app.cli import main
slide = {str(small_slide)!r}
assert main(["predict", slide, "-o", "r", "-m", "tiny-test", "--mpp", "1", *{quick!r}]) == 0
for kind in ("png", "svg", "html"):
    assert main(["map", "r", "--layer", "domain", "-o", f"map.{{kind}}"]) == 0
assert main(["export", "r", "--to", "qupath", "-o", "q.geojson"]) == 0
assert main(["export", "r", "--to", "tissuumaps", "-o", "t"]) == 0
from anndata import read_h5ad
table = read_h5ad("r/prediction.h5ad")
table.X = (2 ** table.X).round()
table.write_h5ad("truth.h5ad")
assert main(["evaluate", "r/prediction.h5ad", "--truth", "truth.h5ad", "--report", "report"]) == 0
assert main(["train", "her2st-breast", "--check"]) == 0
for command in ("app", "worker"):
    assert main([command]) == 2
"""
    done = run_forked("tests.forked:execute", [program], environment, tmp_path, 240)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith("Warning: ")]
    assert len(lines) == 2, lines
    assert all('Run pip install "stem-in-a-browser[app]".' in line for line in lines)


def test_zoo_list(stem) -> None:
    table = stem("zoo", "list")
    assert table.returncode == 0, table.stderr
    assert table.stdout.splitlines()[0].startswith("NAME")
    models = {entry["name"]: entry for entry in json.loads(stem("zoo", "list", "--json").stdout)}
    assert {MODEL, "mouse-olfactory-bulb"} <= set(models)
    assert models[MODEL]["n_genes"] == 200
    assert all(name in table.stdout for name in models)


def test_doctor(stem, tmp_path: Path) -> None:
    done = stem("doctor", "--json")
    assert done.returncode == 0, done.stderr
    findings = json.loads(done.stdout)
    assert findings["problems"] == []
    assert findings["versions"]["torch"]
    assert findings["device"]["threads"] >= 1
    assert findings["folders"]["home"] == str(tmp_path / "home")
    assert MODEL in findings["models"]
    assert "bf16 pays on the CPU" in stem("doctor").stdout


# --- the terminal -------------------------------------------------------------------------------


def test_what_libraries_print_goes_to_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STEM_HOME", str(tmp_path / "home"))
    with quiet_stderr() as stream:
        os.write(2, b"TIFFReadDirectory: from C\n")
        print("from Python", file=sys.__stderr__)
        print("our line", file=stream)
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "our line\nafterwards\n"
    log = (tmp_path / "home" / "log" / "stem.log").read_text()
    assert "TIFFReadDirectory: from C" in log


def test_warnings_wait_for_success_unless_someone_watches() -> None:
    stream = io.StringIO()
    notes = Notes(Terminal(stream=stream))
    with notes.listening():
        for _ in range(2):
            logging.getLogger("stem_core.slides.reading").warning("only\none level")
        logging.getLogger("someone_else").debug("noise")
    assert stream.getvalue() == ""
    notes.tell()
    assert stream.getvalue() == "Warning: only one level\n"


def test_progress_is_for_terminals_only() -> None:
    from stem_core.prediction.predictor import Progress

    quiet = io.StringIO()
    bar = ProgressBar(Terminal(stream=quiet))
    bar(Progress("predict", 3, 10, "spots"))
    bar.close()
    assert quiet.getvalue() == ""

    controller, terminal = pty.openpty()  # 0 columns wide, as under some job runners
    with os.fdopen(terminal, "w") as stream:
        bar = ProgressBar(Terminal(stream=stream))
        for done in (0, 4, 10):
            bar(Progress("predict", done, 10, "spots"))
            time.sleep(0.12)
        bar.close()
        stream.flush()
        assert select.select([controller], [], [], 10)[0], "nothing was shown"
        shown = os.read(controller, 65536).decode()
    os.close(controller)
    assert "Predicting" in shown
    assert re.search(r"4/10 spots \[\d\d:\d\d, \d\d:\d\d left\]", shown)
