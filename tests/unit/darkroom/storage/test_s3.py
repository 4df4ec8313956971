"""What the S3 store really sends, seen on botocore's `before-send` event for an https endpoint, without sending it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from botocore.awsrequest import AWSResponse

from darkroom.errors import DarkroomError, ObjectNotFound, StorageFull, StorageUnavailable
from darkroom.storage.s3 import S3Store

COS = {
    "S3_ENDPOINT_URL": "https://cos.ap-guangzhou.myqcloud.com",
    "S3_REGION": "ap-guangzhou",
    "S3_ADDRESSING_STYLE": "virtual",
    "S3_ATTEMPTS": "1",
}


class Raw:
    """The body of an answer, as botocore reads it."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    def stream(self, **_: object) -> Iterator[bytes]:
        yield self.body


class Wire:
    """Answers every request of a store's client from a script, and keeps what was asked."""

    def __init__(self, store: S3Store) -> None:
        self.sent: list[Any] = []
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        store._client.meta.events.register("before-send.s3.*", self)

    def __call__(self, request: Any, **_: object) -> AWSResponse:
        self.sent.append(request)
        status, headers, body = self.answers.pop(0)
        return AWSResponse(request.url, status, headers, Raw(body))


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


@pytest.fixture
def store() -> S3Store:
    return S3Store("images-1250000000", "darkroom", environment=COS, part_bytes=8)


@pytest.fixture
def wire(store: S3Store) -> Wire:
    return Wire(store)


def test_an_upload_is_one_signed_body_that_cos_takes(store: S3Store, wire: Wire) -> None:
    wire.answers = [(200, {"ETag": '"x"'}, b""), (200, {"Content-Length": "3"}, b"")]
    store.put("images/1/0.png", b"PNG", content_type="image/png")
    put, head = wire.sent
    assert put.url == "https://images-1250000000.cos.ap-guangzhou.myqcloud.com/darkroom/images/1/0.png"
    headers = {
        name.lower(): value.decode() if isinstance(value, bytes) else value for name, value in put.headers.items()
    }
    assert headers["content-type"] == "image/png"
    assert headers["content-length"] == "3"
    assert headers["content-md5"] == base64.b64encode(hashlib.md5(b"PNG").digest()).decode()  # noqa: S324
    assert headers["authorization"].startswith("AWS4-HMAC-SHA256")
    assert not {"content-encoding", "x-amz-trailer", "transfer-encoding", "x-amz-decoded-content-length"} & set(headers)
    assert not any(name.startswith("x-amz-checksum") or name == "x-amz-sdk-checksum-algorithm" for name in headers)
    assert head.method == "HEAD"


def test_a_service_may_have_credentials_of_its_own_beside_a_role(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of the role")
    own = {"S3_ACCESS_KEY_ID": "cos-id", "S3_SECRET_ACCESS_KEY": "cos-secret"}
    address = S3Store("images-1250000000", environment=COS | own).url("a", expires=60)
    assert "cos-id" in address
    assert "Security-Token" not in address
    # Empty, as a template sets them where there is none.
    empty = {"S3_ACCESS_KEY_ID": "", "S3_SECRET_ACCESS_KEY": ""}
    assert "Security-Token" in S3Store("images-1250000000", environment=COS | empty).url("a", expires=60)


def test_parts_of_a_large_file_are_each_protected(store: S3Store, wire: Wire, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"0123456789abcdefXY")
    begun = b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
    ended = b"<CompleteMultipartUploadResult><Key>k</Key></CompleteMultipartUploadResult>"
    part = (200, {"ETag": '"x"'}, b"")
    wire.answers = [(200, {}, begun), part, part, part, (200, {}, ended), (200, {"Content-Length": "18"}, b"")]
    store.put("large", tmp_path / "large")
    bodies = [request.body.read() for request in wire.sent[1:4]]
    assert bodies == [b"01234567", b"89abcdef", b"XY"]
    for request, body in zip(wire.sent[1:4], bodies, strict=True):
        assert request.headers["Content-MD5"] == base64.b64encode(hashlib.md5(body).digest())  # noqa: S324
        assert not any(name.lower().startswith("x-amz-checksum") for name in request.headers)


def test_a_large_upload_that_fails_is_given_up_whole(store: S3Store, wire: Wire, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"0123456789")
    begun = b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
    wire.answers = [(200, {}, begun), (200, {"ETag": '"x"'}, b""), (500, {}, b""), (204, {}, b"")]
    with pytest.raises(StorageUnavailable):
        store.put("large", tmp_path / "large")
    assert [request.method for request in wire.sent] == ["POST", "PUT", "PUT", "DELETE"]


def test_an_upload_that_was_cut_is_noticed(store: S3Store, wire: Wire) -> None:
    wire.answers = [(200, {"ETag": '"x"'}, b""), (200, {"Content-Length": "2"}, b"")]
    with pytest.raises(StorageUnavailable, match="part"):
        store.put("a", b"PNG")


def test_objects_are_deleted_one_by_one(store: S3Store, wire: Wire) -> None:
    wire.answers = [(204, {}, b"")]
    store.delete("a")
    (request,) = wire.sent
    assert (request.method, urlsplit(request.url).path, urlsplit(request.url).query) == ("DELETE", "/darkroom/a", "")


def test_a_signed_url_is_virtual_hosted_and_expires(store: S3Store, wire: Wire) -> None:
    url = urlsplit(store.url("images/1/0.png", expires=60))
    assert (url.hostname, url.path) == ("images-1250000000.cos.ap-guangzhou.myqcloud.com", "/darkroom/images/1/0.png")
    query = parse_qs(url.query)
    assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert query["X-Amz-Expires"] == ["60"]
    assert query["X-Amz-SignedHeaders"] == ["host"]
    assert "x-amz-checksum-mode" not in {name.lower() for name in query}
    assert not wire.sent


def error(status: int, code: str) -> tuple[int, dict[str, str], bytes]:
    return status, {}, f"<Error><Code>{code}</Code><Message>at 10.0.0.1</Message></Error>".encode()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (error(404, "NoSuchKey"), ObjectNotFound),
        (error(404, "NoSuchBucket"), StorageUnavailable),
        (error(403, "AccessDenied"), StorageUnavailable),
        (error(503, "SlowDown"), StorageUnavailable),
        (error(507, "XMinioStorageFull"), StorageFull),
        ((507, {}, b""), StorageFull),
        ((500, {}, b"<html>"), StorageUnavailable),
    ],
)
def test_the_services_errors_in_ours(
    store: S3Store, wire: Wire, answer: tuple[int, dict[str, str], bytes], expected: type[DarkroomError]
) -> None:
    wire.answers = [answer]
    with pytest.raises(expected) as failed:
        store.get("a")
    assert failed.value.detail == expected.title
    assert len(wire.sent) == 1


def test_without_credentials_the_store_is_unavailable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    store = S3Store("bucket", environment=COS)
    with pytest.raises(StorageUnavailable):
        store.get("a")
    with pytest.raises(StorageUnavailable):
        store.url("a", expires=60)
