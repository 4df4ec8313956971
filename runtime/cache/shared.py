"""The tier that replicas share: a log of small immutable segments in the object store."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence

from darkroom.errors import DarkroomError, ObjectNotFound
from darkroom.storage import ObjectStore

PREFIX = "cache/"
_LENGTH = struct.Struct("<I")
_SUFFIX = ".latents"
_RECORDS = 64  # in one segment: fewer requests to the store, each still small


class SharedLog:
    """What this replica remembers, for the others; what the others remember, for this one. One thread at a time.

    A segment is `cache/{model}/{version}/{time}-{bytes}-{replica}.latents` and holds records, which carry their own
    checksums. The oldest segments are removed beyond the byte budget, by whoever looks; removing one twice, or reading
    one that has gone, is no fault. Nothing here raises for what a store does.
    """

    def __init__(
        self,
        store: ObjectStore,
        model: str,
        version: str,
        replica: str,
        budget: int,
        failed: Callable[[], object] = lambda: None,
    ) -> None:
        """`replica` is a name that no other replica has; `budget` is in bytes; `failed` is told of each failure."""
        self._store = store
        self._prefix = f"{PREFIX}{model}/{version}/"
        self._replica = replica
        self._budget = budget
        self._failed = failed
        self._seen: set[str] = set()

    def publish(self, records: Sequence[bytes], now: float) -> None:
        """Store records; `now` is the wall clock in seconds since the epoch."""
        for start in range(0, len(records), _RECORDS):
            body = b"".join(_LENGTH.pack(len(one)) + one for one in records[start : start + _RECORDS])
            name = f"{int(now * 1000):015d}-{len(body):010d}-{self._replica}-{start // _RECORDS}{_SUFFIX}"
            self._seen.add(self._prefix + name)
            try:
                self._store.put(self._prefix + name, body)
            except DarkroomError:  # unavailable or full: the others do without
                self._failed()

    def news(self) -> Iterator[bytes]:
        """Records of segments not read before, of the newest segment first; removes segments beyond the budget."""
        try:
            keys = sorted(self._store.keys(self._prefix), reverse=True)
        except DarkroomError:
            self._failed()
            return
        self._seen &= set(keys)
        room = self._budget
        for key in keys:
            room -= _size(key)
            if room < 0:
                self._remove(key)
            elif key not in self._seen:
                self._seen.add(key)
                yield from self._read(key)

    def _read(self, key: str) -> Iterator[bytes]:
        try:
            body = self._store.get(key)
        except ObjectNotFound:
            return
        except DarkroomError:
            self._failed()
            self._seen.discard(key)  # to be tried again
            return
        at = 0
        while at + _LENGTH.size <= len(body):
            (length,) = _LENGTH.unpack_from(body, at)
            at += _LENGTH.size
            yield body[at : at + length]
            at += length

    def _remove(self, key: str) -> None:
        self._seen.discard(key)
        try:
            self._store.delete(key)
        except DarkroomError:
            self._failed()


def _size(key: str) -> int:
    """As its name says; 0 for a name that is not ours, which then is never in the way."""
    parts = key.rpartition("/")[2].split("-")
    return int(parts[1]) if len(parts) > 2 and parts[1].isdigit() else 0
