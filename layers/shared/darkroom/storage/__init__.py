"""ObjectStore: where bundles and images live; a directory on one machine, S3 or a compatible elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True)
class UploadUrl:
    """Where to PUT an object's bytes; the headers are part of what was signed."""

    url: str
    headers: dict[str, str]


class ObjectReader(Protocol):
    """What loading a bundle needs of an ObjectStore."""

    def get(self, key: str, *, limit: int | None = None) -> bytes:
        """The whole object. Raises ObjectTooLarge where it has more than `limit` bytes."""

    def fetch(self, key: str, destination: Path) -> Path:
        """A local file with the object's bytes: `destination`, written atomically, or the store's own file."""


class ObjectStore(ObjectReader, Protocol):
    """Keys are relative POSIX paths (`darkroom.storage.keys`); an invalid one is never found and cannot be written.

    Every write is whole or absent: no reader ever sees a part of an object.

    All methods raise StorageUnavailable when the store does not answer after bounded retries; reads raise
    ObjectNotFound; writes raise StorageFull. Implementations are safe to use from several threads.
    """

    def put(self, key: str, body: bytes | Path, *, content_type: str = "application/octet-stream") -> None:
        """Store an object, replacing one of the same key; a Path is streamed from disk."""

    def exists(self, key: str) -> bool: ...

    def keys(self, prefix: str) -> Iterator[str]:
        """All keys that start with `prefix`, sorted."""

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""

    def url(self, key: str, *, expires: int) -> str:
        """A signed URL that anyone may GET for `expires` seconds."""

    def upload_url(self, key: str, *, size: int, content_type: str, expires: int) -> UploadUrl:
        """A signed URL that anyone may PUT exactly `size` bytes of this type to, for `expires` seconds."""


def open_store(url: str, *, public_url: str = "", signing_key: bytes = b"") -> ObjectStore:
    """The store that `url` names: `file:///path`, `file://relative/path` or a plain path; or `s3://bucket/prefix`.

    `public_url` and `signing_key` serve the directory store only: its signed URLs are `{public_url}/objects/{key}?...`.
    S3's endpoint, region and addressing come from the environment (see `darkroom.storage.s3`).
    """
    scheme = urlsplit(url).scheme if "://" in url else "file"
    if scheme not in _STORES:
        raise ValueError(f"no object store for {scheme}://; use one of {', '.join(_STORES)}")
    return _STORES[scheme](url, public_url, signing_key)


def _directory(url: str, public_url: str, signing_key: bytes) -> ObjectStore:
    from darkroom.storage.directory import DirectoryStore

    path = unquote(url.removeprefix("file://")) if url.startswith("file://") else url
    return DirectoryStore(Path(path), public_url=public_url, signing_key=signing_key)


def _s3(url: str, _public_url: str, _signing_key: bytes) -> ObjectStore:
    from darkroom.storage.s3 import S3Store

    parts = urlsplit(url)
    return S3Store(bucket=parts.netloc, prefix=parts.path.strip("/"))


_STORES: dict[str, Callable[[str, str, bytes], ObjectStore]] = {"file": _directory, "s3": _s3}
