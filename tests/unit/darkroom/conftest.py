"""Empty databases that stores are tried against, SQLite's and a real Postgres'."""

from __future__ import annotations

from pathlib import Path

import pytest


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
