"""Claim: the time of a prediction grows in proportion to its spots, and its memory hardly.

    python benchmarks/slide_size.py [--spots 300 3000 30000] [--model NAME] [--docs docs]

Runs `stem predict` on the synthetic sample slide in the standard preset, from slide file to CSV,
with square grids of the pitch that gives about so many spots, each in a process of its own.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from stem_core.slides.reading import open_slide
from stem_core.slides.sample import make_sample_slide
from stem_core.slides.spots import lay_out_spots
from stem_core.slides.tissue import find_tissue


def pitch_for(slide_path: Path, wanted: int) -> tuple[float, int]:
    """Find the grid's pitch in µm that lays out about so many spots, and how many it does."""
    with open_slide(slide_path) as slide:
        tissue = find_tissue(slide)
        area_um2 = tissue.fraction() * slide.width_px * slide.height_px * slide.require_mpp() ** 2
        pitch_um = math.sqrt(area_um2 / wanted)
        for _ in range(6):
            n = len(lay_out_spots(slide, tissue, "grid", pitch_um=pitch_um, diameter_um=100.0))
            if abs(n / wanted - 1) < 0.02:
                break
            pitch_um *= math.sqrt(n / wanted)
    return pitch_um, n


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spots", type=int, nargs="+", default=[300, 3000, 30_000])
    parser.add_argument("--model", default="her2st-breast")
    parser.add_argument("--docs", type=Path)
    args = parser.parse_args()
    lines = [
        "# Time and memory against the number of spots",
        "",
        f"Made by `benchmarks/slide_size.py`: `stem predict`, {args.model}, standard preset, CPU",
        f"with {os.cpu_count()} cores, from slide file to CSV. The sample slide, square grids.",
        "",
        "| spots | seconds | ms per spot | peak memory, MB |",
        "|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        slide = make_sample_slide(Path(folder) / "sample.tif")
        for wanted in args.spots:
            pitch_um, n = pitch_for(slide, wanted)
            command = [sys.executable, "-m", "app.cli", "predict", str(slide), "--device", "cpu"]
            command += ["--model", args.model, "--layout", "grid", "--pitch-um", f"{pitch_um:.4f}"]
            started = time.perf_counter()
            process = subprocess.Popen(
                [*command, "--out", f"{folder}/{wanted}"], stdout=subprocess.DEVNULL
            )
            _, status, usage = os.wait4(process.pid, 0)
            elapsed_s = time.perf_counter() - started
            if status:
                raise SystemExit(status)
            memory_mb = usage.ru_maxrss * 1024 / 1e6
            lines.append(
                f"| {n:,} | {elapsed_s:.1f} | {1000 * elapsed_s / n:.1f} | {memory_mb:.0f} |"
            )
            print(lines[-1], flush=True)
    if args.docs is not None:
        (args.docs / "slide-size.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
