"""Train the shared compact encoder from its recipe, without labels.

python -m zoo.build_encoder zoo/recipes/compact-he.yaml --data DIR --out FILE

`FILE` is zoo/encoders/compact-he.safetensors for the shipped one.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch

from stem_core.encoders.compact import save_compact_encoder
from stem_core.training.encoder import EncoderTraining, train_trunk


def main() -> None:
    """Run from the command line."""
    import yaml

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(args.threads)
    recipe = yaml.safe_load(args.recipe.read_text(encoding="utf-8"))
    slides = [args.data / slide for slide in recipe["slides"]]
    encoder = save_compact_encoder(
        train_trunk(slides, EncoderTraining(**recipe["training"])), args.out
    )
    print(encoder.sha256)


if __name__ == "__main__":
    main()
