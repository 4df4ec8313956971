"""JobStore: the control plane's memory of accepted requests, and the queue that workers claim them from."""

from __future__ import annotations

from urllib.parse import urlsplit

from darkroom.jobs.store import Accepted, Idempotency, JobStore, Lease

__all__ = ["Accepted", "Idempotency", "JobStore", "Lease", "open_jobs"]


def open_jobs(
    url: str,
    *,
    max_queued: int = 1000,
    max_tenant_queued: int | None = None,
    max_attempts: int = 3,
    lease_seconds: float = 10.0,
    keep_seconds: float = 30 * 86_400.0,
) -> JobStore:
    """The store that `url` names: `dynamodb://table`, or any SQLAlchemy URL, such as `sqlite:////path/jobs.db` or
    `postgresql+psycopg://...`.

    `keep_seconds` is how long DynamoDB remembers a finished job; a database is told by `purge`. A database bounds each
    tenant's share of the queue too (default: all of it).
    """
    parts = urlsplit(url)
    scheme = parts.scheme.partition("+")[0]
    if scheme in ("sqlite", "postgresql"):
        from darkroom.jobs.sql import SqlJobStore

        return SqlJobStore(
            url,
            max_queued=max_queued,
            max_tenant_queued=max_tenant_queued,
            max_attempts=max_attempts,
            lease_seconds=lease_seconds,
        )
    if scheme == "dynamodb":
        from darkroom.jobs.dynamodb import DynamoJobStore

        return DynamoJobStore(
            parts.netloc,
            max_queued=max_queued,
            max_attempts=max_attempts,
            lease_seconds=lease_seconds,
            keep_seconds=keep_seconds,
        )
    raise ValueError(f"no job store for {scheme}://; use one of sqlite, postgresql, dynamodb")
