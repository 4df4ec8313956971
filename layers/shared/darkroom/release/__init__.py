"""Releases: which versions of a model its endpoint runs, and how it comes to run others."""

from __future__ import annotations

from urllib.parse import urlsplit

from darkroom.release.storage import ReleaseStore


def open_releases(url: str) -> ReleaseStore | None:
    """The store in the table of scaling policies that `url` names; None where policies are not kept in DynamoDB.

    Elsewhere nothing is released step by step: a runtime loads what the pointer names when it starts.
    """
    parts = urlsplit(url)
    if parts.scheme != "dynamodb":
        return None
    from darkroom.release.dynamodb import DynamoReleaseStore

    return DynamoReleaseStore(parts.netloc)
