"""Where scaling policies are kept: one for each model, with a version, an audit, and a fence for who carries it out."""

from __future__ import annotations

from urllib.parse import urlsplit

from darkroom.scaling.storage.store import Change, Document, PolicyStore, StoredPolicy

__all__ = ["Change", "Document", "PolicyStore", "StoredPolicy", "open_policies"]


def open_policies(url: str) -> PolicyStore:
    """The store in the jobs' database that `url` names, or in a DynamoDB table of its own (see
    `darkroom.jobs.open_jobs`)."""
    parts = urlsplit(url)
    scheme = parts.scheme.partition("+")[0]
    if scheme in ("sqlite", "postgresql"):
        from darkroom.scaling.storage.sql import SqlPolicyStore

        return SqlPolicyStore(url)
    if scheme == "dynamodb":
        from darkroom.scaling.storage.dynamodb import DynamoPolicyStore

        return DynamoPolicyStore(parts.netloc)
    raise ValueError(f"no policy store for {scheme}://; use one of sqlite, postgresql, dynamodb")
