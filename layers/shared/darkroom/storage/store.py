"""What every object store owes: whole objects under relative keys, and URLs that are signed for a while."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


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

    def sizes(self, prefix: str) -> Iterator[int]:
        """The bytes of each object whose key starts with `prefix`."""

    def changed_before(self, prefix: str, when: float) -> Iterator[str]:
        """The keys that start with `prefix` whose objects were last written before an instant (epoch seconds)."""

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""

    def url(self, key: str, *, expires: int) -> str:
        """A signed URL that anyone may GET for `expires` seconds."""

    def upload_url(self, key: str, *, size: int, content_type: str, expires: int) -> UploadUrl:
        """A signed URL that anyone may PUT exactly `size` bytes of this type to, for `expires` seconds."""
