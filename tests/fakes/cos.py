"""Tencent COS as far as a client can be seen from outside: requests signed for its https endpoint, answered in memory.

boto3 signs what it would send; `before-send` is where we answer instead of the network. What COS refuses is refused.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from botocore.awsrequest import AWSResponse

REGION = "ap-guangzhou"
ENDPOINT = f"https://cos.{REGION}.myqcloud.com"
KEY_ID = "AKIDofcos"
_HOST = re.compile(rf"([a-z0-9-]+-\d+)\.cos\.{REGION}\.myqcloud\.com")
_TRAILERS = {"x-amz-trailer", "x-amz-decoded-content-length", "x-amz-sdk-checksum-algorithm", "transfer-encoding"}


class _Raw:
    """The body of an answer, as botocore reads it."""

    def __init__(self, body: bytes) -> None:
        self._left = body

    def stream(self, **_: object) -> Iterator[bytes]:
        yield self.read()

    def read(self, amount: int | None = None, **_: object) -> bytes:
        amount = len(self._left) if amount is None else amount
        taken, self._left = self._left[:amount], self._left[amount:]
        return taken

    def close(self) -> None:
        pass


class Cos:
    """Buckets in memory: bucket -> key -> body. `asked` has method, bucket and key of each request that was taken."""

    def __init__(self) -> None:
        self.buckets: dict[str, dict[str, bytes]] = {}
        self.asked: list[tuple[str, str, str]] = []

    def __call__(self, request: Any, **_: object) -> AWSResponse:
        status, headers, body = self._answer(request)
        return AWSResponse(request.url, status, headers, _Raw(body))

    def _answer(self, request: Any) -> tuple[int, dict[str, str], bytes]:
        parts = urlsplit(request.url)
        headers = {
            name.lower(): value.decode() if isinstance(value, bytes) else str(value)
            for name, value in request.headers.items()
        }
        host = _HOST.fullmatch(parts.netloc)
        scope = f"Credential={KEY_ID}/\\d{{8}}/{REGION}/s3/aws4_request"
        if parts.scheme != "https" or not host:  # a path-style address names no bucket in its host
            return _refused(400, "InvalidURI")
        if not re.search(scope, headers.get("authorization", "")):
            return _refused(403, "SignatureDoesNotMatch")
        if "aws-chunked" in headers.get("content-encoding", "") or _TRAILERS & set(headers):
            return _refused(400, "InvalidArgument")
        bucket, key = host[1], unquote(parts.path).removeprefix("/")
        self.asked.append((request.method, bucket, key))
        objects = self.buckets.setdefault(bucket, {})
        if request.method == "PUT":
            body = request.body if isinstance(request.body, bytes) else request.body.read()
            if headers["content-md5"] != base64.b64encode(hashlib.md5(body).digest()).decode():  # noqa: S324
                return _refused(400, "BadDigest")
            objects[key] = body
            return 200, {"ETag": '"x"'}, b""
        if not key:
            return 200, {"Content-Type": "application/xml"}, _listing(objects, parse_qs(parts.query))
        if key not in objects:
            return _refused(404, "NoSuchKey")
        body = objects[key]
        return 200, {"Content-Length": str(len(body))}, b"" if request.method == "HEAD" else body


def _refused(status: int, code: str) -> tuple[int, dict[str, str], bytes]:
    return status, {}, f"<Error><Code>{code}</Code></Error>".encode()


def _listing(objects: dict[str, bytes], query: dict[str, list[str]]) -> bytes:
    (prefix,) = query.get("prefix", [""])
    found = "".join(
        f"<Contents><Key>{escape(key)}</Key><Size>{len(objects[key])}</Size></Contents>"
        for key in sorted(objects)
        if key.startswith(prefix)
    )
    return f"<ListBucketResult><IsTruncated>false</IsTruncated>{found}</ListBucketResult>".encode()
