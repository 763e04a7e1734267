"""Requests and ids: what is refused before anything is queued."""

from __future__ import annotations

import subprocess
import sys

import pytest

from app.jobs.model import JobRequest, check_job_id, new_job_id
from stem_core.errors import JobError, SettingsError, StemError

from .running import make_request

UPLOAD = "0" * 32


def test_ids_carry_128_bits_and_do_not_repeat() -> None:
    ids = {new_job_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(job_id) == 32 and check_job_id(job_id) == job_id for job_id in ids)


@pytest.mark.parametrize(
    "bad", ["", ".", "..", "../x", "a/b", "a" * 31, "a" * 33, "A" * 32, "a" * 32 + "\n", None, 5]
)
def test_what_is_no_id_is_refused(bad: object) -> None:
    with pytest.raises(JobError):
        check_job_id(bad)


def test_a_request_survives_json() -> None:
    request = make_request(UPLOAD, mpp=0.5, slide_name="Müller µ ☃.svs", pitch_um=55.0)
    assert JobRequest.from_json(request.to_json()) == request


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"mpp": 0.0}, "Microns per pixel must be a number above 0"),
        ({"mpp": -1.0}, "above 0"),
        ({"mpp": float("nan")}, "above 0"),
        ({"pitch_um": float("inf")}, "The pitch must be"),
        ({"steps": 1}, "number of steps is 1; it must be between 2 and 1000"),
        ({"samples": 1001}, "number of samples is 1001"),
        ({"seed": -1}, "The seed is -1; it must be between"),
        ({"sampler": "euler"}, "no sampler 'euler'"),
        ({"sampler": "angle", "samples": 3}, "choose an even number"),
        ({"layout": "hex"}, "no layout 'hex'"),
        ({"spots_kind": "guess"}, "not from 'guess'"),
        ({"spots_kind": "file"}, "no spots file was uploaded"),
    ],
)
def test_settings_out_of_range_have_a_sentence(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        make_request(UPLOAD, **changes)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"upload_id": "x"}', "null", '{"extra": 1}'])
def test_a_damaged_request_has_a_sentence(text: str) -> None:
    with pytest.raises(StemError, match="request cannot be read"):
        JobRequest.from_json(text)


def test_the_pages_side_needs_neither_torch_nor_streamlit() -> None:
    code = (
        "import sys, app.jobs.queue, app.uploads; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'streamlit', 'openslide')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
