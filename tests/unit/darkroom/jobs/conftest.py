"""Job stores for the contract suite. A store to come joins by a parameter of `database` and a branch of `Database`."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from sqlalchemy import Connection, create_engine, update

from darkroom.errors import JobStoreUnavailable
from darkroom.jobs import JobStore
from darkroom.jobs.dynamodb import DynamoJobStore
from darkroom.jobs.schema import jobs
from darkroom.jobs.sql import SqlJobStore

LEASE_SECONDS = 10.0


@dataclass
class Clock:
    """Stands still until it is told to go on."""

    now: float

    def __call__(self) -> float:
        return self.now


@dataclass
class Database:
    """One database, which any number of processes may open."""

    url: str
    wall: Clock = field(default_factory=lambda: Clock(1_800_000_000.0))
    monotonic: Clock = field(default_factory=lambda: Clock(50.0))
    kind: type[SqlJobStore] | type[DynamoJobStore] = SqlJobStore
    _opened: list[SqlJobStore | DynamoJobStore] = field(default_factory=list)

    def open(self, *, max_queued: int = 1000, max_attempts: int = 3) -> JobStore:
        """A store as another process would have it: nothing is shared but the database and the clocks."""
        store = self.kind(
            self.url,
            max_queued=max_queued,
            max_attempts=max_attempts,
            lease_seconds=LEASE_SECONDS,
            wall=self.wall,
            monotonic=self.monotonic,
        )
        self._opened.append(store)
        return store

    def overwrite(self, job_id: str, **columns: str) -> None:
        """What another release, or a fault of the disk, has left of a job."""
        if self.kind is SqlJobStore:
            engine = create_engine(self.url)
            with engine.begin() as connection:
                connection.execute(update(jobs).where(jobs.c.id == job_id).values(columns))
            engine.dispose()
            return
        boto3.client("dynamodb").update_item(
            TableName=self.url,
            Key={"id": {"S": job_id}},
            UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in columns),
            ExpressionAttributeNames={f"#{name}": name for name in columns},
            ExpressionAttributeValues={f":{name}": {"S": text} for name, text in columns.items()},
        )

    def close(self) -> None:
        for store in self._opened:
            store.close()


@pytest.fixture
def jobs_table(dynamodb: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a table of this test's own."""
    from darkroom.jobs.items import TABLE

    for name, value in dynamodb.items():
        monkeypatch.setenv(name, value)
    name = f"jobs-{secrets.token_hex(8)}"
    boto3.client("dynamodb").create_table(TableName=name, **TABLE)
    return name


@pytest.fixture
def lose_answers(monkeypatch: pytest.MonkeyPatch) -> Callable[[JobStore], None]:
    """Makes a store write, and lose the answer that says so, every time."""

    def lose(store: JobStore) -> None:
        if isinstance(store, SqlJobStore):
            write = store._database.write

            @contextmanager
            def lost() -> Iterator[Connection]:
                with write() as connection:
                    yield connection
                raise JobStoreUnavailable

            monkeypatch.setattr(store._database, "write", lost)
            return
        assert isinstance(store, DynamoJobStore)
        client = store._table._client
        for name in ("put_item", "transact_write_items"):
            monkeypatch.setattr(client, name, _twice(getattr(client, name)))

    return lose


def _twice(write: Callable[..., Any]) -> Callable[..., Any]:
    """What botocore does when no answer comes: it asks again, and hears of the condition that held before."""

    def call(**arguments: Any) -> Any:
        write(**arguments)
        return write(**arguments)

    return call


@pytest.fixture(params=["sqlite", "postgres", "dynamodb"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        opened = Database(f"sqlite:///{tmp_path}/jobs.db")
    elif request.param == "dynamodb":
        opened = Database(request.getfixturevalue("jobs_table"), kind=DynamoJobStore)
    else:
        opened = Database(request.getfixturevalue("empty_postgres"))
    yield opened
    opened.close()
