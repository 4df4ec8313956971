"""Opening the database of the SQL job store, and its failures in our words."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, insert, make_url, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from darkroom.errors import JobStoreUnavailable

_BUSY_MILLISECONDS = 5_000
_TRIES = 10


def open_engine(url: str) -> Engine:
    """An engine for SQLite or Postgres. No connection is made yet; the directory of an SQLite file is.

    Raises: ValueError for a database in memory, which would forget what it accepted; JobStoreUnavailable.
    """
    where = make_url(url)
    if where.get_backend_name() == "sqlite":
        return _sqlite(where)
    return create_engine(where, pool_pre_ping=True, pool_size=8, max_overflow=24, pool_timeout=5)


def _sqlite(url: URL) -> Engine:
    if not url.database or url.database == ":memory:":
        raise ValueError("jobs need a database on disk, such as sqlite:///jobs.db")
    try:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    except OSError as failed:
        raise JobStoreUnavailable from failed
    engine = create_engine(url, pool_size=8, max_overflow=24, pool_timeout=5)

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver's own BEGIN is deferred, and upgrading one can fail at once
        connection.execute(f"PRAGMA busy_timeout={_BUSY_MILLISECONDS}")
        _write_ahead(connection)
        connection.execute("PRAGMA synchronous=FULL")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        mode = connection.get_execution_options().get("sqlite_begin", "IMMEDIATE")
        connection.exec_driver_sql(f"BEGIN {mode}")

    return engine


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Journal by write-ahead log, also while others open the same new file.

    Changing the mode upgrades a read lock, for which SQLite does not wait when another has begun to write
    (https://sqlite.org/c3ref/busy_handler.html); to begin writing it does. Whoever was ahead has changed the mode by
    then, or one more try does. Raises: sqlite3.OperationalError, when the others do not come to an end.
    """
    for _ in range(_TRIES):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as failed:
            if failed.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:  # the low byte is the primary result code
                raise
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("COMMIT")
    connection.execute("PRAGMA journal_mode=WAL")


@contextmanager
def answering() -> Iterator[None]:
    """Whatever keeps the database from answering -> JobStoreUnavailable; a broken constraint passes as it is."""
    try:
        yield
    except IntegrityError:
        raise
    except (DBAPIError, PoolTimeout) as failed:
        raise JobStoreUnavailable from failed


def make_tables(connection: Connection, marker: Table, version: int, *, lock: int, store: str) -> None:
    """Make the tables of `marker`'s metadata that are missing, once, even when several processes start together.

    `marker` keeps the `version` they were made at; `lock` names the Postgres advisory lock and `store` the store in the
    refusal. Call it inside a write transaction. Raises: JobStoreUnavailable, when a newer version made the tables.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": lock})
    marker.create(connection, checkfirst=True)
    found = connection.execute(select(marker.c.version)).scalar()
    if found is None:
        connection.execute(insert(marker).values(version=version))
        marker.metadata.create_all(connection, checkfirst=True)
    elif found > version:
        raise JobStoreUnavailable(f"The {store} was made by a newer version of Darkroom; upgrade this one.")
