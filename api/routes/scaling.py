"""Scaling policies; their schemas are imported when one of these is asked, since few requests need what they need."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from api import submission
from api.answers import JSON, answer
from api.call import Call
from darkroom.errors import PolicyNotFound, UnsupportedMediaType
from darkroom.scaling.storage import StoredPolicy

if TYPE_CHECKING:
    from api.schemas.scaling import ScalingPlan
    from darkroom.scaling.policy import ScalingPolicy

_JSON = ("application/json",)
_YAML = ("application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml")


def get(call: Call) -> Response:
    """GET /v1/models/{model}/scaling-policy"""
    return _policy(200, _stored_policy(call))


async def put(call: Call) -> Response:
    """PUT /v1/models/{model}/scaling-policy"""
    call.administrator()
    document = await call.services.turns.take(call.tenant, _document_of, call)
    return await call.services.run(_put, call, document)


def _put(call: Call, document: dict[str, Any]) -> Response:
    services, model = call.services, call.manifest().model
    stored = services.policies.put(model, document, by=call.tenant, when=submission.condition_of(call.headers))
    services.log.info("scaling policy changed", model=model, version=stored.version, tenant=call.tenant)
    return _policy(200 if stored.replaces else 201, stored)


def delete(call: Call) -> Response:
    """DELETE /v1/models/{model}/scaling-policy"""
    tenant, model = call.administrator(), call.manifest().model
    call.services.policies.delete(model, by=tenant, when=submission.condition_of(call.headers))
    call.services.log.info("scaling policy deleted", model=model, tenant=tenant)
    return Response(status_code=204)


def changes(call: Call) -> Response:
    """GET /v1/models/{model}/scaling-policy/changes"""
    from api.schemas.scaling import changes_document

    call.administrator()
    return answer(200, changes_document(call.services.policies.history(call.manifest().model)))


async def plan(call: Call) -> Response:
    """GET /v1/models/{model}/scaling-plan"""
    from api.schemas.scaling import plan_document

    stored = await call.services.run(_stored_policy, call)

    def planned() -> ScalingPlan:
        _refuse_unfollowable(call, stored.policy)
        return plan_document(stored, call.query, datetime.now(UTC))

    return answer(200, await call.services.turns.take(call.tenant, planned))


def _document_of(call: Call) -> dict[str, Any]:
    """The valid policy in a PUT, as it was written.

    Raises: UnsupportedMediaType, and what `read_policy`, `refuse_more_than` and `_refuse_unfollowable` raise.
    """
    from darkroom.scaling.document import read_policy, refuse_more_than, written

    media_type = submission.media_type(call.headers)
    if media_type not in (*_JSON, *_YAML):
        raise UnsupportedMediaType("Send the policy as application/json or application/yaml.")
    policy = read_policy(call.body, "json" if media_type in _JSON else "yaml")
    if call.services.most_replicas is not None:
        refuse_more_than(policy, call.services.most_replicas())
    _refuse_unfollowable(call, policy)
    return written(policy)


def _refuse_unfollowable(call: Call, policy: ScalingPolicy | None) -> None:
    """Raises: InvalidPolicy where this deployment's SageMaker endpoints, if it has any, cannot follow the policy."""
    settings = call.services.settings
    if settings.endpoints and policy is not None:
        from darkroom.scaling.application_autoscaling import refuse_unfollowable

        refuse_unfollowable(policy, datetime.now(UTC), asynchronous=settings.endpoint_type == "async")


def _stored_policy(call: Call) -> StoredPolicy:
    stored = call.services.policies.get(call.manifest().model)
    if stored is None:
        raise PolicyNotFound("This model has no scaling policy; PUT one.")
    return stored


def _policy(status: int, stored: StoredPolicy) -> Response:
    headers = {"ETag": stored.etag, "Cache-Control": "no-cache"}
    return Response(json.dumps(stored.document), status, headers, JSON)
