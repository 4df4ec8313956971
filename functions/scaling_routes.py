"""The routes of scaling policies; what they answer with is in functions.scaling, imported when one of them is asked."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from aws_lambda_powertools.event_handler import Response

from darkroom.errors import PolicyNotFound
from darkroom.scaling.storage import StoredPolicy
from functions import current
from functions.answers import JSON, Answer
from functions.observability import logger


def get(name: str) -> Response[str]:
    """GET /v1/models/{model}/scaling-policy"""
    return _policy(200, _stored_policy(name))


def put(name: str) -> Response[str]:
    """PUT /v1/models/{model}/scaling-policy"""
    from functions import scaling

    wired, headers, tenant = current.wired(), current.headers(), current.tenant()
    model = current.manifest(name).model
    document = scaling.document_of(current.event(), headers)
    stored = wired.policies.put(model, document, by=tenant, when=scaling.condition_of(headers))
    logger.info("scaling policy changed", model=model, version=stored.version, tenant=tenant)
    return _policy(200 if stored.replaces else 201, stored)


def delete(name: str) -> Response[str]:
    """DELETE /v1/models/{model}/scaling-policy"""
    from functions import scaling

    tenant, model = current.tenant(), current.manifest(name).model
    current.wired().policies.delete(model, by=tenant, when=scaling.condition_of(current.headers()))
    logger.info("scaling policy deleted", model=model, tenant=tenant)
    return Response(204, None, None)


def changes(name: str) -> Response[str]:
    """GET /v1/models/{model}/scaling-policy/changes"""
    from functions import scaling

    current.tenant()
    model = current.manifest(name).model
    return current.respond(Answer(200, scaling.changes_document(current.wired().policies.history(model))))


def plan(name: str) -> Response[str]:
    """GET /v1/models/{model}/scaling-plan"""
    from functions import scaling

    asked = current.query()
    return current.respond(Answer(200, scaling.plan_document(_stored_policy(name), asked, datetime.now(UTC))))


def _stored_policy(name: str) -> StoredPolicy:
    current.tenant()
    stored = current.wired().policies.get(current.manifest(name).model)
    if stored is None:
        raise PolicyNotFound("This model has no scaling policy; PUT one.")
    return stored


def _policy(status: int, stored: StoredPolicy) -> Response[str]:
    return Response(status, JSON, json.dumps(stored.document), {"ETag": stored.etag, "Cache-Control": "no-cache"})
