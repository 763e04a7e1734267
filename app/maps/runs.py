"""The results of finished runs, opened for their maps; what was measured lies beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.faults import LOG
from app.jobs.draws_file import KeptDraws, find_draws
from app.jobs.folder import JobFolder, find_folder
from app.maps.kept import Kept
from app.maps.values import MapValues, check_measured
from stem_core.errors import JobError, OutputError
from stem_core.files import write_atomically
from stem_core.prediction.result import open_prediction

__all__ = [
    "finished_folder",
    "forget_deleted_runs",
    "measured_file",
    "measured_version",
    "open_values",
    "set_measured",
]

Values = NDArray[np.float32]
_Version = tuple[int, int]


def open_values(job_id: str) -> MapValues:
    """Return the layers of a finished run, read once and kept while there is room.

    Raises
    ------
    JobError
        The id is malformed or unknown, or the run has no result (yet).
    OutputError
        The result's file is damaged.
    """
    folder = finished_folder(job_id)
    result, measured = folder.result_dir / "prediction.h5ad", measured_file(folder)
    draws = folder.draws_file
    key = (folder.id, _version(result), _version(measured), _version(draws))
    _RUNS.drop(lambda other: other[0] == folder.id and other != key)
    try:
        values = _RUNS.get(
            key,
            lambda: MapValues(
                open_prediction(result), _read_measured(measured), _kept_draws(draws)
            ),
        )
    except OutputError:
        finished_folder(job_id)  # was it deleted while it was read?
        raise
    find_folder(job_id)
    return values


def forget_deleted_runs() -> None:
    """Let go of the layers of runs that are not there any more."""
    _RUNS.drop(lambda key: not JobFolder(key[0]).exists())


def finished_folder(job_id: str) -> JobFolder:
    """Return the folder of a run that is done.

    Raises
    ------
    JobError
        The id is malformed or unknown, or the run has no result (yet).
    """
    folder = find_folder(job_id)
    if folder.read_progress().state != "done":
        msg = "This run has no result yet; wait until it is done."
        raise JobError(msg)
    return folder


def measured_file(folder: JobFolder) -> Path:
    """Return where the measured values of a run lie, if any were given."""
    return folder.path / "measured.safetensors"


def measured_version(job_id: str) -> str:
    """Return what tells the measured values of a finished run apart from earlier ones."""
    return "-".join(map(str, _version(measured_file(finished_folder(job_id)))))


def set_measured(job_id: str, measured: Values | None) -> None:
    """Keep what was measured at a run's spots, or take it away.

    The file is there whole or not at all.

    Parameters
    ----------
    job_id
        A finished run of N spots and G genes.
    measured
        (N, G): log2(1 + count) in the order of the result's spots and genes, NaN where nothing was
        measured; None removes what was given before.

    Raises
    ------
    JobError
        The id is malformed or unknown, or the run has no result (yet).
    SettingsError
        The values are of other spots or genes.
    OutputError
        The file cannot be written.
    """
    from safetensors.numpy import save

    folder = finished_folder(job_id)
    path = measured_file(folder)
    if measured is None:
        path.unlink(missing_ok=True)
        return
    values = open_values(job_id)
    check_measured(measured, (len(values.positions()), len(values.symbols)))
    content = save({"measured": np.ascontiguousarray(measured, dtype=np.float32)})
    write_atomically(
        path, content, advice="Free space on the server's disk and add the section again."
    )


def _read_measured(path: Path) -> Values | None:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return load(path.read_bytes())["measured"].astype(np.float32, copy=False)
    except FileNotFoundError:
        return None
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        LOG.warning("%s is damaged and left out (%s)", path, error)  # the prediction is not
        return None


def _kept_draws(path: Path) -> KeptDraws | None:
    try:
        return find_draws(path)
    except OutputError as error:
        LOG.warning("%s", error)  # the prediction is there all the same
        return None


def _version(path: Path) -> _Version:
    """Return a file's time and size: another file under this name has others."""
    try:
        found = path.stat()
    except OSError:
        return 0, -1
    return found.st_mtime_ns, found.st_size


_RUNS: Kept[tuple[str, _Version, _Version, _Version], MapValues] = Kept(
    most=4, most_bytes=1 << 30, size_of=lambda values: values.size_bytes
)
