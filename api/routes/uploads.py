"""`/v1/uploads`: a place for an image that is too large for a request's body."""

from __future__ import annotations

from pydantic import ValidationError
from starlette.responses import Response

from api import submission, uploads
from api.answers import answer
from api.call import Call
from api.uploads import UploadRequest
from darkroom.parsing import from_validation


def grant(call: Call) -> Response:
    """POST /v1/uploads"""
    tenant = call.tenant()
    try:
        requested = UploadRequest.model_validate(submission.json_body(call.body, call.headers))
    except ValidationError as refused:
        raise from_validation(refused) from None
    return answer(201, uploads.grant(requested, tenant, call.services.store, call.services.settings))
