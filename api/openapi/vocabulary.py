"""What the operations of /openapi.json are made of: parameters, bodies and answers."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from darkroom.contracts import MODEL_NAME
from darkroom.errors import Problem

Operation = dict[str, Any]
Operations = dict[tuple[str, str], Operation]
REF = "#/components/schemas/{model}"

MODEL = {"name": "model", "in": "path", "required": True, "schema": {"type": "string", "pattern": MODEL_NAME}}
LOCATION = {"Location": {"description": "the job", "schema": {"type": "string"}}}
RETRY_AFTER = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "description": "Only where the resource still has this ETag (or `*`: where there is one).",
    "schema": {"type": "string"},
}
ANY_BODY = {"_400": "not JSON, nested too deeply, or a member twice", "_413": "the body is too large"}
JSON_BODY = {**ANY_BODY, "_415": "not application/json"}
_ALWAYS = {"_401": "no valid API key", "_500": "our fault", "_503": "overloaded, draining, or a store is down"}


def operation(
    name: str,
    summary: str,
    tag: str,
    *parameters: dict[str, Any],
    answers: dict[str, Any],
    body: dict[str, Any] | None = None,
    description: str = "",
    **reasons: str,
) -> Operation:
    """`answers` by status, and the problems of `reasons` (see `problems`)."""
    return {
        "operationId": name,
        "summary": summary,
        "tags": [tag],
        **({"description": description} if description else {}),
        **({"parameters": list(parameters)} if parameters else {}),
        **({"requestBody": {"required": True, "content": body}} if body else {}),
        "responses": {**answers, **problems(**reasons)},
    }


def content(document: type[BaseModel], media_type: str = "application/json") -> dict[str, Any]:
    """A body of this kind."""
    return {media_type: {"schema": {"$ref": REF.format(model=document.__name__)}}}


def returns(description: str, document: type[BaseModel], **headers: Any) -> dict[str, Any]:
    """An answer with this document."""
    return {"description": description, "content": content(document), **({"headers": headers} if headers else {})}


def problems(**reasons: str) -> dict[str, Any]:
    """`_404="why"` -> the problem answer of that status; every operation may also answer 401, 500 and 503."""
    return {
        name[1:]: {
            "description": description,
            "content": content(Problem, "application/problem+json"),
            **({"headers": RETRY_AFTER} if name in ("_409", "_429", "_503") else {}),
        }
        for name, description in sorted({**reasons, **_ALWAYS}.items())
    }
