"""The routes of releases; what they answer with is in functions.releases, imported when one of them is asked."""

from __future__ import annotations

from aws_lambda_powertools.event_handler import Response

from darkroom.errors import ReleaseNotFound
from darkroom.release.state import TrafficSplit
from darkroom.release.storage import StoredRelease
from functions import current
from functions.answers import Answer
from functions.observability import logger


def get(name: str) -> Response[str]:
    """GET /v1/models/{model}/release"""
    from functions import releases

    current.tenant()
    return _release(200, releases.known(current.wired().releases, current.manifest(name).model))


def put(name: str) -> Response[str]:
    """PUT /v1/models/{model}/release"""
    from functions import releases

    wired, headers, tenant = current.wired(), current.headers(), current.tenant()
    model = current.manifest(name).model
    releases.known(wired.releases, model)
    asked = releases.asked_for(current.event(), headers, model, wired.manifests, wired.settings)
    return _ask_release(model, asked, tenant)


def roll_back(name: str) -> Response[str]:
    """POST /v1/models/{model}/rollback"""
    from functions import releases

    tenant, model = current.tenant(), current.manifest(name).model
    return _ask_release(model, releases.rollback_of(releases.known(current.wired().releases, model)), tenant)


def changes(name: str) -> Response[str]:
    """GET /v1/models/{model}/release/changes"""
    from functions import releases

    current.tenant()
    store, model = current.wired().releases, current.manifest(name).model
    releases.known(store, model)
    return current.respond(Answer(200, releases.changes_document(store.history(model) if store else [])))


def _ask_release(model: str, traffic: TrafficSplit, tenant: str) -> Response[str]:
    from functions import scaling

    store = current.wired().releases
    if store is None:
        raise ReleaseNotFound
    asked = store.ask(model, traffic, by=tenant, when=scaling.condition_of(current.headers()))
    logger.info("release asked for", model=model, traffic=str(traffic), tenant=tenant)
    return _release(202, asked)


def _release(status: int, stored: StoredRelease) -> Response[str]:
    from functions import releases

    headers = {"ETag": stored.etag, "Cache-Control": "no-cache"}
    return current.respond(Answer(status, releases.document(stored), headers))
