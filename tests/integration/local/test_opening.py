"""A machine that keeps its jobs in Postgres and its images in S3: what it says where these cannot be used."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from sqlalchemy import make_url

from darkroom.settings import Settings
from local import data
from local.deployment import Deployment
from local.errors import CannotStart
from local.opening import opening
from tests.integration.storage.conftest import s3_endpoint, s3_environment

__all__ = ["s3_endpoint", "s3_environment"]


def why(tmp_path: Path, **given: str) -> str:
    """Why a deployment with these settings does not start."""
    settings = data.prepare(Settings(data_dir=str(tmp_path / "data"), **given))  # type: ignore[arg-type]

    async def build() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            Deployment(settings, listener, announce=lambda _: None, emit=lambda _: None)

    with pytest.raises(CannotStart) as refused:
        asyncio.run(build())
    return str(refused.value)


def test_a_database_that_there_is_not(tmp_path: Path, postgres: str) -> None:
    said = why(tmp_path, jobs_url=make_url(postgres).set(database="nowhere").render_as_string())
    assert 'database "nowhere" does not exist' in said
    assert said.endswith("look at DARKROOM_JOBS_URL.")


def test_a_port_that_nobody_listens_on(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    said = why(tmp_path, jobs_url=f"postgresql://somebody:a-secret@127.0.0.1:{port}/jobs")
    assert "Connection refused" in said
    assert "a-secret" not in said


@pytest.mark.parametrize("url", ["nonsense", "mysql://a/b", "postgresql://a:b@[::1", "sqlite://"])
def test_what_is_no_job_store(tmp_path: Path, url: str) -> None:
    assert why(tmp_path, jobs_url=url).startswith("DARKROOM_JOBS_URL: ")


@pytest.fixture
def s3(s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3_environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("s3")
def test_a_bucket_that_there_is_not(tmp_path: Path) -> None:
    said = why(tmp_path, store_url="s3://nowhere")
    assert "NoSuchBucket" in said
    assert said.endswith("look at DARKROOM_STORE_URL.")
    assert "bundle" not in said.partition("(")[0], "the bundle is well"


@pytest.mark.usefixtures("s3")
def test_images_have_a_store_of_their_own(tmp_path: Path) -> None:
    said = why(tmp_path, images_url="s3://nowhere")
    assert said.endswith("look at DARKROOM_IMAGES_URL.")


@pytest.mark.parametrize("url", ["s3://", "file://", "ftp://a"])
def test_what_is_no_object_store(tmp_path: Path, url: str) -> None:
    assert why(tmp_path, store_url=url).startswith("DARKROOM_STORE_URL: ")


@pytest.mark.parametrize(("module", "extra"), [("psycopg", "postgres"), ("boto3", "s3"), ("botocore.exceptions", "s3")])
def test_a_library_that_is_not_installed(module: str, extra: str) -> None:
    with pytest.raises(CannotStart, match=rf"install 'darkroom\[{extra}\]'"), opening("DARKROOM_JOBS_URL"):
        raise ModuleNotFoundError(name=module)
    with pytest.raises(ModuleNotFoundError), opening("DARKROOM_JOBS_URL"):
        raise ModuleNotFoundError(name="darkroom.own")
