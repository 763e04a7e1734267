"""Words that every page, report and file shows alike."""

from __future__ import annotations

from typing import Final, Literal, get_args

__all__ = ["NOTICE", "UNITS", "Units"]

NOTICE = "For research use only. Not for use in diagnostic procedures."
Units = Literal["log2(1 + count)"]  # of expression, everywhere
UNITS: Final[Units] = get_args(Units)[0]
