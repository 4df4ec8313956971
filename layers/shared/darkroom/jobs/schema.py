"""The tables of the SQL job store, and the refusal of tables written by a newer version."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Double,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from darkroom.jobs.database import make_tables

# Raise it with every change of a table *or* of a contract that is kept as JSON, and add the migration.
SCHEMA_VERSION = 1
_CREATING = 0x6461726B  # any number, the same in every process: names the Postgres advisory lock

metadata = MetaData()

schema = Table("darkroom_schema", metadata, Column("version", Integer, nullable=False))

jobs = Table(
    "darkroom_jobs",
    metadata,
    # The order of acceptance; the wall clock may jump, this does not. (SQLite numbers only INTEGER keys by itself.)
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("tenant", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("request", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("attempts", Integer, nullable=False),
    Column("step", Integer, nullable=False),
    Column("steps", Integer, nullable=False),
    Column("result", Text),
    Column("error", Text),
    Column("worker", Text),
    Column("token", String(64)),
    Column("beat", BigInteger, nullable=False),
    Column("idempotency_key", Text),
    Column("fingerprint", Text),
    UniqueConstraint("tenant", "idempotency_key", name="darkroom_jobs_idempotency"),
    Index("darkroom_jobs_queue", "status", "seq"),
    sqlite_autoincrement=True,
)


def create(connection: Connection) -> None:
    """Make what is missing. Call it inside a write transaction. Raises: as `make_tables` does."""
    make_tables(connection, schema, SCHEMA_VERSION, lock=_CREATING, store="job store")
