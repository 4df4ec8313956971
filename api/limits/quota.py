"""How many bytes of uploads a tenant may have in the images' store at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from darkroom.errors import RateLimited
from darkroom.images import uploads
from darkroom.storage import ObjectStore

_FRESH_SECONDS = 60.0  # a listing costs; what this process adds meanwhile it counts by itself
_RETRY_SECONDS = 600


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

    def take(self, tenant: str, size: int) -> None:
        """Count so many bytes more. Raises: RateLimited, and nothing is counted; StorageUnavailable."""
        with self._lock:  # of a tenant's requests that come together one looks
            now, known = self._clock(), self._known.get(tenant)
            if known is None or now - known.looked_at >= _FRESH_SECONDS:
                known = self._known[tenant] = _Known(now, self._store.size(uploads.folder(tenant)))
            if known.used + size > self._most:
                detail = f"Uploads of one tenant may take {self._most} bytes together; each is deleted after a while."
                raise RateLimited(detail, retry_after=_RETRY_SECONDS)
            known.used += size

    def give_back(self, tenant: str, size: int) -> None:
        """What was counted is not kept."""
        with self._lock:
            if known := self._known.get(tenant):
                known.used -= size
