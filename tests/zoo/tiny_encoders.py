"""A program that knows the tiny encoders: its arguments are `stem …` or `embed …`.

`embed SLIDE,SLIDE NAME…` pulls encoders, embeds 20 places on each slide, and prints what came out.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from stem_core.encoders.embedding import Encoder
from stem_core.slides.patches import PatchSpec
from tests.encoders.published import add_tiny_encoders


def embed(slides: list[Path], names: list[str]) -> dict[str, object]:
    from zoo.loader import find_encoder
    from zoo.pull import pull_encoder

    for name in names:
        pull_encoder(name)
    encoder = find_encoder(names)
    found = np.stack([embed_slide(path, encoder) for path in slides])
    return {
        "name": encoder.name,
        "shape": found.shape,
        "finite": bool(np.isfinite(found).all()),
        "differing": found.std(1).min(1).tolist(),
        "sha256": encoder.sha256,
    }


def embed_slide(path: Path, encoder: Encoder) -> np.ndarray:
    from stem_core.encoders.embedding import embed_places
    from stem_core.slides.reading import open_slide
    from stem_core.slides.tissue import find_tissue

    with open_slide(path) as slide:
        tissue = find_tissue(slide)
        row, column = np.nonzero(tissue.mask)
        chosen = np.linspace(0, len(row) - 1, 20).astype(int)
        x, y = ((at[chosen] + 0.5) * tissue.scale_px for at in (column, row))
        return embed_places(slide, x, y, encoder, PatchSpec(224, side_um=112.0))


def run() -> int:
    from app.cli import main

    add_tiny_encoders()
    if sys.argv[1] != "embed":
        return main(sys.argv[2:])
    print(json.dumps(embed([Path(p) for p in sys.argv[2].split(",")], sys.argv[3:])))
    return 0
