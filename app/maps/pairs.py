"""Two finished runs of one slide beside each other, at the spots of the first.

    a:LAYER  b:LAYER   a layer of the first or the second run (`app.maps.layers`)
    apart:GENE         difference of their means in units of the joint spread

At each spot of the first run (A) stands the nearest one of the second (B) within half a pitch; NaN
where there is none. So both have the same spots on the page, whatever layout each was made with.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from app.jobs.folder import JobFolder
from app.maps.kept import Kept
from app.maps.layers import Layer
from app.maps.runs import finished_folder, open_values
from app.maps.values import MapValues
from stem_core.analysis.agreement import common_spots, joint_difference
from stem_core.errors import JobError, SettingsError

__all__ = ["PairValues", "forget_deleted_pairs", "open_pair", "slide_mark"]

Values = NDArray[np.float32]


@dataclass(frozen=True)
class PairValues:
    """The layers of two runs.

    Attributes
    ----------
    one, other
        Run A of N spots, and run B.
    at
        int64 (N,): row of B at each spot of A, -1 where B has no spot.
    """

    one: MapValues
    other: MapValues
    at: NDArray[np.int64]

    def positions(self) -> Values:
        """Return the spots' centres x, y in level-0 pixels, float32 (N, 2)."""
        return self.one.positions()

    def parse(self, text: str) -> Layer:
        """Read the name of a layer, as above.

        Raises
        ------
        SettingsError
            There is no such layer, or the run does not have its genes.
        """
        run, _, rest = text.partition(":")
        if run in ("a", "b"):
            return replace((self.one if run == "a" else self.other).parse(rest), run=run)
        if run == "apart":
            self.other.parse(f"mean:{rest}")
            return self.one.parse(f"mean:{rest}").another("apart")
        msg = (
            f"There is no layer {text[:40]!r} of two runs; a layer is 'a:' or 'b:' with a layer of "
            "that run, such as 'b:mean:GENE', or 'apart:GENE'."
        )
        raise SettingsError(msg)

    def layer(self, layer: Layer) -> Values:
        """Return a layer, float32 (N,).

        Raises
        ------
        SettingsError
            The run does not have it.
        OutputError
            What a run kept cannot be read any more.
        """
        if layer.kind == "apart":
            mine, others = (
                [self.layer(replace(layer, run=run, kind=kind)) for kind in ("mean", "std")]
                for run in ("a", "b")
            )
            return joint_difference(*mine, *others).astype(np.float32)
        own = replace(layer, run="")
        return self.one.layer(own) if layer.run == "a" else self.at_spots(self.other.layer(own))

    def at_spots(self, values: Values) -> Values:
        """Bring values of B's spots, (M, …), to A's, (N, …); NaN where B has no spot."""
        out = np.full((len(self.at), *values.shape[1:]), np.nan, dtype=np.float32)
        there = self.at >= 0
        out[there] = values[self.at[there]]
        return out


def slide_mark(job_id: str) -> str:
    """Return what tells the slides of finished runs apart: the fingerprint in the run record.

    A result without a record goes by its upload.

    Raises
    ------
    JobError
        The id is malformed or unknown, or the run has no result (yet).
    """
    folder = finished_folder(job_id)
    try:
        record = json.loads((folder.result_dir / "run.json").read_text(encoding="utf-8"))
        return str(record["slide"]["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return folder.read_request().upload_id


def open_pair(job_id: str, other_id: str) -> PairValues:
    """Return the layers of two finished runs of one slide.

    Raises
    ------
    JobError
        An id is malformed or unknown, or a run has no result (yet).
    SettingsError
        The runs are of different slides.
    OutputError
        A result's file is damaged.
    """
    one, other = open_values(job_id), open_values(other_id)
    if slide_mark(job_id) != slide_mark(other_id):
        msg = "The two runs are of different slides; choose two runs of the same slide."
        raise SettingsError(msg)
    reach_px = one.pitch_um / 2 / one.mpp
    at = _MATCHES.get(
        (job_id, other_id), lambda: common_spots(one.positions(), other.positions(), reach_px)
    )
    return PairValues(one, other, at)


def forget_deleted_pairs() -> None:
    """Let go of what was matched for runs that are not there any more."""

    def gone(key: tuple[str, str]) -> bool:
        try:
            return not all(JobFolder(job_id).exists() for job_id in key)
        except JobError:
            return True

    _MATCHES.drop(gone)


# A finished run's spots never change, so ids tell matches apart.
_MATCHES: Kept[tuple[str, str], NDArray[np.int64]] = Kept(most=16)
