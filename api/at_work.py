"""Which jobs of a tenant somebody waits for in this process: what `progress` and `interrupt` are about."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class AtWork:
    """Lives on one event loop."""

    def __init__(self) -> None:
        self._jobs: defaultdict[str, list[str]] = defaultdict(list)

    @contextmanager
    def on(self, tenant: str, job_id: str) -> Iterator[None]:
        self._jobs[tenant].append(job_id)
        try:
            yield
        finally:
            self._jobs[tenant].remove(job_id)
            if not self._jobs[tenant]:
                del self._jobs[tenant]

    def of(self, tenant: str) -> list[str]:
        """Oldest first."""
        return list(self._jobs.get(tenant, ()))
