"""Keep what a fold gave to its evaluation, so that reports are made again without training again.

One npz file a section, without pickles: arrays as they are, the rest as JSON.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from stem_core.errors import EvaluationError
from stem_core.evaluation.records import EvaluationInput

__all__ = ["read_input", "write_input"]

_TEXTS = ("section", "symbols", "patient", "trained_on", "protocol", "ranked_genes")


def write_input(given: EvaluationInput, path: Path) -> None:
    """Write the input of an evaluation; written aside, then renamed."""
    arrays: dict[str, Any] = {
        "x_um": given.x_um,
        "y_um": given.y_um,
        "measured": given.measured,
        "predicted": given.predicted,
        **{f"baseline {name}": values for name, values in given.baselines.items()},
    }
    if given.samples is not None:
        arrays["samples"] = given.samples.astype(np.float16)
    if given.band is not None:
        arrays["band low"], arrays["band high"] = given.band
    about = {name: getattr(given, name) for name in _TEXTS}
    aside = path.with_name(f"{path.name}.aside.npz")
    np.savez_compressed(aside, about=np.array(json.dumps(about, default=dict)), **arrays)
    aside.replace(path)


def read_input(path: Path) -> EvaluationInput:
    """Read what `write_input` wrote; draws come back in half precision.

    Raises
    ------
    EvaluationError
        The file is missing, damaged or of another kind.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(str(arrays.pop("about")))
        samples = arrays.get("samples")
        return EvaluationInput(
            section=about["section"],
            symbols=tuple(about["symbols"]),
            x_um=arrays["x_um"],
            y_um=arrays["y_um"],
            measured=arrays["measured"],
            predicted=arrays["predicted"],
            samples=None if samples is None else samples.astype(np.float32),
            band=(arrays["band low"], arrays["band high"]) if "band low" in arrays else None,
            baselines={
                name.removeprefix("baseline "): values
                for name, values in arrays.items()
                if name.startswith("baseline ")
            },
            patient=about["patient"],
            trained_on=about["trained_on"],
            protocol=about["protocol"],
            ranked_genes=tuple(about["ranked_genes"]),
        )
    except EvaluationError:
        raise
    except (OSError, KeyError, ValueError, TypeError, zipfile.BadZipFile) as error:
        msg = (
            f"{path.name} cannot be read as a fold's evaluation ({type(error).__name__}); "
            "run the fold again."
        )
        raise EvaluationError(msg) from error
