"""Every store that the contract suite runs against; S3 is a real HTTP server on a free loopback port."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from darkroom.storage import ObjectStore
from darkroom.storage.directory import DirectoryStore
from darkroom.storage.s3 import S3Store

_buckets = count()


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_environment(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    return {"S3_ENDPOINT_URL": s3_endpoint, "S3_REGION": "us-east-1", "S3_ADDRESSING_STYLE": "path"}


@pytest.fixture
def bucket(s3_environment: dict[str, str]) -> str:
    """A bucket of this test's own."""
    name = f"images-{next(_buckets)}"
    client = boto3.client("s3", endpoint_url=s3_environment["S3_ENDPOINT_URL"], region_name="us-east-1")
    client.create_bucket(Bucket=name)
    return name


@pytest.fixture(params=["directory", "s3", "s3 with a prefix, in parts"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "directory":
        return DirectoryStore(tmp_path / "objects", public_url="http://127.0.0.1:1", signing_key=b"key")
    bucket, environment = request.getfixturevalue("bucket"), request.getfixturevalue("s3_environment")
    if request.param == "s3":
        return S3Store(bucket, environment=environment)
    return S3Store(bucket, "some/prefix", environment=environment, part_bytes=5 << 20)
