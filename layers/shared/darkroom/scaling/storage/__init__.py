"""Where scaling policies are kept: one for each model, with a version, an audit, and a fence for who carries it out."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from darkroom.scaling.storage.store import Change, Document, PolicyStore, StoredPolicy

__all__ = ["Change", "Document", "PolicyStore", "StoredPolicy", "open_policies"]


def open_policies(url: str) -> PolicyStore:
    """The store in the jobs' database that `url` names, or in a DynamoDB table of its own (see
    `darkroom.jobs.open_jobs`)."""
    scheme = urlsplit(url).scheme.partition("+")[0]
    if scheme not in _STORES:
        raise ValueError(f"no policy store for {scheme}://; use one of {', '.join(_STORES)}")
    return _STORES[scheme](url)


def _sql(url: str) -> PolicyStore:
    from darkroom.scaling.storage.sql import SqlPolicyStore

    return SqlPolicyStore(url)


def _dynamodb(url: str) -> PolicyStore:
    from darkroom.scaling.storage.dynamodb import DynamoPolicyStore

    return DynamoPolicyStore(urlsplit(url).netloc)


_STORES: dict[str, Callable[[str], PolicyStore]] = {"sqlite": _sql, "postgresql": _sql, "dynamodb": _dynamodb}
