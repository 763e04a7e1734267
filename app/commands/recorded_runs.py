"""What a `run.json` says about its run, to repeat it or to see whether it is the one asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from stem_core.errors import OutputError, SettingsError
from stem_core.model.config import SpotSource

if TYPE_CHECKING:
    from stem_core.prediction.settings import SamplingSettings
    from stem_core.slides.reading import Slide
    from stem_core.slides.spots import Spots
    from zoo.registry import InstalledModel

__all__ = [
    "OtherSettingsError",
    "RunRecord",
    "WantedRun",
    "read_finished",
    "read_run",
    "same_model",
]


class _Record(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class RecordedModel(_Record):
    """Model of a run."""

    name: str
    version: str
    config_sha256: str
    weights_sha256: str


class RecordedSlide(_Record):
    """Slide of a run; the fingerprint tells it from others without reading all of it."""

    fingerprint: str
    mpp: float
    mpp_source: Literal["metadata", "user", "none"]


class RecordedSpots(_Record):
    """Spots of a run."""

    n: int
    source: SpotSource
    diameter_um: float
    pitch_um: float | None = None


class RunRecord(_Record):
    """The part of a run record that decides the values of a prediction."""

    model: RecordedModel
    sampler: str
    steps: int
    samples: int
    seed: int
    spacing: str = ""
    precision: Literal["fp32", "bf16"]
    slide: RecordedSlide
    spots: RecordedSpots
    elapsed_s: float = 0.0


def read_run(path: Path) -> RunRecord:
    """Read a run record.

    Parameters
    ----------
    path
        A `run.json`, or the folder of a result.

    Raises
    ------
    SettingsError
        The file cannot be read, or is not a run record.
    """
    path = path.expanduser()
    path = path / "run.json" if path.is_dir() else path
    try:
        return RunRecord.model_validate_json(path.read_bytes())
    except OSError as error:
        msg = f"The run record {path} cannot be read ({error.strerror or error}). Name a run.json."
        raise SettingsError(msg) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        reason = f"{where}: {first['msg']}" if where else first["msg"]
        msg = f"{path} is not a run record of this program ({reason}). Name a run.json."
        raise SettingsError(msg) from error


def same_model(record: RunRecord, entry: InstalledModel) -> bool:
    """Return whether a model folder holds the model of a run."""
    from stem_core.files import file_sha256

    return record.model.config_sha256 == file_sha256(
        entry.folder / "config.json"
    ) and record.model.weights_sha256 == file_sha256(entry.folder / "model.safetensors")


class OtherSettingsError(OutputError):
    """A finished result has other settings than those asked for; `record` is its run record."""

    def __init__(self, message: str, record: RunRecord) -> None:
        super().__init__(message)
        self.record = record


@dataclass(frozen=True)
class WantedRun:
    """Run that was asked for, to compare with a finished one.

    Attributes
    ----------
    entry
        Model.
    settings
        Sampling.
    precision
        Precision of the denoiser; `auto` accepts either.
    """

    entry: InstalledModel
    settings: SamplingSettings
    precision: str

    def differences(self, folder: Path, record: RunRecord, slide: Slide, spots: Spots) -> list[str]:
        """Say what differs in a finished result, such as "seed 1, not 0"."""
        settings = self.settings
        pairs: list[tuple[str, object, object]] = [
            ("sampler", record.sampler, settings.sampler),
            ("steps", record.steps, settings.steps),
            ("samples", record.samples, settings.samples),
            ("seed", record.seed, settings.seed),
            ("spacing", record.spacing or settings.timestep_spacing, settings.timestep_spacing),
            ("microns per pixel", record.slide.mpp, slide.require_mpp()),
        ]
        if self.precision != "auto":
            pairs.append(("precision", record.precision, self.precision))
        found = [f"{name} {had}, not {wanted}" for name, had, wanted in pairs if had != wanted]
        if record.model.name != self.entry.manifest.name:
            found.insert(0, f"model {record.model.name}, not {self.entry.manifest.name}")
        elif not same_model(record, self.entry):
            found.insert(0, f"another version of the model {record.model.name}")
        if record.slide.fingerprint != slide.fingerprint():
            found.insert(0, "another slide")
        elif not _same_spots(folder, spots):
            found.append("other spots")
        return found


def _same_spots(folder: Path, spots: Spots) -> bool:
    import numpy as np

    from stem_core.prediction.result import open_prediction

    had = open_prediction(folder / "prediction.h5ad").spots
    return (
        (had.ids, had.source, had.diameter_um) == (spots.ids, spots.source, spots.diameter_um)
        and np.array_equal(had.x_px, spots.x_px)
        and np.array_equal(had.y_px, spots.y_px)
    )


def read_finished(
    folder: Path, wanted: WantedRun, slide: Slide, spots: Spots, *, replace: bool
) -> RunRecord | None:
    """Read the record of a finished result that has the wanted settings.

    Parameters
    ----------
    folder
        Folder of the result.
    wanted
        Run that was asked for.
    slide, spots
        Slide and spots that were asked for.
    replace
        Whether a result with other settings may be replaced.

    Returns
    -------
    RunRecord or None
        None where no result is finished, or a result with other settings may be replaced.

    Raises
    ------
    OtherSettingsError
        A result with other settings is there and may not be replaced.
    """
    from stem_core.prediction.export import FILE_NAMES

    if not all((folder / name).is_file() for name in FILE_NAMES):
        return None
    try:
        record = read_run(folder)
        differing = wanted.differences(folder, record, slide, spots)
    except (SettingsError, OutputError):
        if replace:
            return None
        raise
    if not differing:
        return record
    if replace:
        return None
    msg = (
        f"The folder {folder} holds a finished result with other settings "
        f"({'; '.join(differing)}). Name another folder, or replace the result (--overwrite)."
    )
    raise OtherSettingsError(msg, record)
