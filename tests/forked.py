"""Commands in processes of their own, quickly: forked from one that has the large libraries.

A command has its own environment, folder, output and exit code, as from a shell; it only does not
import torch and the like once more, which takes longer than most commands do.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

LIBRARIES = (
    "anndata", "cyclopts", "h5py", "pydantic", "openslide", "pandas", "PIL.Image", "scipy.ndimage",
    "scipy.sparse", "scipy.spatial", "scipy.stats", "safetensors.torch", "skimage.morphology",
    "tifffile", "torch",
)  # fmt: skip
"""None reads its environment at import, and none imports the Hub's client, which does."""

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(list(LIBRARIES))


class Forked:
    """A function `module:name` that runs as a program; as far as needed here, a `Popen`.

    What it prints is added to the files `out` and `err`; its exit code is what it returns.
    """

    def __init__(
        self,
        program: str,
        arguments: Sequence[str | Path],
        environment: Mapping[str, str],
        cwd: Path,
        out: Path,
        err: Path,
    ) -> None:
        self.args = [program, *map(str, arguments)]
        self._process = _context.Process(
            target=_run, args=(self.args, dict(environment), cwd, out, err), name=program
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        return self._process.exitcode

    def wait(self, timeout_s: float | None = None) -> int:
        """Return the exit code once it has ended; raises `subprocess.TimeoutExpired`."""
        self._process.join(timeout_s)
        code = self._process.exitcode
        if code is None:
            assert timeout_s is not None
            raise subprocess.TimeoutExpired(self.args, timeout_s)
        return code

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def terminate(self) -> None:
        """Ask it to end."""
        self._process.terminate()


def run_forked(
    program: str,
    arguments: Sequence[str | Path],
    environment: Mapping[str, str],
    cwd: Path,
    timeout_s: float,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; raises `subprocess.TimeoutExpired` as `subprocess.run` does."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = (Path(folder, name) for name in ("out", "err"))
        process = Forked(program, arguments, environment, cwd, out, err)
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        texts = (path.read_text(encoding="utf-8") for path in (out, err))
        return subprocess.CompletedProcess(process.args, code, *texts)


def run_stem(
    arguments: Sequence[str | Path], environment: Mapping[str, str], cwd: Path, timeout_s: float
) -> subprocess.CompletedProcess[str]:
    """Run `stem`."""
    return run_forked("app.cli:main", arguments, environment, cwd, timeout_s)


def execute() -> None:
    """Run the Python code that is the first argument; what follows is its `sys.argv[1:]`."""
    code = sys.argv.pop(1)
    exec(compile(code, "code", "exec"), {"__name__": "__main__"})


def _run(
    arguments: list[str], environment: dict[str, str], cwd: Path, out: Path, err: Path
) -> None:
    for number, path in ((1, out), (2, err)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    module, _, name = arguments[0].partition(":")
    sys.argv = ["stem", *arguments[1:]]
    sys.exit(getattr(importlib.import_module(module), name)())
