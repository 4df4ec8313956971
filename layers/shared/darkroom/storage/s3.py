"""S3Store: objects in a bucket of S3, Tencent COS or any other S3-compatible service.

Credentials are found as boto3 always finds them (environment, profile, role), or are given beside them. The rest comes
from the environment too, in the words of the service, not under `DARKROOM_`, because build stage, runtime and API share
one store:

    S3_ENDPOINT_URL       another service than AWS, such as https://cos.ap-guangzhou.myqcloud.com; default: AWS
    S3_ACCESS_KEY_ID      with S3_SECRET_ACCESS_KEY: for that service alone, where the other credentials are AWS's (a
    S3_SECRET_ACCESS_KEY  Lambda function has a role, and its variables AWS_* are not ours to set)
    S3_REGION             default: AWS_REGION, or as boto3 finds it (AWS_DEFAULT_REGION, profile), else us-east-1
    S3_ADDRESSING_STYLE   virtual | path | auto (default: virtual on AWS, elsewhere path). COS wants virtual; MinIO and
                          most local servers want path
    S3_CHECKSUMS          when_required (default) | when_supported. Over https boto3's own default streams an
                          aws-chunked body with a checksum trailer, which COS and others refuse
    S3_CONNECT_SECONDS    default 5
    S3_READ_SECONDS       default 30
    S3_ATTEMPTS           tries of one call, the first included; default 4
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from darkroom.errors import ObjectNotFound, ObjectTooLarge, StorageFull, StorageUnavailable
from darkroom.retry import Retry
from darkroom.storage import keys as object_keys
from darkroom.storage.session_expiry import capped
from darkroom.storage.store import UploadUrl
from darkroom.storage.system_errors import translated

_PART = 64 << 20  # bytes held in memory at once; S3 allows parts of 5 MiB to 5 GiB
_CHUNK = 1 << 20
_MISSING = {"NoSuchKey", "404", "NotFound"}
_ELSEWHERE = ("S3_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")  # the last two are boto3's own
_FULL = {"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "507"}

Response = TypeVar("Response")


class S3Store:
    """An ObjectStore in one bucket, below `prefix`.

    An upload carries the MD5 of its bytes, which the service checks before the object appears, and its size is looked
    up afterwards. What does not fit into one part is a multipart upload, which appears as a whole or not at all.
    `environment` (default: the process's) is read, and boto3 imported, on the first call. A URL works for as long as
    was asked, or until the session that signed it ends; `wall` gives seconds since the epoch.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        environment: Mapping[str, str] | None = None,
        part_bytes: int = _PART,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._environment = os.environ if environment is None else environment
        self._rereading = Retry(int(self._environment.get("S3_ATTEMPTS", "4")))
        self._part_bytes = part_bytes
        self._wall = wall
        self._connected: Any = None
        self._connecting = threading.Lock()

    # ---- ObjectStore ----------------------------------------------------------------------------------------------

    def put(self, key: str, body: bytes | Path, *, content_type: str = "application/octet-stream") -> None:
        place = self._place(object_keys.check(key))
        if isinstance(body, bytes):
            size = len(body)
            self._put_whole(place, body, content_type)
        else:
            with body.open("rb") as source:
                size = os.fstat(source.fileno()).st_size
                if size <= self._part_bytes:
                    self._put_whole(place, source.read(), content_type)
                else:
                    self._put_parts(place, source, content_type)
        with _translated():
            stored = self._client.head_object(**place)["ContentLength"]
        if stored != size:
            raise StorageUnavailable("The object store kept only a part of an upload.")

    def get(self, key: str, *, limit: int | None = None) -> bytes:
        def read(body: Any) -> bytes:
            content: bytes = body.read() if limit is None else body.read(limit + 1)
            if limit is not None and len(content) > limit:
                raise ObjectTooLarge
            return content

        return self._reading(key, read)

    def fetch(self, key: str, destination: Path) -> Path:
        def download(body: Any) -> Path:
            with translated():
                destination.parent.mkdir(parents=True, exist_ok=True)
                descriptor, partial = tempfile.mkstemp(dir=destination.parent, prefix=f".{destination.name}.")
                try:
                    with os.fdopen(descriptor, "wb") as sink:
                        shutil.copyfileobj(body, sink, _CHUNK)
                    Path(partial).replace(destination)
                except BaseException:
                    Path(partial).unlink(missing_ok=True)
                    raise
            return destination

        return self._reading(key, download)

    def exists(self, key: str) -> bool:
        try:
            with _translated():
                self._client.head_object(**self._place(key))
        except ObjectNotFound:
            return False
        return True

    def keys(self, prefix: str) -> Iterator[str]:
        for key, _ in self._listed(prefix):
            yield key

    def sizes(self, prefix: str) -> Iterator[int]:
        for _, entry in self._listed(prefix):
            yield entry["Size"]

    def changed_before(self, prefix: str, when: float) -> Iterator[str]:
        for key, entry in self._listed(prefix):
            if entry["LastModified"].timestamp() < when:
                yield key

    def _listed(self, prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Keys, and what the listing says of each."""
        with _translated():
            # The first version of the listing: every compatible service has it, and it sorts alike.
            pages = self._client.get_paginator("list_objects")
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix + prefix):
                for entry in page.get("Contents", ()):
                    key = entry["Key"].removeprefix(self._prefix)
                    if object_keys.is_valid(key):  # consoles make `folder/` objects
                        yield key, entry

    def delete(self, key: str) -> None:
        if object_keys.is_valid(key):
            with _translated():
                self._client.delete_object(**self._place(key))

    def url(self, key: str, *, expires: int) -> str:
        return self._signed("get_object", self._place(object_keys.check(key)), expires)

    def upload_url(self, key: str, *, size: int, content_type: str, expires: int) -> UploadUrl:
        """Length and type are among the signed headers: the service refuses any other body.

        S3 itself takes it once (`If-None-Match: *`); not every other service knows that condition.
        """
        signed_headers: dict[str, object] = {"ContentLength": size, "ContentType": content_type}
        headers = {"Content-Type": content_type, "Content-Length": str(size)}
        if not self._environment.get("S3_ENDPOINT_URL"):
            signed_headers["IfNoneMatch"] = headers["If-None-Match"] = "*"
        place = self._place(object_keys.check(key))
        return UploadUrl(self._signed("put_object", place | signed_headers, expires), headers)

    # ---- calls ----------------------------------------------------------------------------------------------------

    @property
    def _client(self) -> Any:
        with self._connecting:
            if self._connected is None:
                self._connected = connect(self._environment)
            return self._connected

    def _signed(self, operation: str, arguments: Mapping[str, object], expires: int) -> str:
        with _translated():
            seconds = capped(expires, self._client._request_signer._credentials, self._wall())
            url: str = self._client.generate_presigned_url(operation, Params=arguments, ExpiresIn=seconds)
        return url

    def _place(self, key: str) -> dict[str, str]:
        if not object_keys.is_valid(key):
            raise ObjectNotFound
        return {"Bucket": self._bucket, "Key": self._prefix + key}

    def _put_whole(self, place: dict[str, str], body: bytes, content_type: str) -> None:
        with _translated():
            self._client.put_object(**place, Body=body, ContentType=content_type, ContentMD5=_md5(body))

    def _put_parts(self, place: dict[str, str], source: BinaryIO, content_type: str) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        with _translated():
            upload = self._client.create_multipart_upload(**place, ContentType=content_type)["UploadId"]
            try:
                parts: list[dict[str, Any]] = []
                while part := source.read(self._part_bytes):
                    number = len(parts) + 1
                    sent = self._client.upload_part(
                        **place, UploadId=upload, PartNumber=number, Body=part, ContentMD5=_md5(part)
                    )
                    parts.append({"PartNumber": number, "ETag": sent["ETag"]})
                self._client.complete_multipart_upload(**place, UploadId=upload, MultipartUpload={"Parts": parts})
            except BaseException:
                with suppress(BotoCoreError, ClientError):  # what made the upload fail is the news
                    self._client.abort_multipart_upload(**place, UploadId=upload)
                raise

    def _reading(self, key: str, consume: Callable[[Any], Response]) -> Response:
        """botocore retries a call until its headers are there; a body that breaks off is read again from here."""
        place = self._place(key)

        def attempt() -> Response:
            with _translated():
                body = self._client.get_object(**place)["Body"]
            with _translated(broken=_BrokenOff), closing(body):
                return consume(body)

        return self._rereading.call(attempt, on=_BrokenOff)


class _BrokenOff(StorageUnavailable):
    """The answer had begun, and its body did not come to its end."""


def connect(environment: Mapping[str, str]) -> Any:
    """A boto3 client, safe to use from several threads; this module's docstring lists what `environment` may say."""
    import boto3
    from botocore.config import Config

    checksums = environment.get("S3_CHECKSUMS", "when_required")
    style = environment.get("S3_ADDRESSING_STYLE") or "auto"
    if style == "auto" and not any(environment.get(name) for name in _ELSEWHERE):
        style = "virtual"
    config = Config(
        signature_version="s3v4",
        # `auto` signs URLs for the global host: other regions redirect, or refuse, and the signature was of that host.
        s3={"addressing_style": style, "us_east_1_regional_endpoint": "regional"},
        request_checksum_calculation=checksums,
        response_checksum_validation=checksums,
        connect_timeout=float(environment.get("S3_CONNECT_SECONDS", "5")),
        read_timeout=float(environment.get("S3_READ_SECONDS", "30")),
        retries={"mode": "standard", "total_max_attempts": int(environment.get("S3_ATTEMPTS", "4"))},
        max_pool_connections=16,
    )
    session = boto3.session.Session()  # the default session may not be shared between threads
    return session.client(
        "s3",
        endpoint_url=environment.get("S3_ENDPOINT_URL") or None,
        region_name=environment.get("S3_REGION")
        or environment.get("AWS_REGION")  # what Lambda sets, and boto3 does not read
        or session.region_name
        or "us-east-1",
        aws_access_key_id=environment.get("S3_ACCESS_KEY_ID") or None,
        aws_secret_access_key=environment.get("S3_SECRET_ACCESS_KEY") or None,
        config=config,
    )


@contextmanager
def _translated(broken: type[StorageUnavailable] = StorageUnavailable) -> Iterator[None]:
    """botocore's errors in ours; `broken` stands for its own, which no service has answered."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as refused:
        code = refused.response.get("Error", {}).get("Code", "")
        if code in _MISSING:
            raise ObjectNotFound from refused
        raise (StorageFull if code in _FULL else StorageUnavailable) from refused
    except BotoCoreError as failed:
        raise broken from failed


def _md5(body: bytes) -> str:
    """Content-MD5 (RFC 1864): protects against damage on the way, not against an attacker."""
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
