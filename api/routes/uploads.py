"""`/v1/uploads`: a place for an image that is too large for a request's body."""

from __future__ import annotations

from starlette.responses import Response

from api import submission
from api.answers import answer
from api.call import Call
from api.images import uploads
from api.images.uploads import UploadRequest


def grant(call: Call) -> Response:
    """POST /v1/uploads"""
    requested = submission.document(UploadRequest, call.body, call.headers)
    services = call.services
    return answer(201, uploads.grant(requested, call.tenant, call.store, services.settings, services.quota))
