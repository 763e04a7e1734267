"""Options that several commands share, and the checks of their values."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter, Token

__all__ = [
    "Device",
    "Json",
    "ModelName",
    "Number",
    "OptionalNumber",
    "OptionalOut",
    "OptionalWhole",
    "Out",
    "Whole",
    "WorkerCount",
]


def _finite(_type: Any, value: float | None) -> None:
    if value is not None and not math.isfinite(value):
        msg = "It must be a finite number."
        raise ValueError(msg)


def _whole(_type: Any, tokens: Sequence[Token]) -> int:
    """Read a whole number; cyclopts would round 2.5."""
    text = tokens[0].value
    try:
        return int(text)
    except ValueError:
        msg = f'it must be a whole number, not "{text}".'
        raise ValueError(msg) from None


def _known_device(_type: Any, value: str) -> None:
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", value):
        msg = "Choose auto, cpu, cuda or cuda:N."
        raise ValueError(msg)


def _few_workers(_type: Any, value: int) -> None:
    if not 1 <= value <= 64:
        msg = "Choose 1 to 64."
        raise ValueError(msg)


Number = Annotated[float, Parameter(validator=_finite)]
OptionalNumber = Annotated[float | None, Parameter(validator=_finite)]
Whole = Annotated[int, Parameter(converter=_whole)]
OptionalWhole = Annotated[int | None, Parameter(converter=_whole)]
WorkerCount = Annotated[int, Parameter(converter=_whole, validator=_few_workers)]
Device = Annotated[str, Parameter(validator=_known_device, metavar="DEVICE")]
Json = Annotated[bool, Parameter(name="--json")]
Out = Annotated[Path, Parameter(name=["--out", "-o"])]
OptionalOut = Annotated[Path | None, Parameter(name=["--out", "-o"])]
ModelName = Annotated[str | None, Parameter(name=["--model", "-m"], metavar="NAME")]
