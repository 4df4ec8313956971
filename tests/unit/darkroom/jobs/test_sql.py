"""What is particular to the SQL job store: durability settings, versions, and a database that does not answer."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import event, text

from darkroom.contracts import GenerationRequest, JobStatus
from darkroom.errors import JobStoreUnavailable
from darkroom.jobs import open_jobs
from darkroom.jobs.database import open_engine
from darkroom.jobs.sql import SqlJobStore

REQUEST = GenerationRequest(prompt="a cat")


def sqlite(path: Path) -> SqlJobStore:
    return SqlJobStore(f"sqlite:///{path}")


def test_the_folder_is_made(tmp_path: Path) -> None:
    with closing(sqlite(tmp_path / "new" / "folder" / "jobs.db")):
        assert (tmp_path / "new" / "folder" / "jobs.db").is_file()


def test_sqlite_is_durable_and_waits_for_other_writers(tmp_path: Path) -> None:
    with closing(sqlite(tmp_path / "jobs.db")) as store, store._read() as connection:
        pragmas = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar() for name in ("journal_mode", "synchronous")
        }
        assert pragmas == {"journal_mode": "wal", "synchronous": 2}  # 2 = FULL
        assert connection.execute(text("PRAGMA busy_timeout")).scalar() == 5000


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_in_memory_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="on disk"):
        open_jobs(url)


def test_an_unknown_kind_of_store_is_refused() -> None:
    with pytest.raises(ValueError, match="no job store for mysql"):
        open_jobs("mysql://localhost/jobs")


def test_tables_of_a_newer_version_are_refused_and_left_alone(tmp_path: Path) -> None:
    with closing(sqlite(tmp_path / "jobs.db")) as store:
        store.create("crayon", REQUEST, tenant="one", idempotency=None)
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as connection:
        connection.execute("UPDATE darkroom_schema SET version = 99")
        connection.commit()
        with pytest.raises(JobStoreUnavailable, match="newer version"):
            sqlite(tmp_path / "jobs.db")
        assert connection.execute("SELECT count(*) FROM darkroom_jobs").fetchone() == (1,)
        assert connection.execute("SELECT version FROM darkroom_schema").fetchall() == [(99,)]


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "jobs.db").write_bytes(b"not a database" * 100)
    with pytest.raises(JobStoreUnavailable):
        sqlite(tmp_path / "jobs.db")


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JobStoreUnavailable):
        sqlite(tmp_path / "file" / "jobs.db")


def test_a_server_that_is_not_there_is_refused() -> None:
    pytest.importorskip("psycopg", reason="needs psycopg")
    with pytest.raises(JobStoreUnavailable):
        open_jobs("postgresql+psycopg://darkroom@127.0.0.1:1/jobs")


def test_a_database_held_by_another_writer_is_unavailable_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("darkroom.jobs.database._BUSY_MILLISECONDS", 1)
    with closing(sqlite(tmp_path / "jobs.db")) as store:
        store.create("crayon", REQUEST, tenant="one", idempotency=None)
        with closing(sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(JobStoreUnavailable):
                store.create("crayon", REQUEST, tenant="one", idempotency=None)
            with pytest.raises(JobStoreUnavailable):
                store.claim("w")
            assert store.counts()[JobStatus.QUEUED] == 1  # readers are not held up in WAL mode
            other.execute("ROLLBACK")
        assert store.claim("w")


def test_a_database_whose_tables_were_lost_is_unavailable(tmp_path: Path) -> None:
    with closing(sqlite(tmp_path / "jobs.db")) as store:
        with closing(sqlite3.connect(tmp_path / "jobs.db")) as other:
            other.execute("DROP TABLE darkroom_jobs")
        with pytest.raises(JobStoreUnavailable):
            store.counts()


def test_a_new_database_that_another_began_to_write_is_waited_for(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/jobs.db")
    with closing(sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        seen: list[str] = []

        def end_the_other(statement: str) -> None:
            if any("journal_mode" in earlier for earlier in seen) and other.in_transaction:
                other.execute("COMMIT")  # only once the mode could not be changed
            seen.append(statement)

        def trace(connection: sqlite3.Connection, _record: object) -> None:
            connection.set_trace_callback(end_the_other)

        event.listen(engine, "connect", trace, insert=True)
        with engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert sum("journal_mode=WAL" in statement for statement in seen) == 2
    engine.dispose()


def test_many_threads_open_and_use_one_new_database(tmp_path: Path) -> None:
    def use(number: int) -> str:
        with closing(sqlite(tmp_path / "jobs.db")) as store:
            return store.create("crayon", REQUEST, tenant=f"t{number}", idempotency=None).job.id

    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(use, range(16)))) == 16


def test_processes_that_start_together_make_the_tables_once(tmp_path: Path) -> None:
    program = (
        "import sys; from darkroom.jobs.sql import SqlJobStore; print('ready', flush=True); sys.stdin.readline();"
        "SqlJobStore(sys.argv[1]).counts()"
    )
    command = [sys.executable, "-c", program, f"sqlite:///{tmp_path}/jobs.db"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with ExitStack() as stack:
        start = partial(subprocess.Popen, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        started = [stack.enter_context(start(command)) for _ in range(4)]
        for process in started:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
        for process in started:
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
        assert [process.wait(60) for process in started] == [0] * 4
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as connection:
        assert connection.execute("SELECT version FROM darkroom_schema").fetchall() == [(1,)]
