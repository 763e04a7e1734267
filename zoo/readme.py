"""Put the bundled models' held-out figures into the README, between its two markers.

python -m zoo.readme README.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from stem_core.model.manifest import Manifest
from zoo.registry import list_models

__all__ = ["figures_block", "with_figures"]

BEGIN, END = "<!-- figures -->", "<!-- /figures -->"


def figures_block(manifests: Iterable[Manifest]) -> str:
    """Markdown table: a row per model and fold, Stem beside the better of the baselines."""
    lines = [
        "| model | held out | PCC-200 | best baseline | MSE | best baseline | RVD of single draws "
        "| in the 90 % band |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for manifest in manifests:
        for fold in manifest.held_out.folds:
            own = fold.metrics
            pcc = max((b.metrics.pcc_all, b.name) for b in fold.baselines)
            mse = min((b.metrics.mse, b.name) for b in fold.baselines)
            single = own.rvd_single_draw
            inside = own.coverage_90
            cells = [
                f"`{manifest.name}`",
                fold.held_out,
                *_beside(own.pcc_all, *pcc, better=own.pcc_all >= pcc[0]),
                *_beside(own.mse, *mse, better=own.mse <= mse[0]),
                "–" if single is None else f"{single:.3f}" if single < 1 else f"{single:,.0f}",
                "–" if inside is None else f"{100 * inside:.0f} %",
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _beside(own: float, other: float, name: str, *, better: bool) -> tuple[str, str]:
    """Return the model's and the best baseline's figure, the better one in bold."""
    figures = f"{own:.3f}", f"{other:.3f}"
    if better:
        return f"**{figures[0]}**", f"{figures[1]} ({name})"
    return figures[0], f"**{figures[1]}** ({name})"


def with_figures(text: str, block: str) -> str:
    """Replace what stands between the markers."""
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1] if END in rest else rest
    return f"{before}{BEGIN}\n{block}\n{END}{after}"


def main() -> None:
    """Run from the command line."""
    path = Path(sys.argv[1])
    block = figures_block(entry.manifest for entry in list_models() if entry.source == "bundled")
    path.write_text(with_figures(path.read_text(encoding="utf-8"), block), encoding="utf-8")


if __name__ == "__main__":
    main()
