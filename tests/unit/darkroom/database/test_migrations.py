"""Databases of every version of ours: made by the code of their time, brought to this version, and used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, inspect, text

from darkroom.contracts import GenerationRequest, JobStatus
from darkroom.database.migrations import Schema
from darkroom.errors import JobStoreUnavailable
from darkroom.jobs.schema import SCHEMA as JOBS
from darkroom.jobs.sql import SqlJobStore
from darkroom.scaling.storage.schema import SCHEMA as POLICIES
from darkroom.scaling.storage.sql import SqlPolicyStore

REQUEST = GenerationRequest(prompt="a cat", seed=7)
SEQ = {"sqlite": "INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT", "postgresql": "BIGSERIAL NOT NULL PRIMARY KEY"}
REAL = {"sqlite": "DOUBLE", "postgresql": "DOUBLE PRECISION"}

# What version 1 made, word for word, but for the two types that the databases call by other names.
JOBS_1 = """
CREATE TABLE darkroom_jobs (
    seq {seq}, id VARCHAR(64) NOT NULL, tenant TEXT NOT NULL, model TEXT NOT NULL, status VARCHAR(16) NOT NULL,
    request TEXT NOT NULL, created_at {real} NOT NULL, started_at {real}, finished_at {real},
    attempts INTEGER NOT NULL, step INTEGER NOT NULL, steps INTEGER NOT NULL, result TEXT, error TEXT, worker TEXT,
    token VARCHAR(64), beat BIGINT NOT NULL, idempotency_key TEXT, fingerprint TEXT,
    CONSTRAINT darkroom_jobs_idempotency UNIQUE (tenant, idempotency_key), UNIQUE (id));
CREATE INDEX darkroom_jobs_queue ON darkroom_jobs (status, seq);
CREATE TABLE darkroom_schema (version INTEGER NOT NULL);
INSERT INTO darkroom_schema VALUES (1);
INSERT INTO darkroom_jobs (id, tenant, model, status, request, created_at, attempts, step, steps, beat,
    idempotency_key, fingerprint)
VALUES ('{id}', 'one', 'crayon', 'queued', '{request}', 1800000000.0, 1, 0, 0, 0, 'k', 'f')
"""
POLICIES_1 = """
CREATE TABLE darkroom_scaling_changes (
    seq {seq}, model TEXT NOT NULL, version INTEGER NOT NULL, at {real} NOT NULL, "by" TEXT NOT NULL, old TEXT,
    new TEXT);
CREATE INDEX darkroom_scaling_changes_model ON darkroom_scaling_changes (model, seq);
CREATE TABLE darkroom_scaling_policies (
    model TEXT NOT NULL, version INTEGER NOT NULL, document TEXT, changed_at {real} NOT NULL,
    changed_by TEXT NOT NULL, token BIGINT NOT NULL, applied TEXT, PRIMARY KEY (model));
CREATE TABLE darkroom_scaling_schema (version INTEGER NOT NULL);
INSERT INTO darkroom_scaling_schema VALUES (1);
INSERT INTO darkroom_scaling_changes (model, version, at, "by", old, new)
VALUES ('crayon', 1, 1800000000.0, 'one', NULL, '{{"min": 0, "max": 2}}');
INSERT INTO darkroom_scaling_policies VALUES ('crayon', 1, '{{"min": 0, "max": 2}}', 1800000000.0, 'one', 3, 'print')
"""


@pytest.fixture
def engine(sql_url: str) -> Iterator[Engine]:
    engine = create_engine(sql_url)
    yield engine
    engine.dispose()


def execute(engine: Engine, script: str) -> None:
    names = {"seq": SEQ[engine.dialect.name], "real": REAL[engine.dialect.name]}
    statements = script.format(**names, id="a" * 32, request=REQUEST.model_dump_json()).split(";\n")
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def shape(engine: Engine, schema: Schema) -> dict[str, Any]:
    """Each table's columns and indexes, and the version, as the database itself tells them."""
    tables: dict[str, Any] = {}
    for table in schema.metadata.tables:
        look = inspect(engine)
        columns = [(column["name"], str(column["type"]), column["nullable"]) for column in look.get_columns(table)]
        indexes = sorted((str(index["name"]), index["column_names"]) for index in look.get_indexes(table))
        tables[table] = (columns, indexes)
    with engine.begin() as connection:
        tables["version"] = connection.execute(text(f"SELECT version FROM {schema.marker}")).scalars().all()  # noqa: S608
    return tables


def drop(engine: Engine, schema: Schema) -> None:
    with engine.begin() as connection:
        for table in (*schema.metadata.tables, schema.marker):
            connection.exec_driver_sql(f"DROP TABLE {table}")


def test_jobs_of_the_first_version_are_kept_and_claimed(sql_url: str, engine: Engine) -> None:
    execute(engine, JOBS_1)
    with closing(SqlJobStore(sql_url)) as store:
        job = store.get("a" * 32, tenant="one")
        assert (job.request, job.status, job.attempts) == (REQUEST, JobStatus.QUEUED, 1)
        later = store.create("crayon", REQUEST, tenant="one", idempotency=None).job
        claimed = [store.claim("w", models=["crayon"]) for _ in range(3)]
        assert [lease and lease.job.id for lease in claimed] == [job.id, later.id, None]


def test_policies_of_the_first_version_are_kept_and_changed(sql_url: str, engine: Engine) -> None:
    execute(engine, POLICIES_1)
    with closing(SqlPolicyStore(sql_url)) as store:
        (stored,) = store.all()
        assert (stored.document, stored.version, stored.applied) == ({"min": 0, "max": 2}, 1, "print")
        assert store.put("crayon", {"min": 1, "max": 3}, by="two").version == 2
        assert store.take("crayon").token == 4
        assert [(change.version, change.by) for change in store.history("crayon")] == [(1, "one"), (2, "two")]


@pytest.mark.parametrize(
    ("first", "schema", "open_store"), [(JOBS_1, JOBS, SqlJobStore), (POLICIES_1, POLICIES, SqlPolicyStore)]
)
def test_an_old_database_comes_to_what_a_new_one_is(
    sql_url: str, engine: Engine, first: str, schema: Schema, open_store: Callable[[str], Any]
) -> None:
    open_store(sql_url).close()
    new = shape(engine, schema)
    assert new["version"] == [schema.version]
    drop(engine, schema)
    execute(engine, first)
    assert shape(engine, schema) != new
    for _ in range(2):  # the second time there is nothing to do
        open_store(sql_url).close()
        assert shape(engine, schema) == new


def test_processes_that_start_together_take_each_step_once(sql_url: str, engine: Engine) -> None:
    execute(engine, JOBS_1)
    with ThreadPoolExecutor(8) as pool:
        stores = list(pool.map(lambda _: SqlJobStore(sql_url), range(8)))
    assert shape(engine, JOBS)["version"] == [JOBS.version]
    for store in stores:
        store.close()


def test_a_step_that_fails_leaves_the_database_as_it_was(
    sql_url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(engine, JOBS_1)
    before = shape(engine, JOBS)
    broken = Schema(
        JOBS.metadata, JOBS.marker, (*JOBS.steps, ("CREATE TABLE half (a INTEGER)", "no SQL")), JOBS.lock, JOBS.store
    )
    monkeypatch.setattr("darkroom.jobs.sql.SCHEMA", broken)
    with pytest.raises(JobStoreUnavailable):
        SqlJobStore(sql_url)
    assert shape(engine, JOBS) == before
    assert not inspect(engine).has_table("half")


def test_a_file_that_everybody_could_read_is_its_owners_only(tmp_path: Path) -> None:
    file = tmp_path / "jobs.db"
    with closing(SqlJobStore(f"sqlite:///{file}")):
        assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o644)  # as an older release made it
    with closing(SqlJobStore(f"sqlite:///{file}")) as store:
        store.create("crayon", REQUEST, tenant="one", idempotency=None)
        modes = {path.name: oct(path.stat().st_mode & 0o777) for path in tmp_path.iterdir()}
        assert modes == dict.fromkeys(("jobs.db", "jobs.db-shm", "jobs.db-wal"), "0o600")
