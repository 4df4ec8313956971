"""One SQL database, SQLite or Postgres: transactions, and its failures in our words."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from darkroom.database.migrations import Schema
from darkroom.errors import JobStoreUnavailable

_BUSY_MILLISECONDS = 5_000
_TRIES = 10


class Database:
    """A store's tables. Safe to use from several threads, and from several processes on one database.

    SQLite runs in WAL mode with `synchronous=FULL`: what was committed survives a power cut. There every write takes
    the database's one write lock at its start (`BEGIN IMMEDIATE`); readers take none.

    Opening it makes the tables of `schema`, or brings them to its version. Raises JobStoreUnavailable when the database
    cannot be opened or is of a newer version; ValueError for a database in memory, which would forget what it accepted.
    """

    def __init__(self, url: str, schema: Schema) -> None:
        self._engine = open_engine(url)
        self._reading = self._engine.execution_options(sqlite_begin="DEFERRED")
        try:
            with self.write() as connection:
                schema.bring_up_to_date(connection)
        except JobStoreUnavailable:
            self.close()
            raise

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is committed at its end. Raises: JobStoreUnavailable, sqlalchemy's IntegrityError."""
        with _translated(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads. Raises: JobStoreUnavailable."""
        with _translated(), self._reading.begin() as connection:
            yield connection

    def close(self) -> None:
        """Let go of the connections; new ones are opened if the database is used again."""
        self._engine.dispose()


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
        raise ValueError("a store needs a database on disk, such as sqlite:///jobs.db")
    file = Path(url.database)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)  # prompts are nobody else's business; what SQLite puts beside it is as the file is
    except OSError as failed:
        raise JobStoreUnavailable from failed
    with suppress(OSError):  # an older release made it for everybody to read
        for name in (file, *(file.with_name(file.name + suffix) for suffix in ("-wal", "-shm"))):
            name.chmod(0o600)
    engine = create_engine(url, pool_size=8, max_overflow=24, pool_timeout=5)

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        connection.text_factory = _readable  # one damaged row is not the end of all others
        connection.isolation_level = None  # the driver's own BEGIN is deferred, and upgrading one can fail at once
        connection.execute(f"PRAGMA busy_timeout={_BUSY_MILLISECONDS}")
        _write_ahead(connection)
        connection.execute("PRAGMA synchronous=FULL")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        mode = connection.get_execution_options().get("sqlite_begin", "IMMEDIATE")
        connection.exec_driver_sql(f"BEGIN {mode}")

    return engine


def _readable(text: bytes) -> str:
    """Text as it was stored; what is no UTF-8 in it is spelled out."""
    return text.decode(errors="backslashreplace")


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
def _translated() -> Iterator[None]:
    """Whatever keeps the database from answering -> JobStoreUnavailable; a broken constraint passes as it is."""
    try:
        yield
    except IntegrityError:
        raise
    except (DBAPIError, PoolTimeout) as failed:
        raise JobStoreUnavailable from failed
