"""/openapi.json: the contract, from the same classes that requests and answers are made of."""

from __future__ import annotations

import functools
import json
import re
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api.images.uploads import UploadDocument, UploadRequest
from api.openapi import clients, members, releases, scaling
from api.openapi.vocabulary import (
    JSON_BODY,
    LOCATION,
    MODEL,
    REF,
    RETRY_AFTER,
    Operation,
    Operations,
    content,
    operation,
    returns,
)
from api.schemas.jobs import ImageAnswer, JobDocument, JobList
from api.schemas.models import Health, ModelDocument, ModelList
from api.schemas.releases import ReleaseChanges, ReleaseDocument, ReleaseRequest
from api.schemas.scaling import ScalingChanges, ScalingPlan
from darkroom.contracts import GenerationRequest, JobStatus, OutputFormat
from darkroom.errors import Problem
from darkroom.scaling.policy import ScalingPolicy

_REFERENCE = re.compile(r'"#/components/schemas/([^"]+)"')
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


def _predict(name: str, description: str = "") -> Operation:
    return operation(
        name,
        "Make images from a prompt",
        "images",
        MODEL,
        _PREFER,
        _IDEMPOTENCY_KEY,
        description=description,
        body=content(GenerationRequest),
        answers={
            "200": returns("the images are ready", ImageAnswer, **LOCATION),
            "202": returns("accepted; follow the job at Location", JobDocument, **LOCATION, **RETRY_AFTER),
        },
        _404="no such model",
        _409="the first request with this idempotency key still runs, or the job was cancelled",
        _429="more jobs or uploads than is your share",
        _422="a member is missing, unknown or out of range, or the idempotency key came with another request",
        _504="the deadline passed first",
        **JSON_BODY,
    )


_LIST = (
    {"name": "status", "in": "query", "schema": {"type": "string", "enum": list(JobStatus)}},
    {
        "name": "cursor",
        "in": "query",
        "description": "`next` of the page before",
        "schema": {"type": "string", "pattern": "^[1-9][0-9]{0,17}$"},
    },
    {
        "name": "limit",
        "in": "query",
        "schema": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
    },
)
_FILE = {"type": "string", "format": "binary"}
_EVENTS = "`progress` (step, steps, preview) while the job runs, then `finished` with the job; the stream ends there."

OPERATIONS: Operations = {
    ("POST", "/v1/models/{model}:predict"): _predict(
        "predict",
        "Also takes `{inputs, parameters}` as Hugging Face's clients send it (the answer is the image), `{instances, "
        "parameters}` as KServe's and Imagen's do (`{predictions}`), and `Accept: image/png` for the image itself.",
    ),
    ("POST", "/tione/v1/models/{model}:predict"): _predict(
        "predictTione", "As above; the model name `m` stands for the default model."
    ),
    ("POST", "/v1/uploads"): operation(
        "grantUpload",
        "A place to PUT an image that is too large for a request's body",
        "images",
        body=content(UploadRequest),
        answers={"201": returns("where to send the file; then give `upload` as a request's `image`", UploadDocument)},
        _422="a member is missing, unknown or out of range, or the image would be too large",
        _429="more uploads than is your share",
        **JSON_BODY,
    ),
    ("GET", "/v1/jobs/{id}"): operation(
        "getJob",
        "A job and, once it has succeeded, freshly signed image URLs",
        "jobs",
        _JOB,
        answers={"200": returns("the job", JobDocument)},
        _404="no such job",
    ),
    ("GET", "/v1/jobs"): operation(
        "listJobs",
        "Your jobs, newest first",
        "jobs",
        *_LIST,
        answers={"200": returns("a page of them; image URLs are freshly signed", JobList)},
        _422="a parameter that is not known, or out of range",
    ),
    ("DELETE", "/v1/jobs/{id}"): operation(
        "deleteJob",
        "Cancel a job, or forget a finished one with its images",
        "jobs",
        _JOB,
        answers={
            "202": returns("cancelled; the engine drops it within one step", JobDocument, **LOCATION),
            "204": {"description": "it had finished, and is forgotten"},
        },
        _404="no such job",
    ),
    ("POST", "/v1/jobs/{id}/cancel"): operation(
        "cancelJob",
        "Cancel a job",
        "jobs",
        _JOB,
        answers={"202": returns("cancelled; the engine drops it within one step", JobDocument, **LOCATION)},
        _404="no such job",
        _409="the job has already finished",
    ),
    ("GET", "/v1/images/{id}"): operation(
        "getImage",
        "A finished image itself",
        "images",
        {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "pattern": "^[\\w-]+-[0-7]$"}},
        description="`{job}-0` is the first image of a job. Its address never expires; `If-None-Match` is heeded.",
        answers={
            "200": {
                "description": "the image",
                "headers": {"ETag": {"description": "of its bytes", "schema": {"type": "string"}}},
                "content": {form.content_type: {"schema": _FILE} for form in OutputFormat},
            },
            "304": {"description": "the one that you have"},
        },
        _404="no such image",
    ),
    ("GET", "/v1/jobs/{id}/events"): operation(
        "getJobEvents",
        "Progress as server-sent events",
        "jobs",
        _JOB,
        description=_EVENTS,
        answers={"200": {"description": _EVENTS, "content": {"text/event-stream": {"schema": {"type": "string"}}}}},
        _404="no such job",
    ),
    ("GET", "/v1/models"): operation(
        "listModels",
        "Every model that can be asked for",
        "models",
        answers={"200": returns("the models", ModelList)},
    ),
    ("GET", "/v1/models/{model}"): operation(
        "getModel",
        "A model's samplers, defaults and limits",
        "models",
        MODEL,
        answers={"200": returns("the model", ModelDocument)},
        _404="no such model",
    ),
    **clients.OPERATIONS,
    **scaling.OPERATIONS,
    **releases.OPERATIONS,
    ("GET", "/ping"): {
        "operationId": "ping",
        "summary": "Whether requests are served",
        "tags": ["deployment"],
        "security": [],
        "responses": {"200": returns("ready", Health), "503": returns("starting or draining", Health)},
    },
}


def _sent(schemas: dict[str, Any]) -> set[str]:
    """The schemas of request bodies, and of what is in these."""
    bodies = json.dumps([one["requestBody"] for one in OPERATIONS.values() if "requestBody" in one])
    found, new = set[str](), set(_REFERENCE.findall(bodies))
    while new:
        found |= new
        new = {name for known in new for name in _REFERENCE.findall(json.dumps(schemas[known]))} - found
    return found


@functools.cache
def openapi() -> str:
    """The OpenAPI 3.1 document, as JSON."""
    shown: tuple[type[BaseModel], ...] = (
        GenerationRequest,
        ImageAnswer,
        UploadRequest,
        UploadDocument,
        JobDocument,
        JobList,
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
        *clients.SCHEMAS,
    )
    _, schemas = models_json_schema([(document, "validation") for document in shown], ref_template=REF)
    sent = _sent(schemas["$defs"])
    for name, one in schemas["$defs"].items():
        (members.optional if name in sent else members.always_there)(one)
    paths: dict[str, dict[str, Operation]] = {}
    for (method, path), one in OPERATIONS.items():
        paths.setdefault(path, {})[method.lower()] = one
    return json.dumps(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Darkroom",
                "version": "1",
                "summary": "Prompts in, image URLs out.",
                "description": (
                    "Every error is an RFC 9457 problem; `code` names it, `retryable` says if to try again. Clients of "
                    "other services get theirs in those services' form."
                ),
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
