"""The tables of the SQL policy store; beside the jobs' tables, with a version of their own."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Double,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
)

from darkroom.jobs.database import make_tables

# Raise it with every change of a table *or* of the policy document, and add the migration.
SCHEMA_VERSION = 1
_CREATING = 0x7363616C  # any number, the same in every process: names the Postgres advisory lock

metadata = MetaData()

schema = Table("darkroom_scaling_schema", metadata, Column("version", Integer, nullable=False))

policies = Table(
    "darkroom_scaling_policies",
    metadata,
    Column("model", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("document", Text),  # NULL: deleted; the row stays, so that no version is ever given twice
    Column("changed_at", Double, nullable=False),
    Column("changed_by", Text, nullable=False),
    Column("token", BigInteger, nullable=False),  # counts who has carried it out; the newest may write
    Column("applied", Text),
)

changes = Table(
    "darkroom_scaling_changes",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("model", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("at", Double, nullable=False),
    Column("by", Text, nullable=False),
    Column("old", Text),
    Column("new", Text),
    Index("darkroom_scaling_changes_model", "model", "seq"),
    sqlite_autoincrement=True,
)


def create(connection: Connection) -> None:
    """Make what is missing. Call it inside a write transaction. Raises: as `make_tables` does."""
    make_tables(connection, schema, SCHEMA_VERSION, lock=_CREATING, store="policy store")
