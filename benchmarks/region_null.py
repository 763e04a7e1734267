"""Claim: regions that were drawn without looking differ as often as p says, on real tissue.

    python benchmarks/region_null.py --data DATA [--pairs 60] [--placements 199]
        [--sections C3 C5 MOB1] [--prediction FILE ...]

On measured sections in HEST layout (log2(1 + count) of the 50 genes that vary most), and on
predictions if files are given, draws pairs of random contiguous regions (ellipses of random place,
direction and length) and compares them, two regions with each other and one with all the rest.
Shown are the distance of the p values from uniform (Kolmogorov-Smirnov; genes share the regions,
so even a perfect test is some way off) and the share of p up to .05 and .01, with a 95 % interval
from the spread over pairs; beside it the same for a t test that takes spots as independent.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy import stats

from stem_core.analysis.region_differences import compare_regions

SIZES = ((8, 8), (20, 20), (40, 40), (30, None))
GENES = 50


def random_region(
    x: np.ndarray, y: np.ndarray, n: int, free: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """Draw n spots that are an ellipse around a random spot, among those that are free."""
    places = np.flatnonzero(free)
    centre = random.choice(places)
    angle, length = random.uniform(0, np.pi), random.uniform(1, 3)
    dx, dy = x[places] - x[centre], y[places] - y[centre]
    along = dx * np.cos(angle) + dy * np.sin(angle)
    across = dy * np.cos(angle) - dx * np.sin(angle)
    nearest = np.argsort(along**2 / length + across**2 * length)[:n]
    inside = np.zeros(len(x), dtype=bool)
    inside[places[nearest]] = True
    return inside


def null_p(
    values: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    sizes: tuple[int, int | None],
    pairs: int,
    placements: int,
    seed: int,
    std: np.ndarray | None = None,
    draws: int = 1,
) -> tuple[np.ndarray, np.ndarray, float]:
    """p of our test and of the t test, (pairs,G) each, and the share of tests by placements."""
    random = np.random.default_rng(seed)
    names = [str(g) for g in range(values.shape[1])]
    ours, naive, placed = [], [], []
    for pair in range(pairs):
        a = random_region(x, y, sizes[0], np.ones(len(x), dtype=bool), random)
        b = None if sizes[1] is None else random_region(x, y, sizes[1], ~a, random)
        table = compare_regions(
            values, a, b, x, y, names, std=std, draws=draws, placements=placements, seed=pair
        )
        ours.append(table.loc[names, "p"].to_numpy())
        placed.append(table["method"].iloc[0] == "placements")
        other = ~a if b is None else b
        naive.append(stats.ttest_ind(values[a], values[other], equal_var=False).pvalue)
    return np.array(ours), np.nan_to_num(np.array(naive), nan=1.0), float(np.mean(placed))


def figures(p: np.ndarray) -> tuple[float, float, float, float]:
    """KS distance, share up to .05 with the half width of its interval, share up to .01."""
    below = (p <= 0.05).mean(1)
    half = 1.96 * below.std(ddof=1) / np.sqrt(len(below))
    distance = stats.kstest(p.ravel(), "uniform").statistic
    return float(distance), float(below.mean()), float(half), float((p <= 0.01).mean())


def read_measured(data: Path, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    import anndata

    table = anndata.read_h5ad(next(data.glob(f"*/st/{name}.h5ad")))
    counts = table.X.toarray() if hasattr(table.X, "toarray") else np.asarray(table.X)
    logs = np.log2(1 + counts)
    most = np.argsort(-logs.var(0))[:GENES]
    xy = np.asarray(table.obsm["spatial"], dtype=np.float64)
    return logs[:, most], xy[:, 0], xy[:, 1]


def print_rows(
    name: str,
    place: tuple[np.ndarray, np.ndarray, np.ndarray],
    pairs: int,
    placements: int,
    std: np.ndarray | None = None,
    draws: int = 1,
) -> None:
    """Print a line for every size of regions; `place` holds values (N,G), x and y."""
    for number, sizes in enumerate(SIZES):
        ours, naive, placed = null_p(*place, sizes, pairs, placements, number, std, draws)
        ks, below, half, tail = figures(ours)
        ks_t, below_t, _, _ = figures(naive)
        second = "rest" if sizes[1] is None else sizes[1]
        print(
            f"| {name} | {sizes[0]} / {second} | {ks:.3f} | {below:.3f} ± {half:.3f} | {tail:.3f} "
            f"| {placed:.0%} | {ks_t:.3f} | {below_t:.3f} |",
            flush=True,
        )


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--placements", type=int, default=199)
    parser.add_argument("--sections", nargs="*", default=["C3", "C5", "MOB1"])
    parser.add_argument("--prediction", type=Path, nargs="*", default=[])
    args = parser.parse_args()
    print("| map | spots | KS | p ≤ .05 | p ≤ .01 | by placements | t test: KS | p ≤ .05 |")
    print("|---|---|---|---|---|---|---|---|")
    for name in args.sections:
        print_rows(name, read_measured(args.data, name), args.pairs, args.placements)
    for path in args.prediction:
        from stem_core.prediction.result import read_prediction

        result = read_prediction(path)
        genes = np.argsort(-result.mean.var(0))[:GENES]
        x, y = result.spots.x_px * result.mpp, result.spots.y_px * result.mpp
        draws = int(result.run["samples"])
        std = result.std[:, genes]
        place = (result.mean[:, genes], x, y)
        name = f"{result.slide_name} (predicted)"
        print_rows(name, place, args.pairs, args.placements, std, draws)


if __name__ == "__main__":
    main()
