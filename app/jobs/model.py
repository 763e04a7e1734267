"""What a job is: its request, its status, its id. No Streamlit and no torch here."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import secrets
from dataclasses import dataclass
from typing import Any, Literal

from stem_core.errors import JobError, SettingsError
from stem_core.model.config import LAYOUTS, LayoutKind
from stem_core.prediction.settings import SamplingSettings

__all__ = [
    "FINAL_STATES",
    "SAMPLE_UPLOAD_ID",
    "JobRequest",
    "JobState",
    "JobStatus",
    "check_job_id",
    "check_upload_id",
    "new_job_id",
]

JobState = Literal["queued", "running", "done", "failed", "cancelled"]
FINAL_STATES: frozenset[str] = frozenset({"done", "failed", "cancelled"})
SAMPLE_UPLOAD_ID = "sample"

_ID = re.compile(r"[0-9a-f]{32}")


def new_job_id() -> str:
    """Return a new unguessable id: 128 random bits as 32 hexadecimal digits."""
    return secrets.token_hex(16)


def check_job_id(text: object) -> str:
    """Return `text` if it has the form of a job id; done before any path is built from it.

    Raises
    ------
    JobError
        It is not a job id.
    """
    if isinstance(text, str) and _ID.fullmatch(text):
        return text
    msg = "This is not the address of a run; open the run from the Runs page or check the link."
    raise JobError(msg)


def check_upload_id(text: object) -> str:
    """Return `text` if it has the form of an upload id.

    Raises
    ------
    JobError
        It is not an upload id.
    """
    if isinstance(text, str) and (text == SAMPLE_UPLOAD_ID or _ID.fullmatch(text)):
        return text
    msg = "The uploaded file is not known; upload it again."
    raise JobError(msg)


@dataclass(frozen=True)
class JobRequest:
    """One prediction to run, in plain values.

    Attributes
    ----------
    upload_id
        The uploaded slide (`app.uploads`).
    slide_name
        The file's name as the user knows it; for display only, never a path.
    model
        Name of the model in the registry.
    mpp
        Microns per pixel given by the user; None takes the file's own.
    preset
        Name of the preset the settings came from ("" if changed by hand).
    sampler, steps, samples, seed
        Sampling settings (`stem_core.prediction.settings.SamplingSettings`).
    spots_kind
        "layout" lays spots out on the tissue, "file" reads measured spots.
    layout
        "visium", "st" or "grid"; None takes the layout of the model's manifest.
    pitch_um
        Distance of neighbouring spots in microns; None takes the layout's own.
    spots_upload_id
        The uploaded spots file, where `spots_kind` is "file".
    device
        "auto", "cpu" or "cuda".

    Raises
    ------
    SettingsError
        A value is out of range or does not go with another.
    JobError
        An upload id is malformed.
    """

    upload_id: str
    slide_name: str
    model: str
    mpp: float | None
    preset: str
    sampler: str
    steps: int
    samples: int
    seed: int
    spots_kind: Literal["layout", "file"]
    layout: LayoutKind | None
    pitch_um: float | None
    spots_upload_id: str | None
    device: str = "auto"

    def __post_init__(self) -> None:
        """Refuse what cannot work before it is queued."""
        check_upload_id(self.upload_id)
        if self.spots_kind not in ("layout", "file"):
            msg = (
                f"Spots come from a layout or from a file, not from {self.spots_kind!r}; "
                "choose one of the two."
            )
            raise SettingsError(msg)
        if self.spots_kind == "file":
            if self.spots_upload_id is None:
                msg = (
                    "Measured spots were chosen but no spots file was uploaded; upload one or "
                    "choose a layout."
                )
                raise SettingsError(msg)
            check_upload_id(self.spots_upload_id)
        if self.layout is not None and self.layout not in LAYOUTS:
            msg = f"There is no layout {self.layout!r}; choose one of {', '.join(LAYOUTS)}."
            raise SettingsError(msg)
        for name, value in (("Microns per pixel", self.mpp), ("The pitch", self.pitch_um)):
            if value is not None and not (math.isfinite(value) and value > 0):
                msg = f"{name} must be a number above 0, not {value}; correct it or leave it empty."
                raise SettingsError(msg)
        _ = self.settings

    @property
    def settings(self) -> SamplingSettings:
        """How to sample; making them checks them."""
        return SamplingSettings(self.sampler, self.steps, self.samples, self.seed)

    def to_json(self) -> str:
        """Return the request as JSON text."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> JobRequest:
        """Read a request back.

        Raises
        ------
        JobError
            The text is not a request of this version of the program.
        """
        try:
            values: dict[str, Any] = json.loads(text)
            return cls(**values)
        except (ValueError, TypeError) as error:
            if isinstance(error, SettingsError):
                raise
            msg = f"The run's request cannot be read ({error}); delete the run and start it again."
            raise JobError(msg) from error


@dataclass(frozen=True)
class JobStatus:
    """How a run stands.

    Attributes
    ----------
    id
        The job id.
    state
        "queued", "running", "done", "failed" or "cancelled".
    stage, done, total, unit
        What is being worked on and how far ("predict", 320, 1281, "spots"); `total` 0 if unknown.
    queue_position
        1 for the next run in the queue; None when not queued.
    created_s, started_s, finished_s, updated_s
        Unix times in seconds; None where it has not happened.
    eta_s
        Estimated seconds left; None where unknown.
    message
        The sentence of a failed run, or why a run waits; else "".
    request
        What was asked for.
    n_spots
        Number of spots, once known.
    """

    id: str
    state: JobState
    stage: str
    done: int
    total: int
    unit: str
    queue_position: int | None
    created_s: float | None
    started_s: float | None
    finished_s: float | None
    updated_s: float | None
    eta_s: float | None
    message: str
    request: JobRequest
    n_spots: int | None

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen to this run."""
        return self.state in FINAL_STATES

    @property
    def fraction(self) -> float:
        """Progress within the stage, 0 to 1."""
        return min(1.0, self.done / self.total) if self.total > 0 else 0.0
