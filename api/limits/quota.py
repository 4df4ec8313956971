"""How many bytes of uploads a tenant may have in the images' store at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from darkroom.errors import RateLimited
from darkroom.images import uploads
from darkroom.storage import ObjectStore

_FRESH_SECONDS = 60.0  # a listing costs; what this process adds meanwhile it counts by itself
_RETRY_SECONDS = 600
_LEAST_BYTES = 65_536  # an upload counts as much at least, so that there are not too many to list


@dataclass
class _Known:
    looked_at: float
    used: int


class UploadQuota:
    """At most `most` bytes for each tenant; of several processes each may exceed it by what it gives in a minute.

    A place that was given counts as if the upload had been sent, until the store is looked at anew.
    """

    def __init__(self, store: ObjectStore, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._most = most
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._lock = threading.Lock()

    def take(self, tenant: str, sizes: Iterable[int]) -> None:
        """Count so many bytes more. Raises: RateLimited, and nothing is counted; StorageUnavailable."""
        known, now = self._known.get(tenant), self._clock()
        if known is None or now - known.looked_at >= _FRESH_SECONDS:
            # Outside the lock: nobody waits for another's listing.
            known = self._known[tenant] = _Known(now, _counted(self._store.sizes(uploads.folder(tenant))))
        size = _counted(sizes)
        with self._lock:
            if known.used + size > self._most:
                detail = f"Uploads of one tenant may take {self._most} bytes together; each is deleted after a while."
                raise RateLimited(detail, retry_after=_RETRY_SECONDS)
            known.used += size

    def give_back(self, tenant: str, sizes: Iterable[int]) -> None:
        """What was counted is not kept."""
        if known := self._known.get(tenant):
            with self._lock:
                known.used -= _counted(sizes)


def _counted(sizes: Iterable[int]) -> int:
    return sum(max(size, _LEAST_BYTES) for size in sizes)
