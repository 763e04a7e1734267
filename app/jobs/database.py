"""The job database: DBOS on SQLite, on every SQLite that a supported Python comes with.

From Python 3.12 on, DBOS writes times with `unixepoch('subsec')`. SQLite knows `subsec` since 3.42.
Python uses the system's library, and Debian 12 has 3.40: there the time is NULL, and no run can be
queued. `support_old_sqlite` gives such a library the missing function.
"""

from __future__ import annotations

import functools
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stem_core.errors import OutputError

if TYPE_CHECKING:
    from dbos import DBOSClient

__all__ = [
    "APP_NAME",
    "QUEUE_NAME",
    "QUEUE_SETTINGS",
    "check_queue",
    "database_error",
    "database_url",
    "open_client",
    "support_old_sqlite",
]

APP_NAME = "stem"
QUEUE_NAME = "runs"
QUEUE_SETTINGS: dict[str, Any] = {"worker_concurrency": 1, "polling_interval_sec": 0.5}
_SUBSEC_SINCE = (3, 42)
# SQLite's words for a disk, a folder or a file that does not let us write.
_STORAGE_WORDS = ("full", "readonly", "read-only", "unable to open", "disk i/o", "locked")


def database_url(file: Path) -> str:
    """Return a SQLite file as an SQLAlchemy address, safe for any character in the path."""
    from sqlalchemy import URL

    return URL.create("sqlite", database=str(file)).render_as_string()


@functools.cache
def support_old_sqlite() -> None:
    """Add `unixepoch('subsec')` to all SQLite connections of this process where SQLite lacks it.

    Call it before DBOS connects. It does nothing with SQLite 3.42 or newer.
    """
    if sqlite3.sqlite_version_info >= _SUBSEC_SINCE:
        return
    from sqlalchemy import Engine, event

    @event.listens_for(Engine, "connect")
    def add_function(connection: Any, record: object) -> None:
        if hasattr(connection, "create_function"):
            connection.create_function("unixepoch", -1, _unix_time)


def _unix_time(*modifiers: str) -> float:
    """Return the time in seconds as `unixepoch` does; only the present can be asked for."""
    if set(modifiers) - {"now", "subsec"}:
        msg = f"unixepoch{modifiers} is not supported here"
        raise sqlite3.NotSupportedError(msg)
    return time.time() if "subsec" in modifiers else float(int(time.time()))


def open_client(file: Path) -> DBOSClient:
    """Connect to a job database; its tables and its queue are made where they are missing.

    Parameters
    ----------
    file
        SQLite file in an existing folder.

    Raises
    ------
    sqlalchemy.exc.SQLAlchemyError
        The file cannot be used; `database_error` turns it into a sentence.
    """
    from dbos import DBOS, DBOSClient, DBOSPortableJSONSerializer

    support_old_sqlite()
    DBOS.migrate(database_url(file))  # a page may ask before any worker ran
    client = DBOSClient(
        system_database_url=database_url(file),
        application_name=APP_NAME,
        serializer=DBOSPortableJSONSerializer(),
        retry_connection_errors=False,
    )
    client.register_queue(QUEUE_NAME, **QUEUE_SETTINGS)
    return client


def database_error(file: Path, error: BaseException) -> OutputError:
    """Return the error of a job database that cannot be used, with the true cause.

    Parameters
    ----------
    file
        The database.
    error
        What SQLAlchemy raised.
    """
    cause = getattr(error, "orig", None) or error
    words = str(cause).splitlines()[0][:200] if str(cause) else type(cause).__name__
    advice = (
        "Free space and check that the file can be written."
        if any(word in words.lower() for word in _STORAGE_WORDS)
        else "Run `stem doctor` to see whether this installation can queue runs."
    )
    return OutputError(f"The list of runs {file} cannot be used ({words}). {advice}")


def check_queue() -> None:
    """Queue a run in a temporary database, as a test of this installation.

    Raises
    ------
    OutputError
        No run can be queued here; the sentence names the cause and the SQLite version.
    """
    from sqlalchemy.exc import SQLAlchemyError

    with tempfile.TemporaryDirectory(prefix="stem-check-") as folder:
        try:
            client = open_client(Path(folder) / "jobs.sqlite")
            try:
                client.enqueue(
                    {"queue_name": QUEUE_NAME, "workflow_name": "check", "workflow_id": "check"}
                )
                waiting = client.list_queued_workflows(queue_name=QUEUE_NAME)
            finally:
                client.destroy()
        except (SQLAlchemyError, OSError) as error:
            cause = getattr(error, "orig", None) or error
            msg = (
                f"No run can be queued here ({cause}; SQLite {sqlite3.sqlite_version}). Install "
                "the versions in requirements.txt, or a Python with a newer SQLite."
            )
            raise OutputError(msg) from error
    if [row.workflow_id for row in waiting] != ["check"]:
        msg = "A queued run is not found again. Install the versions in requirements.txt."
        raise OutputError(msg)
