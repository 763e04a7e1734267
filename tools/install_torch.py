"""Install the torch that requirements.txt pins: the CPU build where there is no NVIDIA GPU.

Run it with the Python of the environment to fill:

    python tools/install_torch.py [auto | cpu | cuda]

On Linux with an x86 processor, package indexes often hold only the CUDA build of torch, which is
many times larger. So `auto` looks for a GPU, then asks pip's own index for a CPU build
(`torch==X+cpu`), and says the size before it takes the large one. `TORCH_INDEX_URL` names an index
to take torch from; where it is set, it decides alone.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parents[1] / "requirements.txt"
KINDS = ("auto", "cpu", "cuda")
PAUSE_S = 10
CUDA_SIZE = "about 3 GB to download and 5.5 GB on disk"
CPU_SIZE = "about 0.2 GB to download and 0.8 GB on disk"


def main() -> int:
    """Install torch, and return pip's exit code."""
    kind = sys.argv[1] if len(sys.argv) > 1 and sys.argv[1] else "auto"
    if kind not in KINDS:
        print(
            f"There is no torch build '{kind}'. Choose one of {', '.join(KINDS)}.", file=sys.stderr
        )
        return 2
    version = pinned_version(REQUIREMENTS.read_text(encoding="utf-8"))
    if installed_version() == version:
        return 0
    index = os.environ.get("TORCH_INDEX_URL", "").strip()
    if index:
        return pip(f"torch=={version}", "--index-url", index)
    if kind == "auto":
        kind = "cuda" if has_nvidia_gpu() else "cpu"
    if kind == "cpu" and plain_wheel_has_cuda():
        if pip(f"torch=={version}+cpu", quiet=True) == 0:
            return 0
        warn_of_size(version)
    return pip(f"torch=={version}")


def pinned_version(requirements: str) -> str:
    """Return the version of torch that a requirements file pins."""
    found = re.search(r"^torch==(\d+\.\d+\.\d+)\b", requirements, flags=re.MULTILINE)
    if found is None:
        sys.exit(f"{REQUIREMENTS} pins no version of torch.")
    return found.group(1)


def installed_version() -> str:
    """Return the installed version without its build (`+cpu`), or "" where there is none."""
    try:
        return importlib.metadata.version("torch").split("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return ""


def has_nvidia_gpu() -> bool:
    """Whether an NVIDIA driver is loaded."""
    return Path("/proc/driver/nvidia/version").exists()


def plain_wheel_has_cuda() -> bool:
    """Whether the wheel without a build in its version may be a CUDA build: on Linux alone."""
    return sys.platform == "linux" and platform.machine() in ("x86_64", "AMD64")


def warn_of_size(version: str) -> None:
    """Say what comes, and the way round it; leave time to stop where someone watches."""
    print(
        f"pip finds no CPU build of torch {version} for Python {platform.python_version()}, so the "
        f"CUDA build follows: {CUDA_SIZE}. It runs without a GPU, too.\n"
        f"The CPU build is small ({CPU_SIZE}). To take it, name an index of CPU wheels:\n"
        "    make TORCH_INDEX_URL=<index of CPU wheels of torch> …",
        file=sys.stderr,
        flush=True,
    )
    if sys.stdin.isatty():
        print(f"The download starts in {PAUSE_S} seconds; Ctrl-C stops it.", file=sys.stderr)
        time.sleep(PAUSE_S)


def pip(requirement: str, *options: str, quiet: bool = False) -> int:
    """Run `pip install` and return its exit code."""
    return subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, requirement],
        check=False,
        capture_output=quiet,
    ).returncode


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
