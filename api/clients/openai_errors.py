"""Our problems as OpenAI's clients read errors."""

from __future__ import annotations

from api.answers import JSON, Written
from api.clients.openai_schemas import OpenAIError, OpenAIProblem
from darkroom.errors import Problem

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
_TIMED_OUT = 504


def written(problem: Problem) -> Written:
    """What cannot be understood is 400 there, where it is 422 with us.

    A client that was not answered in time is told not to ask again by itself (`x-should-retry`, a header that these
    clients heed): the first job is still at work.
    """
    status = 400 if problem.status == 422 else problem.status
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    param = problem.field.strip("/").replace("/", ".") if problem.field else None
    error = OpenAIError(
        message=problem.detail, type=kind, param=param, code=problem.code, request_id=problem.request_id
    )
    headers = {"x-should-retry": "false"} if status == _TIMED_OUT else {}
    return Written(status, OpenAIProblem(error=error), headers, JSON)
