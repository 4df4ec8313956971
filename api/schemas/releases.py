"""A release: what a request asks for, and how far it has come."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AwareDatetime, Field

from api.schemas import Document
from darkroom.bundles.manifest import VERSION
from darkroom.contracts import Contract
from darkroom.errors import ReleaseNotFound
from darkroom.release.state import Phase, TrafficSplit
from darkroom.release.storage import LoggedRequest, StoredRelease

Version = Annotated[str, Field(pattern=VERSION)]


class Share(Contract):
    """A second version, and how many of a hundred requests it gets."""

    version: Version
    percent: Annotated[int, Field(ge=1, le=99)]


class ReleaseRequest(Contract):
    """The version that is to be served, and another one beside it (a real-time endpoint only)."""

    version: Version
    beside: Share | None = None


class ReleaseChange(Document):
    """Who asked for what."""

    number: int
    at: AwareDatetime
    by: str
    asked: ReleaseRequest


class ReleaseChanges(Document):
    changes: Annotated[list[ReleaseChange], Field(description="oldest first")]


class ReleaseDocument(Document):
    """What is served, what is on its way, and where a rollback leads."""

    model: str
    phase: Annotated[Phase, Field(description="settled: `goal` runs; stuck: somebody must look")]
    since: Annotated[AwareDatetime, Field(description="of the phase")]
    goal: Annotated[ReleaseRequest, Field(description="what runs, or is to run")]
    proven: Annotated[ReleaseRequest, Field(description="what ran last and was found good")]
    rollback: Annotated[str | None, Field(description="the version that a rollback leads to")] = None
    asked: Annotated[ReleaseRequest | None, Field(description="a request that is not taken up yet")] = None
    why: Annotated[str | None, Field(description="the last failure")] = None
    failed: Annotated[ReleaseRequest | None, Field(description="what it was of")] = None


def release_document(stored: StoredRelease) -> ReleaseDocument:
    """Raises: ReleaseNotFound, where nobody has looked at the endpoint yet."""
    release, request = stored.release, stored.request
    if release is None:
        raise ReleaseNotFound
    target = release.rollback
    pending = request is not None and request.number > release.answered
    return ReleaseDocument(
        model=stored.model,
        phase=release.phase,
        since=datetime.fromtimestamp(release.since, UTC),
        goal=_written(release.goal),
        proven=_written(release.proven),
        rollback=target.version if target else None,
        asked=_written(request.traffic) if request is not None and pending else None,
        why=release.why or None,
        failed=_written(release.failed) if release.failed else None,
    )


def changes_document(history: Sequence[LoggedRequest]) -> ReleaseChanges:
    return ReleaseChanges(
        changes=[
            ReleaseChange(
                number=one.number, at=datetime.fromtimestamp(one.at, UTC), by=one.by, asked=_written(one.traffic)
            )
            for one in history
        ]
    )


def _written(traffic: TrafficSplit) -> ReleaseRequest:
    beside = Share(version=traffic.beside, percent=traffic.percent) if traffic.beside else None
    return ReleaseRequest(version=traffic.version, beside=beside)
