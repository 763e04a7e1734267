"""The wheel as it is published: what it holds, and that it runs beside a user's own packages."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

PACKAGES = ("stem_core", "zoo", "app", "stem_in_a_browser")
ROOT = Path(__file__).resolve().parents[1]
LIMIT_S = 240.0
WEB_PACKAGES = ("streamlit", "starlette", "uvicorn", "plotly", "dbos", "sqlalchemy")


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the wheel and the source archive; the wheel is made from the archive."""
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        capture_output=True, text=True, timeout=LIMIT_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    return next(dist.glob("*.whl"))


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel installed in a folder of its own; its dependencies are those of the tests."""
    folder = tmp_path_factory.mktemp("site")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index",
         "--target", str(folder), str(wheel)],
        check=True, timeout=LIMIT_S,
    )  # fmt: skip
    return folder


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder of the user's that has packages of the same names."""
    folder = tmp_path / "my project"
    for name in ("app.py", "main.py", "stem_core.py", "app/__init__.py", "zoo/__init__.py"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("raise SystemExit('the file of the user was run')\n", encoding="utf-8")
    return folder


def environment(site: Path, home: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(site), "STEM_HOME": str(home), "STEM_MODELS_DIR": ""}


def stem(site: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(site / "bin" / "stem"), *arguments],
        cwd=cwd, env=environment(site, cwd.parent / "home"), capture_output=True, text=True,
        timeout=LIMIT_S,
    )  # fmt: skip


def test_the_wheel_holds_what_runs_and_nothing_else(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    tracked = subprocess.run(
        ["git", "ls-files", *PACKAGES],
        cwd=ROOT, capture_output=True, text=True, check=False,
    ).stdout.split()  # fmt: skip
    assert names >= {"zoo/registry.json", "zoo/recipes/her2st-breast.yaml", "app/theme.toml"}
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    for model in ("her2st-breast", "mouse-olfactory-bulb"):
        assert f"zoo/models/{model}/model.safetensors" in names
    if tracked:  # not in an unpacked archive
        assert set(tracked) <= names
    assert {name.split("/")[0] for name in names} == set(PACKAGES)
    assert wheel.stat().st_size < 60e6


def test_the_metadata_is_right_for_an_index(dist: Path, wheel: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *map(str, dist.iterdir())],
        capture_output=True, text=True, timeout=LIMIT_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/METADATA"))
        metadata = archive.read(name).decode("utf-8")
    needed = re.findall(r"^Requires-Dist: ([\w.-]+)(?!.*extra ==).*$", metadata, re.MULTILINE)
    assert not set(needed) & set(WEB_PACKAGES)
    assert "Provides-Extra: app" in metadata
    assert "Typing :: Typed" in metadata
    links = re.findall(r"\]\(([^)]+)\)", metadata)
    assert links
    assert all(link.startswith(("https:", "#")) for link in links)


def test_the_links_of_the_readme_follow_the_address_of_the_project(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(tmp_path),
         str(ROOT)],
        env={**os.environ, "STEM_PROJECT_URL": "https://example.org/stem/"},
        capture_output=True, text=True, timeout=LIMIT_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/METADATA"))
        metadata = archive.read(name).decode("utf-8")
    assert "](https://example.org/stem/blob/main/docs/zoo.md)" in metadata
    assert "](https://example.org/stem/raw/main/docs/img/" in metadata
    assert "Project-URL: Source, https://example.org/stem" in metadata


def test_a_prediction_from_the_wheel_beside_the_users_own_packages(
    site: Path, elsewhere: Path, sample_piece: Path
) -> None:
    (elsewhere / "slide.tif").hardlink_to(sample_piece)
    done = stem(
        site, elsewhere, "predict", "slide.tif", "--model", "mouse-olfactory-bulb",
        "--preset", "preview", "--pitch-um", "300", "--out", "result",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (elsewhere / "result" / "expression.csv").stat().st_size > 0


def test_a_packaged_recipe_gets_as_far_as_its_data(site: Path, elsewhere: Path) -> None:
    (elsewhere / "data").mkdir()
    done = stem(site, elsewhere, "train", "her2st-breast", "--data", "data")
    assert done.returncode == 2
    assert done.stderr.startswith(
        "stem: 5 of the 5 sections are not in data/her2st with counts and image; put "
        "st/<section>.h5ad and wsis/<section>.tif, or Space Ranger's <section>/outs and its image, "
        "there; "
    ), done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_run_through_the_app_of_the_wheel_beside_the_users_own_packages(
    site: Path, elsewhere: Path, sample_piece: Path, give_piece: Callable[[Path], None]
) -> None:
    home = elsewhere.parent / "home"
    give_piece(home)
    app = subprocess.Popen(
        [str(site / "bin" / "stem"), "app", "--port", "0"],
        cwd=elsewhere, env=environment(site, home), stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        assert app.stdout is not None
        line = app.stdout.readline()
        found = re.search(r"ready at (http://127\.0\.0\.1:\d+) ", line)
        assert found, line
        with urllib.request.urlopen(found[1], timeout=60) as page:
            assert page.status == 200
        program = f"""
import json, sys, time
from pathlib import Path
from app import uploads
from app.jobs.model import JobRequest
from app.jobs.queue import JobQueue
upload = uploads.store_upload(Path({str(sample_piece)!r}).read_bytes(), "slide.tif")
queue = JobQueue()
job = queue.submit(JobRequest(upload.id, "slide.tif", "mouse-olfactory-bulb", None, "preview",
    "angle", 2, 2, 0, "layout", None, 300.0, None, "cpu"))
until = time.monotonic() + {LIMIT_S}
while not queue.status(job).finished and time.monotonic() < until:
    time.sleep(0.2)
status = queue.status(job)
print(json.dumps([status.state, status.message, sys.modules["app"].__file__]))
"""
        done = subprocess.run(
            [sys.executable, "-P", "-c", program],
            cwd=elsewhere, env=environment(site, home), capture_output=True, text=True,
            timeout=2 * LIMIT_S,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        state, message, source = json.loads(done.stdout)
        assert (state, message) == ("done", "")
        assert Path(source).is_relative_to(site)
    finally:
        app.terminate()
        app.wait(60)


def test_the_command_line_needs_no_web_packages(site: Path, tmp_path: Path) -> None:
    """`pip install stem-in-a-browser` without the extra `app`, as on a cluster."""
    program = f"""
import sys
for name in {WEB_PACKAGES!r}:
    sys.modules[name] = None
from app.cli import main
for arguments in (["zoo", "list"], ["doctor"], ["predict", "--help"], ["map", "--help"],
                  ["evaluate", "--help"], ["train", "--help"]):
    assert main(arguments) == 0, arguments
assert main(["app"]) == 2
assert main(["worker"]) == 2
"""
    start_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        cwd=tmp_path, env=environment(site, tmp_path / "home"), capture_output=True, text=True,
        timeout=LIMIT_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = done.stderr.splitlines()
    assert len(told) == 2, told
    assert all("[app]" in line for line in told)
    assert time.monotonic() - start_s < LIMIT_S
