"""How records look in a notebook: a `repr` of one line, and a short HTML table."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import fields
from html import escape
from typing import Any

__all__ = ["html_table", "record_repr"]

_MAX_CHARACTERS = 40


def record_repr(record: Any) -> str:
    """Describe a dataclass on one line: arrays and tables by shape, long values cut.

    Assign it as `__repr__` in a dataclass whose fields are large.
    """
    shown = (f"{f.name}={_short(getattr(record, f.name))}" for f in fields(record) if f.repr)
    return f"{type(record).__name__}({', '.join(shown)})"


def html_table(caption: str, rows: Mapping[str, object]) -> str:
    """Return an HTML table of a caption and two columns; all text is escaped.

    Parameters
    ----------
    caption
        Heading of the table.
    rows
        Name of each row and its value; rows whose value is None or empty are left out.
    """
    cells = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th>"
        f"<td style='text-align:left'>{escape(str(value))}</td></tr>"
        for name, value in rows.items()
        if value is not None and value != ""
    )
    title = f"<caption style='text-align:left'><b>{escape(caption)}</b></caption>"
    return f"<table>{title}{cells}</table>"


def _short(value: object) -> str:
    """Describe a value in a few words."""
    shape = getattr(value, "shape", None)  # of arrays, tables, tensors and AnnData
    if isinstance(shape, tuple) and shape:
        return f"{type(value).__name__}{tuple(shape)}"
    if isinstance(value, tuple | list | dict) and len(value) > 3:
        return f"<{len(value):,} items>"
    shorten = reprlib.Repr()
    shorten.maxstring = shorten.maxother = _MAX_CHARACTERS
    return " ".join(shorten.repr(value).split())
