"""`stem` in a process of its own, quickly: forked from one that has imported the large libraries.

The command has its own environment, folder, output and exit code, as from a shell; it only does not
import torch and the like once more, which takes longer than most commands do.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

LIBRARIES = (
    "anndata", "cyclopts", "h5py", "pydantic", "openslide", "pandas", "PIL.Image", "scipy.ndimage",
    "scipy.sparse", "scipy.spatial", "scipy.stats", "safetensors.torch", "torch",
)  # fmt: skip
"""None reads its environment at import, and none imports the Hub's client, which does."""

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(list(LIBRARIES))


def run_stem(
    arguments: Sequence[str | Path], environment: Mapping[str, str], cwd: Path, timeout_s: float
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; raises `subprocess.TimeoutExpired` as `subprocess.run` does."""
    typed = [str(argument) for argument in arguments]
    with tempfile.TemporaryDirectory() as folder:
        out, err = (Path(folder, name) for name in ("out", "err"))
        process = _context.Process(
            target=_command, args=(typed, dict(environment), cwd, out, err), name="stem"
        )
        process.start()
        process.join(timeout_s)
        if process.is_alive():
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(["stem", *typed], timeout_s)
        assert process.exitcode is not None
        texts = (path.read_text(encoding="utf-8") for path in (out, err))
        return subprocess.CompletedProcess(["stem", *typed], process.exitcode, *texts)


def _command(
    arguments: list[str], environment: dict[str, str], cwd: Path, out: Path, err: Path
) -> None:
    for number, path in ((1, out), (2, err)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.argv = ["stem", *arguments]
    from app.cli import main

    sys.exit(main())
