"""LeaseWatch: which workers have fallen silent, measured on the watcher's own monotonic clock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

Sight = tuple[str, int]  # (token, beat) as last read from the store


class LeaseWatch:
    """Remembers since when each running job has looked the same.

    No timestamp of another machine is ever compared: a beat that does not move for `lease_seconds` of this watcher's
    `monotonic` clock (seconds) is silence, whatever any wall clock says. A watcher that has just started
    therefore waits a full lease time from its own first look.
    """

    def __init__(self, lease_seconds: float, monotonic: Callable[[], float]) -> None:
        self._lease_seconds = lease_seconds
        self._monotonic = monotonic
        self._seen: dict[str, tuple[Sight, float]] = {}
        self._lock = threading.Lock()

    def silent(self, running: Mapping[str, Sight]) -> dict[str, Sight]:
        """Record a look at all running jobs (id -> sight); returns those that were silent too long, in their order."""
        with self._lock:
            now = self._monotonic()
            self._seen = {
                job_id: before if (before := self._seen.get(job_id)) and before[0] == sight else (sight, now)
                for job_id, sight in running.items()
            }
            return {
                job_id: sight for job_id, (sight, since) in self._seen.items() if now - since >= self._lease_seconds
            }
