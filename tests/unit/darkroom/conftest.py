"""Empty databases that stores are tried against: SQLite's, a real Postgres', and a DynamoDB over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def dynamodb() -> Iterator[dict[str, str]]:
    """The environment in which boto3 finds a DynamoDB over HTTP."""
    from tests.fakes import aws

    with aws.serving() as endpoint:
        yield aws.environment(endpoint)


@pytest.fixture
def empty_postgres(postgres: str) -> str:
    """A database of the server that has no tables."""
    from sqlalchemy import create_engine, text

    engine = create_engine(postgres)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return postgres


@pytest.fixture(params=["sqlite", "postgres"])
def sql_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/jobs.db"
    url: str = request.getfixturevalue("empty_postgres")
    return url
