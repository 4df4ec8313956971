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
    insert,
    select,
    text,
)

from darkroom.errors import JobStoreUnavailable

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
    """Make what is missing, once, even when several processes start together. Call it inside a write transaction.

    Raises: JobStoreUnavailable, when the tables were made by a newer version of Darkroom.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _CREATING})
    schema.create(connection, checkfirst=True)
    version = connection.execute(select(schema.c.version)).scalar()
    if version is None:
        connection.execute(insert(schema).values(version=SCHEMA_VERSION))
        metadata.create_all(connection, checkfirst=True)
    elif version > SCHEMA_VERSION:
        raise JobStoreUnavailable("The policy store was made by a newer version of Darkroom; upgrade this one.")
