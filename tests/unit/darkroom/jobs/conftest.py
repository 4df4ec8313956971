"""Job stores for the contract suite. A store to come joins by a parameter of `database` and a branch of `Database`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from darkroom.jobs import JobStore
from darkroom.jobs.dynamodb import DynamoJobStore
from darkroom.jobs.sql import SqlJobStore

LEASE_SECONDS = 10.0
_tables = count()


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

    def close(self) -> None:
        for store in self._opened:
            store.close()


@pytest.fixture(scope="session")
def dynamodb() -> Iterator[dict[str, str]]:
    """The environment in which boto3 finds a DynamoDB over HTTP."""
    from tests.fakes import aws

    with aws.serving() as endpoint:
        yield aws.environment(endpoint)


@pytest.fixture
def jobs_table(dynamodb: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a table of this test's own."""
    import boto3

    from darkroom.jobs.dynamodb import TABLE

    for name, value in dynamodb.items():
        monkeypatch.setenv(name, value)
    name = f"jobs-{next(_tables)}"
    boto3.client("dynamodb").create_table(TableName=name, **TABLE)
    return name


@pytest.fixture(params=["sqlite", "postgres", "dynamodb"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        opened = Database(f"sqlite:///{tmp_path}/jobs.db")
    elif request.param == "dynamodb":
        opened = Database(request.getfixturevalue("jobs_table"), kind=DynamoJobStore)
    else:
        opened = Database(request.getfixturevalue("postgres"))
        _empty(opened.url)
    yield opened
    opened.close()


def _empty(url: str) -> None:
    from sqlalchemy import create_engine

    from darkroom.jobs import schema

    engine = create_engine(url)
    schema.metadata.drop_all(engine)
    engine.dispose()
