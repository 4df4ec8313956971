"""Releases over HTTP: what a request asks for, and how far it has come as a document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, Field, ValidationError

from darkroom import strict_json
from darkroom.contracts import Contract
from darkroom.errors import EngineIntegrity, InvalidParameter, ModelNotFound, NothingToRollBack, ReleaseNotFound
from darkroom.manifest import VERSION
from darkroom.parsing import from_validation
from darkroom.release.state import Phase, TrafficSplit
from darkroom.release.storage import LoggedRequest, ReleaseStore, StoredRelease
from darkroom.settings import Settings
from functions import submission
from functions.documents import Document
from functions.manifests import Manifests

Version = Annotated[str, Field(pattern=VERSION)]
NOT_HERE = "Here a runtime loads the served version when it starts; python -m local.versions lists and changes it."


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


def known(store: ReleaseStore | None, model: str) -> StoredRelease:
    """Raises: ReleaseNotFound, where nothing is released step by step or nothing has been yet."""
    if store is None:
        raise ReleaseNotFound(NOT_HERE)
    stored = store.get(model)
    if stored is None or stored.release is None:
        raise ReleaseNotFound("The endpoint has not been looked at yet; that happens every minute once it exists.")
    return stored


def asked_for(
    event: Mapping[str, Any], headers: Mapping[str, str], model: str, manifests: Manifests, settings: Settings
) -> TrafficSplit:
    """What a PUT asks for; both versions are there.

    Raises: InvalidParameter; what `submission.body_of` and `from_validation` raise.
    """
    body = submission.body_of(event, headers, settings.max_body_bytes, curl_default=False)
    try:
        asked = ReleaseRequest.model_validate(strict_json.parse(body))
    except ValidationError as refused:
        raise from_validation(refused) from None
    _published(manifests, model, asked.version, "/version")
    if asked.beside is None:
        return TrafficSplit(asked.version)
    if settings.endpoint_type == "async":
        raise InvalidParameter(
            "An asynchronous endpoint runs one version at a time; deploy a real-time one to split traffic.",
            field="/beside",
        )
    if asked.beside.version == asked.version:
        raise InvalidParameter("Beside the version there must be another one.", field="/beside/version")
    _published(manifests, model, asked.beside.version, "/beside/version")
    return TrafficSplit(asked.version, asked.beside.version, asked.beside.percent)


def _published(manifests: Manifests, model: str, version: str, field: str) -> None:
    try:
        manifests.of(model, version)
    except (ModelNotFound, EngineIntegrity) as refused:
        raise InvalidParameter(refused.detail, field=field) from None


def rollback_of(stored: StoredRelease) -> TrafficSplit:
    """What a rollback asks for. Raises: NothingToRollBack."""
    release, request = stored.release, stored.request
    if release is None:
        raise NothingToRollBack
    if request is not None and request.number > release.answered:  # it has not begun: what runs goes on
        return request.traffic if request.traffic == release.rollback else release.goal
    target = release.rollback
    if target is None:
        raise NothingToRollBack("No version was served before this one.")
    return target


def document(stored: StoredRelease) -> ReleaseDocument:
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
