"""The files of a prediction. A file that exists is complete: written aside, then renamed.

`run.json` goes first when a result is overwritten and comes last when one is written, so a folder
that has it holds one whole result.
"""

from __future__ import annotations

import contextlib
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stem_core.errors import OutputError
from stem_core.files import atomic_write, names_in_output, unwritable_as
from stem_core.prediction.result import Prediction, run_record_json, to_anndata

__all__ = ["FILE_NAMES", "claim_output_dir", "write_prediction", "zip_prediction"]

FILE_NAMES = ("expression.csv", "uncertainty.csv", "genes.csv", "prediction.h5ad", "run.json")
_ADVICE = "Free space there or name another folder."


def claim_output_dir(path: Path, overwrite: bool = False) -> Path:
    """Check, before any work, that a result can be written to a folder; leave no trace.

    Parameters
    ----------
    path
        The folder; it and its parents need not exist.
    overwrite
        Accept a folder that is not empty. Only the files of a result are replaced in it.

    Returns
    -------
    Path
        The absolute path.

    Raises
    ------
    OutputError
        The folder is not empty, is a file, or cannot be made or written.
    """
    path = path.expanduser().absolute()
    with unwritable_as(path, _ADVICE):
        if path.exists() and not path.is_dir():
            msg = f"The output {path} is a file, not a folder; name another folder."
            raise OutputError(msg)
        if path.is_dir():
            names_in_output(path, overwrite=overwrite)
            blocked = [name for name in FILE_NAMES if (path / name).is_dir()]
            if blocked:
                msg = (
                    f"The output folder {path} holds a folder named {blocked[0]}, which a file "
                    "of the result would replace; name another folder."
                )
                raise OutputError(msg)
        with _made(path), tempfile.TemporaryFile(dir=path):
            pass
    return path


def write_prediction(
    prediction: Prediction, out_dir: Path, *, overwrite: bool = False
) -> dict[str, Path]:
    """Write a prediction's five files.

    Parameters
    ----------
    prediction
        What to write.
    out_dir
        The folder; made where it does not exist.
    overwrite
        Replace the files of an earlier result; other files in the folder stay.

    Returns
    -------
    dict of str to Path
        The files by name: `expression.csv`, `uncertainty.csv`, `genes.csv`, `prediction.h5ad`,
        `run.json`.

    Raises
    ------
    OutputError
        The folder is not empty, cannot be written, or the disk is full.
    """
    out_dir = claim_output_dir(out_dir, overwrite)
    existed = out_dir.is_dir()
    written = False
    try:
        with unwritable_as(out_dir, _ADVICE):
            out_dir.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".partial-", dir=out_dir) as temporary:
                _write_files(prediction, Path(temporary))
                (out_dir / "run.json").unlink(missing_ok=True)
                for name in FILE_NAMES:
                    (Path(temporary) / name).replace(out_dir / name)
        written = True
    finally:
        if not written and not existed:
            with contextlib.suppress(OSError):
                for name in FILE_NAMES:
                    (out_dir / name).unlink(missing_ok=True)
                out_dir.rmdir()
    return {name: out_dir / name for name in FILE_NAMES}


def zip_prediction(out_dir: Path, target: Path) -> Path:
    """Pack a written result into one zip file.

    Parameters
    ----------
    out_dir
        A folder that `write_prediction` filled.
    target
        The zip file to make; replaced where it exists.

    Returns
    -------
    Path
        The zip file.

    Raises
    ------
    OutputError
        A file of the result is missing, or the zip file cannot be written.
    """
    missing = [name for name in FILE_NAMES if not (out_dir / name).is_file()]
    if missing:
        msg = (
            f"The result in {out_dir} is not complete ({', '.join(missing)} missing); "
            "run the prediction again."
        )
        raise OutputError(msg)
    with (
        atomic_write(target, advice=_ADVICE) as temporary,
        zipfile.ZipFile(temporary, "w") as archive,
    ):
        for name in FILE_NAMES:
            # HDF5 is compressed within; a second time only costs time.
            method = zipfile.ZIP_STORED if name.endswith(".h5ad") else zipfile.ZIP_DEFLATED
            archive.write(out_dir / name, name, compress_type=method)
    return target


def _write_files(prediction: Prediction, folder: Path) -> None:
    adata = to_anndata(prediction)
    positions = adata.obs[["x_px", "y_px", "x_um", "y_um"]]
    for name, values in (("expression", prediction.mean), ("uncertainty", prediction.std)):
        _write_csv(positions, values, prediction.symbols, folder / f"{name}.csv")
    prediction.genes().to_csv(folder / "genes.csv", lineterminator="\n")
    (folder / "run.json").write_text(
        run_record_json(prediction, indent=2) + "\n", encoding="utf-8", newline="\n"
    )
    # Newer anndata would write text in an encoding that anndata 0.10 cannot read.
    with anndata.settings.override(allow_write_nullable_strings=False):
        adata.write_h5ad(
            folder / "prediction.h5ad",
            convert_strings_to_categoricals=False,
            compression="gzip",
            compression_opts=4,
        )


def _write_csv(
    positions: pd.DataFrame, values: NDArray[np.float32], symbols: tuple[str, ...], path: Path
) -> None:
    """Write positions and values with the fewest digits that give the same float back."""
    columns = pd.Index(symbols, dtype=object)
    table = pd.concat(
        [positions, pd.DataFrame(values, index=positions.index, columns=columns)], axis=1
    )
    table.index.name = "spot"
    table.to_csv(path, lineterminator="\n")


@contextlib.contextmanager
def _made(path: Path) -> Iterator[None]:
    """Make a folder and its parents; on leaving, remove those that were missing."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        for folder in missing:
            with contextlib.suppress(OSError):
                folder.rmdir()
