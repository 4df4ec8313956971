"""Releases; their schemas are imported when one of these is asked."""

from __future__ import annotations

from starlette.responses import Response

from api import submission
from api.answers import answer
from api.call import Call
from darkroom.errors import EngineIntegrity, InvalidParameter, ModelNotFound, NothingToRollBack, ReleaseNotFound
from darkroom.release.state import TrafficSplit
from darkroom.release.storage import ReleaseStore, StoredRelease

_NOT_HERE = "Here a runtime loads the served version when it starts; python -m local.versions lists and changes it."


def get(call: Call) -> Response:
    """GET /v1/models/{model}/release"""
    _, stored = _known(call)
    return _release(200, stored)


def put(call: Call) -> Response:
    """PUT /v1/models/{model}/release"""
    tenant = call.administrator()
    store, stored = _known(call)
    return _ask(call, store, stored.model, _traffic_of(call, stored.model), tenant)


def roll_back(call: Call) -> Response:
    """POST /v1/models/{model}/rollback"""
    tenant = call.administrator()
    store, stored = _known(call)
    return _ask(call, store, stored.model, rollback_of(stored), tenant)


def changes(call: Call) -> Response:
    """GET /v1/models/{model}/release/changes"""
    from api.schemas.releases import changes_document

    call.administrator()
    store, stored = _known(call)
    return answer(200, changes_document(store.history(stored.model)))


def _known(call: Call) -> tuple[ReleaseStore, StoredRelease]:
    """Raises: ReleaseNotFound, where nothing is released step by step or nothing has been yet."""
    model, store = call.manifest().model, call.services.releases
    if store is None:
        raise ReleaseNotFound(_NOT_HERE)
    stored = store.get(model)
    if stored is None or stored.release is None:
        raise ReleaseNotFound("The endpoint has not been looked at yet; that happens every minute once it exists.")
    return store, stored


def _traffic_of(call: Call, model: str) -> TrafficSplit:
    """What a PUT asks for; both versions are there. Raises: InvalidParameter; what `submission.document` raises."""
    from api.schemas.releases import ReleaseRequest

    requested = submission.document(ReleaseRequest, call.body, call.headers)
    _require_published(call, model, requested.version, "/version")
    if requested.beside is None:
        return TrafficSplit(requested.version)
    if call.services.settings.endpoint_type == "async":
        raise InvalidParameter(
            "An asynchronous endpoint runs one version at a time; deploy a real-time one to split traffic.",
            field="/beside",
        )
    if requested.beside.version == requested.version:
        raise InvalidParameter("Beside the version there must be another one.", field="/beside/version")
    _require_published(call, model, requested.beside.version, "/beside/version")
    return TrafficSplit(requested.version, requested.beside.version, requested.beside.percent)


def _require_published(call: Call, model: str, version: str, field: str) -> None:
    try:
        call.services.manifests.of(model, version)
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


def _ask(call: Call, store: ReleaseStore, model: str, traffic: TrafficSplit, tenant: str) -> Response:
    stored = store.ask(model, traffic, by=tenant, when=submission.condition_of(call.headers))
    call.services.log.info("release asked for", model=model, traffic=str(traffic), tenant=tenant)
    return _release(202, stored)


def _release(status: int, stored: StoredRelease) -> Response:
    from api.schemas.releases import release_document

    return answer(status, release_document(stored), {"ETag": stored.etag, "Cache-Control": "no-cache"})
