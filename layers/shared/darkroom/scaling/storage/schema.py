"""The tables of the SQL policy store, beside the jobs' table, and how their older versions become these."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Index, Integer, MetaData, Table, Text

from darkroom.database.migrations import Schema

metadata = MetaData()

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
    Column("nonce", Text),  # by which a writer whose answer was lost knows its own write
    Index("darkroom_scaling_changes_model", "model", "seq"),
    sqlite_autoincrement=True,
)

# A change of a table *or* of the policy document is another step.
SCHEMA = Schema(
    metadata,
    marker="darkroom_scaling_schema",
    steps=(("ALTER TABLE darkroom_scaling_changes ADD COLUMN nonce TEXT",),),
    lock=0x7363616C,
    store="policy store",
)
