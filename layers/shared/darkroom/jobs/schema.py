"""The table of the SQL job store, and how its older versions become this one."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Index, Integer, MetaData, String, Table, Text, UniqueConstraint

from darkroom.database.migrations import Schema

metadata = MetaData()

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
    Column("tag", BigInteger, nullable=False, server_default="0"),  # whose turn it is: `jobs.fairness`
    UniqueConstraint("tenant", "idempotency_key", name="darkroom_jobs_idempotency"),
    Index("darkroom_jobs_queue", "status", "seq"),
    Index("darkroom_jobs_turns", "model", "status", "tag", "seq"),
    # By status first: what a tenant has finished is not read when its next job is accepted.
    Index("darkroom_jobs_turns_of_tenant", "tenant", "status", "model", "tag"),
    Index("darkroom_jobs_of_tenant", "tenant", "seq"),
    sqlite_autoincrement=True,
)

# A change of a table *or* of a contract that is kept as JSON is another step.
SCHEMA = Schema(
    metadata,
    marker="darkroom_schema",
    steps=(
        ("CREATE INDEX darkroom_jobs_queue_of_model ON darkroom_jobs (model, status, seq)",),
        (
            "ALTER TABLE darkroom_jobs ADD COLUMN tag BIGINT NOT NULL DEFAULT 0",
            "DROP INDEX darkroom_jobs_queue_of_model",
            "CREATE INDEX darkroom_jobs_turns ON darkroom_jobs (model, status, tag, seq)",
            "CREATE INDEX darkroom_jobs_turns_of_tenant ON darkroom_jobs (tenant, model, status, tag)",
        ),
        (
            "DROP INDEX darkroom_jobs_turns_of_tenant",
            "CREATE INDEX darkroom_jobs_turns_of_tenant ON darkroom_jobs (tenant, status, model, tag)",
            "CREATE INDEX darkroom_jobs_of_tenant ON darkroom_jobs (tenant, seq)",
        ),
    ),
    lock=0x6461726B,
    store="job store",
)
