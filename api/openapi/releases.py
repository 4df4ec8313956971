"""The routes of releases in /openapi.json."""

from __future__ import annotations

from api.openapi.vocabulary import IF_MATCH, JSON_BODY, MODEL, Operations, content, operation, returns
from api.schemas.releases import ReleaseChanges, ReleaseDocument, ReleaseRequest

_ETAG = {"ETag": {"description": "the newest request's number, in quotes", "schema": {"type": "string"}}}

_NO_RELEASE = "no such model, or it has no endpoint that is released to"
_OVERTAKEN = "somebody else has asked for something since; nothing has changed"

OPERATIONS: Operations = {
    ("GET", "/v1/models/{model}/release"): operation(
        "getRelease",
        "Which version is served, and how far a release has come",
        "releases",
        MODEL,
        answers={"200": returns("the release", ReleaseDocument, **_ETAG)},
        _404=_NO_RELEASE,
    ),
    ("PUT", "/v1/models/{model}/release"): operation(
        "putRelease",
        "Release a published version, or split traffic between two",
        "releases",
        MODEL,
        IF_MATCH,
        body=content(ReleaseRequest),
        answers={"202": returns("taken up within a minute", ReleaseDocument, **_ETAG)},
        _404=_NO_RELEASE,
        _412=_OVERTAKEN,
        _422="a member is missing or unknown, a version is not published, or the endpoint cannot be split",
        **JSON_BODY,
    ),
    ("GET", "/v1/models/{model}/release/changes"): operation(
        "getReleaseChanges",
        "Who asked for what when",
        "releases",
        MODEL,
        answers={"200": returns("the requests", ReleaseChanges)},
        _404=_NO_RELEASE,
    ),
    ("POST", "/v1/models/{model}/rollback"): operation(
        "rollBack",
        "Go back to what was served before, or end a release under way",
        "releases",
        MODEL,
        IF_MATCH,
        answers={"202": returns("taken up within a minute", ReleaseDocument, **_ETAG)},
        _404=_NO_RELEASE,
        _409="no version was served before",
        _412=_OVERTAKEN,
        _422="If-Match is not an ETag",
    ),
}
