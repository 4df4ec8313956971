"""Places for work that takes memory and a processor, shared among tenants."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class Slots:
    """At most `most` are taken at once; nobody gets a second one while another tenant waits for a first."""

    def __init__(self, most: int) -> None:
        self._free = most
        self._held: Counter[str] = Counter()
        self._waiting: Counter[str] = Counter()
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, tenant: str) -> Iterator[None]:
        """Blocks until there is one."""
        with self._changed:
            self._waiting[tenant] += 1
            try:
                self._changed.wait_for(lambda: self._may(tenant))
            finally:
                _less(self._waiting, tenant)
            self._free -= 1
            self._held[tenant] += 1
        try:
            yield
        finally:
            with self._changed:
                self._free += 1
                _less(self._held, tenant)
                self._changed.notify_all()

    def _may(self, tenant: str) -> bool:
        others = any(other not in self._held for other in self._waiting if other != tenant)
        return self._free > 0 and not (others and tenant in self._held)


def _less(counter: Counter[str], tenant: str) -> None:
    counter[tenant] -= 1
    if not counter[tenant]:
        del counter[tenant]
