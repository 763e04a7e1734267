"""The job database works on every SQLite that a supported Python comes with."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError, OperationalError

from app.jobs import database
from app.jobs.database import check_queue, database_error, database_url, support_old_sqlite
from stem_core.errors import OutputError


def test_times_have_fractions_on_every_sqlite(tmp_path: Path) -> None:
    support_old_sqlite()
    engine = create_engine(database_url(tmp_path / "a ? file.sqlite"))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (n, at DEFAULT (unixepoch('subsec') * 1000))"))
        connection.execute(text("INSERT INTO t (n) VALUES (1)"))
        at_ms = connection.execute(text("SELECT at FROM t")).scalar_one()
    engine.dispose()
    assert at_ms == pytest.approx(time.time() * 1000, abs=60_000)
    assert (tmp_path / "a ? file.sqlite").is_file()


def test_only_the_present_can_be_asked_for() -> None:
    assert database._unix_time() == int(database._unix_time())
    assert database._unix_time("now", "subsec") == pytest.approx(time.time(), abs=60)
    with pytest.raises(sqlite3.NotSupportedError):
        database._unix_time("2020-01-01")


def test_this_installation_can_queue_a_run() -> None:
    check_queue()


def test_a_queue_that_fails_names_the_cause_and_sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Python 3.12 with SQLite 3.40 says without our function."""
    cause = sqlite3.IntegrityError("NOT NULL constraint failed: queues.created_at")

    def fail(file: Path) -> None:
        statement = "INSERT"
        raise IntegrityError(statement, {}, cause)

    monkeypatch.setattr(database, "open_client", fail)
    with pytest.raises(OutputError) as caught:
        check_queue()
    assert "NOT NULL constraint failed: queues.created_at" in str(caught.value)
    assert sqlite3.sqlite_version in str(caught.value)


@pytest.mark.parametrize(
    ("cause", "advice"),
    [
        (sqlite3.OperationalError("database or disk is full"), "Free space"),
        (sqlite3.OperationalError("attempt to write a readonly database"), "can be written"),
        (sqlite3.IntegrityError("NOT NULL constraint failed: queues.created_at"), "stem doctor"),
    ],
)
def test_the_advice_follows_the_cause(cause: Exception, advice: str) -> None:
    error = database_error(Path("jobs.sqlite"), OperationalError("INSERT", {}, cause))
    assert str(cause) in str(error)
    assert advice in str(error)
