"""The real small services that stores are tried against: a Postgres of our own, and a DynamoDB over HTTP."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

_DEBIAN = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")))  # where its package puts what PATH lacks


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A real Postgres on a Unix socket, where its programs and a driver are at hand."""
    path = os.pathsep.join([os.environ["PATH"], *_DEBIAN])
    initdb, pg_ctl = shutil.which("initdb", path=path), shutil.which("pg_ctl", path=path)
    if not (initdb and pg_ctl and find_spec("psycopg")):
        pytest.skip("needs Postgres' initdb and pg_ctl, and psycopg")
    user = "nobody" if os.geteuid() == 0 else None  # it refuses to run as root
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as data:
        if user:
            shutil.chown(data, user)
        control = [pg_ctl, "-D", data, "-w", "-l", f"{data}/log"]
        options = f"-c listen_addresses='' -c unix_socket_directories={data} -c fsync=off"
        create = [initdb, "-D", data, "-U", "darkroom", "-A", "trust", "-E", "UTF8", "-N"]
        for command in (create, [*control, "-o", options, "start"]):
            subprocess.run(command, user=user, cwd=data, stdout=subprocess.DEVNULL, check=True)
        yield f"postgresql+psycopg://darkroom@/postgres?host={data}"
        subprocess.run(
            [*control, "-m", "immediate", "stop"], user=user, cwd=data, stdout=subprocess.DEVNULL, check=True
        )


@pytest.fixture(scope="session")
def dynamodb() -> Iterator[dict[str, str]]:
    """The environment in which boto3 finds a DynamoDB over HTTP."""
    from tests.fakes import aws

    with aws.serving() as endpoint:
        yield aws.environment(endpoint)


@pytest.fixture
def postgres(postgres_server: str) -> str:
    """An empty database of it."""
    from sqlalchemy import create_engine, text

    engine = create_engine(postgres_server)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return postgres_server


@pytest.fixture(params=["sqlite", "postgres"])
def sql_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/jobs.db"
    url: str = request.getfixturevalue("postgres")
    return url
