"""/openapi.json: the contract, from the same classes that requests and answers are made of."""

from __future__ import annotations

import functools
import json
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from darkroom.contracts import MODEL_NAME, GenerationRequest
from darkroom.errors import Problem
from darkroom.scaling.policy import ScalingPolicy
from functions.documents import Health, ImageAnswer, JobDocument, ModelDocument, ModelList
from functions.releases import ReleaseChanges, ReleaseDocument, ReleaseRequest
from functions.scaling import ScalingChanges, ScalingPlan
from functions.uploads import UploadDocument, UploadRequest

Operation = dict[str, Any]
_REF = "#/components/schemas/{model}"

_MODEL = {"name": "model", "in": "path", "required": True, "schema": {"type": "string", "pattern": MODEL_NAME}}
_JOB = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
_PREFER = {
    "name": "Prefer",
    "in": "header",
    "description": "`wait=N`: 202 if it takes longer than N seconds; `respond-async`: 202 at once.",
    "schema": {"type": "string"},
    "examples": {"wait": {"value": "wait=10"}, "respond-async": {"value": "respond-async"}},
}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "A retry with the same key and the same body gets the first answer again; nothing is made twice.",
    "schema": {"type": "string", "pattern": "^[\\x21-\\x7e]{1,255}$"},
}
_LOCATION = {"Location": {"description": "the job", "schema": {"type": "string"}}}
_RETRY_AFTER = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}


def _content(document: type[BaseModel], media_type: str = "application/json") -> dict[str, Any]:
    return {media_type: {"schema": {"$ref": _REF.format(model=document.__name__)}}}


def _told(description: str, document: type[BaseModel], **headers: Any) -> dict[str, Any]:
    return {"description": description, "content": _content(document), **({"headers": headers} if headers else {})}


def _problems(**told: str) -> dict[str, Any]:
    """`_404="why"` -> the problem answer of that status; every operation may also answer 401, 500 and 503."""
    always = {"_401": "no valid API key", "_500": "our fault", "_503": "overloaded, draining, or a store is down"}
    return {
        name[1:]: {
            "description": description,
            "content": _content(Problem, "application/problem+json"),
            **({"headers": _RETRY_AFTER} if name in ("_409", "_503") else {}),
        }
        for name, description in sorted({**told, **always}.items())
    }


_PREDICT: Operation = {
    "summary": "Make images from a prompt",
    "tags": ["images"],
    "parameters": [_PREFER, _IDEMPOTENCY_KEY],
    "requestBody": {"required": True, "content": _content(GenerationRequest)},
    "responses": {
        "200": _told("the images are ready", ImageAnswer, **_LOCATION),
        "202": _told("accepted; follow the job at Location", JobDocument, **_LOCATION, **_RETRY_AFTER),
        **_problems(
            _400="not JSON, nested too deeply, or a member twice",
            _404="no such model",
            _409="the first request with this idempotency key still runs, or the job was cancelled",
            _413="the body is too large",
            _415="not application/json",
            _422="a member is missing, unknown or out of range, or the idempotency key came with another request",
            _504="the deadline passed first",
        ),
    },
}
_ETAG = {"ETag": {"description": "the policy's version, in quotes", "schema": {"type": "string"}}}
_RELEASE_ETAG = {"ETag": {"description": "the newest request's number, in quotes", "schema": {"type": "string"}}}
_IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "description": "Only where the resource still has this ETag (or `*`: where there is one).",
    "schema": {"type": "string"},
}
_IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "description": "`*`: only where there is no policy yet.",
    "schema": {"type": "string", "const": "*"},
}
_ABOUT_PLAN = (
    "What will hold when and why, with what the limits alone would cost. Times without an offset are in the policy's "
    "time zone; at most 92 days."
)
_EVENTS = "`progress` (step, steps, preview) while the job runs, then `finished` with the job; the stream ends there."

OPERATIONS: dict[tuple[str, str], Operation] = {
    ("POST", "/v1/models/{model}:predict"): {
        **_PREDICT,
        "operationId": "predict",
        "parameters": [_MODEL, *_PREDICT["parameters"]],
    },
    ("POST", "/tione/v1/models/{model}:predict"): {
        **_PREDICT,
        "operationId": "predictTione",
        "description": "As above; the model name `m` stands for the default model.",
        "parameters": [_MODEL, *_PREDICT["parameters"]],
    },
    ("POST", "/v1/uploads"): {
        "operationId": "grantUpload",
        "summary": "A place to PUT an image that is too large for a request's body",
        "tags": ["images"],
        "requestBody": {"required": True, "content": _content(UploadRequest)},
        "responses": {
            "201": _told("where to send the file; then give `upload` as a request's `image`", UploadDocument),
            **_problems(
                _400="not JSON, nested too deeply, or a member twice",
                _413="the body is too large",
                _415="not application/json",
                _422="a member is missing, unknown or out of range, or the image would be too large",
            ),
        },
    },
    ("GET", "/v1/jobs/{id}"): {
        "operationId": "getJob",
        "summary": "A job and, once it has succeeded, freshly signed image URLs",
        "tags": ["jobs"],
        "parameters": [_JOB],
        "responses": {"200": _told("the job", JobDocument), **_problems(_404="no such job")},
    },
    ("DELETE", "/v1/jobs/{id}"): {
        "operationId": "cancelJob",
        "summary": "Cancel a job",
        "tags": ["jobs"],
        "parameters": [_JOB],
        "responses": {
            "202": _told("cancelled; the engine drops it within one step", JobDocument, **_LOCATION),
            **_problems(_404="no such job", _409="the job has already finished"),
        },
    },
    ("GET", "/v1/jobs/{id}/events"): {
        "operationId": "getJobEvents",
        "summary": "Progress as server-sent events",
        "tags": ["jobs"],
        "description": _EVENTS,
        "parameters": [_JOB],
        "responses": {
            "200": {"description": _EVENTS, "content": {"text/event-stream": {"schema": {"type": "string"}}}},
            **_problems(_404="no such job"),
        },
    },
    ("GET", "/v1/models"): {
        "operationId": "listModels",
        "summary": "Every model that can be asked for",
        "tags": ["models"],
        "responses": {"200": _told("the models", ModelList), **_problems()},
    },
    ("GET", "/v1/models/{model}"): {
        "operationId": "getModel",
        "summary": "A model's samplers, defaults and limits",
        "tags": ["models"],
        "parameters": [_MODEL],
        "responses": {"200": _told("the model", ModelDocument), **_problems(_404="no such model")},
    },
    ("GET", "/v1/models/{model}/scaling-policy"): {
        "operationId": "getScalingPolicy",
        "summary": "The scaling policy, as it was written",
        "tags": ["scaling"],
        "parameters": [_MODEL],
        "responses": {
            "200": _told("the policy", ScalingPolicy, **_ETAG),
            **_problems(_404="no such model, or it has no policy"),
        },
    },
    ("PUT", "/v1/models/{model}/scaling-policy"): {
        "operationId": "putScalingPolicy",
        "summary": "Store a scaling policy; the replicas follow it",
        "tags": ["scaling"],
        "parameters": [_MODEL, _IF_MATCH, _IF_NONE_MATCH],
        "requestBody": {
            "required": True,
            "content": {**_content(ScalingPolicy), **_content(ScalingPolicy, "application/yaml")},
        },
        "responses": {
            "200": _told("replaced", ScalingPolicy, **_ETAG),
            "201": _told("the model's first policy", ScalingPolicy, **_ETAG),
            **_problems(
                _400="not JSON, nested too deeply, or a member twice",
                _404="no such model",
                _412="the policy is not the one that If-Match or If-None-Match names; nothing has changed",
                _413="the body is too large",
                _415="neither application/json nor application/yaml",
                _422="the policy cannot be followed (`field` points at the reason); the old one stays",
            ),
        },
    },
    ("DELETE", "/v1/models/{model}/scaling-policy"): {
        "operationId": "deleteScalingPolicy",
        "summary": "Go back to a fixed number of replicas",
        "tags": ["scaling"],
        "parameters": [_MODEL, _IF_MATCH],
        "responses": {
            "204": {"description": "deleted"},
            **_problems(
                _404="no such model, or it has no policy",
                _412="the policy is not the one that If-Match names; nothing has changed",
                _422="If-Match is not an ETag",
            ),
        },
    },
    ("GET", "/v1/models/{model}/scaling-policy/changes"): {
        "operationId": "getScalingPolicyChanges",
        "summary": "Who changed the policy when",
        "tags": ["scaling"],
        "parameters": [_MODEL],
        "responses": {"200": _told("the changes", ScalingChanges), **_problems(_404="no such model")},
    },
    ("GET", "/v1/models/{model}/scaling-plan"): {
        "operationId": "getScalingPlan",
        "summary": "What the policy will do",
        "tags": ["scaling"],
        "description": _ABOUT_PLAN,
        "parameters": [
            _MODEL,
            *(
                {"name": name, "in": "query", "description": text, "schema": {"type": "string"}}
                for name, text in (
                    ("from", "default: now"),
                    ("to", "default: a week later"),
                    ("instance", "whose price to take; default: the table's first"),
                )
            ),
        ],
        "responses": {
            "200": _told("the plan", ScalingPlan),
            **_problems(_404="no such model, or it has no policy", _422="an interval or instance that is none"),
        },
    },
    ("GET", "/v1/models/{model}/release"): {
        "operationId": "getRelease",
        "summary": "Which version is served, and how far a release has come",
        "tags": ["releases"],
        "parameters": [_MODEL],
        "responses": {
            "200": _told("the release", ReleaseDocument, **_RELEASE_ETAG),
            **_problems(_404="no such model, or it has no endpoint that is released to"),
        },
    },
    ("PUT", "/v1/models/{model}/release"): {
        "operationId": "putRelease",
        "summary": "Release a published version, or split traffic between two",
        "tags": ["releases"],
        "parameters": [_MODEL, _IF_MATCH],
        "requestBody": {"required": True, "content": _content(ReleaseRequest)},
        "responses": {
            "202": _told("taken up within a minute", ReleaseDocument, **_RELEASE_ETAG),
            **_problems(
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
        "parameters": [_MODEL],
        "responses": {
            "200": _told("the requests", ReleaseChanges),
            **_problems(_404="no such model, or it has no endpoint that is released to"),
        },
    },
    ("POST", "/v1/models/{model}/rollback"): {
        "operationId": "rollBack",
        "summary": "Go back to what was served before, or end a release under way",
        "tags": ["releases"],
        "parameters": [_MODEL, _IF_MATCH],
        "responses": {
            "202": _told("taken up within a minute", ReleaseDocument, **_RELEASE_ETAG),
            **_problems(
                _404="no such model, or it has no endpoint that is released to",
                _409="no version was served before",
                _412="somebody else has asked for something since; nothing has changed",
                _422="If-Match is not an ETag",
            ),
        },
    },
    ("GET", "/ping"): {
        "operationId": "ping",
        "summary": "Whether requests are served",
        "tags": ["deployment"],
        "security": [],
        "responses": {"200": _told("ready", Health), "503": _told("starting or draining", Health)},
    },
}


@functools.cache
def openapi() -> str:
    """The OpenAPI 3.1 document, as JSON."""
    shown: tuple[type[BaseModel], ...] = (
        GenerationRequest,
        ImageAnswer,
        UploadRequest,
        UploadDocument,
        JobDocument,
        ModelDocument,
        ModelList,
        Health,
        Problem,
        ScalingPolicy,
        ScalingPlan,
        ScalingChanges,
        ReleaseRequest,
        ReleaseDocument,
        ReleaseChanges,
    )
    _, schemas = models_json_schema([(document, "validation") for document in shown], ref_template=_REF)
    paths: dict[str, dict[str, Operation]] = {}
    for (method, path), operation in OPERATIONS.items():
        paths.setdefault(path, {})[method.lower()] = operation
    return json.dumps(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Darkroom",
                "version": "1",
                "summary": "Prompts in, image URLs out.",
                "description": "Every error is an RFC 9457 problem; `code` names it, `retryable` says if to try again.",
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": "/"}],
            "security": [{"apiKey": []}, {"bearer": []}, {}],
            "paths": paths,
            "components": {
                "schemas": schemas["$defs"],
                "securitySchemes": {
                    "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                    "bearer": {"type": "http", "scheme": "bearer"},
                },
            },
        }
    )
