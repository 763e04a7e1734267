"""The log file, and reference numbers for faults that are ours.

A known error (`StemError`) is shown as its sentence. Any other error is written to the log with its
traceback under a reference number, and only that number is shown.
"""

from __future__ import annotations

import logging
import secrets

from app import paths
from stem_core.errors import OutputError

__all__ = ["fault_sentence", "record_fault", "start_log"]

LOG = logging.getLogger("stem")
_LARGEST_LOG_BYTES = 5_000_000


def start_log() -> None:
    """Write the program's log to `paths.log_file()`; an overlong log is set aside first.

    A second call does nothing. Where no log can be written, warnings go to standard error.
    """
    if LOG.handlers:
        return
    LOG.setLevel(logging.INFO)
    try:
        path = paths.log_file()
        if path.exists() and path.stat().st_size > _LARGEST_LOG_BYTES:
            path.replace(path.with_suffix(".old.log"))
        handler: logging.Handler = logging.FileHandler(path, encoding="utf-8", delay=True)
    except (OSError, OutputError):
        handler = logging.StreamHandler()
        handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(message)s"))
    LOG.addHandler(handler)
    LOG.propagate = False


def record_fault(error: BaseException, doing: str) -> str:
    """Write an unexpected error with its traceback to the log.

    Parameters
    ----------
    error
        The error.
    doing
        What was being done, for the log ("run 1f0c…", "page results").

    Returns
    -------
    str
        The reference number to show, e.g. ``"F-3A91C07E"``.
    """
    start_log()
    reference = f"F-{secrets.token_hex(4).upper()}"
    LOG.error("%s while %s", reference, doing, exc_info=error)
    return reference


def fault_sentence(reference: str) -> str:
    """Return the sentence that stands for an unexpected error on pages and the command line."""
    log = paths.home() / "log" / "stem.log"
    return (
        f"Something went wrong on our side; the details are in the log {log} under the reference "
        f"{reference}."
    )
