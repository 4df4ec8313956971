"""The routes of releases in /openapi.json."""

from __future__ import annotations

from api.openapi.vocabulary import IF_MATCH, MODEL, Operations, content, problems, returns
from api.schemas.releases import ReleaseChanges, ReleaseDocument, ReleaseRequest

_ETAG = {"ETag": {"description": "the newest request's number, in quotes", "schema": {"type": "string"}}}

OPERATIONS: Operations = {
    ("GET", "/v1/models/{model}/release"): {
        "operationId": "getRelease",
        "summary": "Which version is served, and how far a release has come",
        "tags": ["releases"],
        "parameters": [MODEL],
        "responses": {
            "200": returns("the release", ReleaseDocument, **_ETAG),
            **problems(_404="no such model, or it has no endpoint that is released to"),
        },
    },
    ("PUT", "/v1/models/{model}/release"): {
        "operationId": "putRelease",
        "summary": "Release a published version, or split traffic between two",
        "tags": ["releases"],
        "parameters": [MODEL, IF_MATCH],
        "requestBody": {"required": True, "content": content(ReleaseRequest)},
        "responses": {
            "202": returns("taken up within a minute", ReleaseDocument, **_ETAG),
            **problems(
                _400="not JSON, nested too deeply, or a member twice",
                _404="no such model, or it has no endpoint that is released to",
                _412="somebody else has asked for something since; nothing has changed",
                _413="the body is too large",
                _415="not application/json",
                _422="a member is missing or unknown, a version is not published, or the endpoint cannot be split",
            ),
        },
    },
    ("GET", "/v1/models/{model}/release/changes"): {
        "operationId": "getReleaseChanges",
        "summary": "Who asked for what when",
        "tags": ["releases"],
        "parameters": [MODEL],
        "responses": {
            "200": returns("the requests", ReleaseChanges),
            **problems(_404="no such model, or it has no endpoint that is released to"),
        },
    },
    ("POST", "/v1/models/{model}/rollback"): {
        "operationId": "rollBack",
        "summary": "Go back to what was served before, or end a release under way",
        "tags": ["releases"],
        "parameters": [MODEL, IF_MATCH],
        "responses": {
            "202": returns("taken up within a minute", ReleaseDocument, **_ETAG),
            **problems(
                _404="no such model, or it has no endpoint that is released to",
                _409="no version was served before",
                _412="somebody else has asked for something since; nothing has changed",
                _422="If-Match is not an ETag",
            ),
        },
    },
}
