"""The control plane in Lambda: API Gateway's events (HTTP API, payload 2.0), observed with powertools."""

from __future__ import annotations

import asyncio
import base64
import binascii
import functools
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from mangum import Mangum
from mangum.adapter import DEFAULT_TEXT_MIME_TYPES
from mangum.handlers import HTTPGateway
from mangum.types import Response

from api.answers import PROBLEM_JSON
from api.app import ControlPlane
from api.blocking import at_once
from api.callers import Identity
from api.services import Services
from api.services import from_environment as services_from_environment
from functions import observability
from functions.waiting import leaving_room

_NO_TEXT = b"\xff"

logging.getLogger("mangum").setLevel(logging.WARNING)  # API Gateway logs every request


@observability.traced
def lambda_handler(event: dict[str, Any], context: Any, *, services: Services | None = None) -> dict[str, Any]:
    """Answer one event; `services` replace what the environment describes."""
    asyncio.set_event_loop(_loop())
    try:
        return _adapter(services or from_environment())(event, context)
    finally:
        observability.flush()


@functools.cache
def from_environment() -> Services:
    """The services of this Lambda function. One event at a time: calls block, and X-Ray follows them in this thread."""
    services = services_from_environment(observability.logger, run=at_once, count=observability.count)
    return replace(services, wait=leaving_room(services))


class Gateway(HTTPGateway):
    """Tells the control plane what API Gateway knows beside HTTP: the request's id, and whom it has checked."""

    @property
    def body(self) -> bytes:
        text = self.event.get("body") or ""
        try:
            return base64.b64decode(text, validate=True) if self.event.get("isBase64Encoded") else text.encode()
        except (binascii.Error, UnicodeEncodeError):
            return _NO_TEXT  # refused as what it is: not UTF-8

    @functools.cached_property
    def scope(self) -> dict[str, Any]:
        raw, context = str(self.event["rawPath"]), self.event["requestContext"]
        state = {"request_id": str(context["requestId"]), "identity": identity_of(context)}
        return {**super().scope, "path": unquote(raw), "raw_path": raw.encode(), "state": state}

    def __call__(self, response: Response) -> dict[str, Any]:
        response["headers"] = [one for one in response["headers"] if one[0] != b"connection"]  # the gateway's business
        answer = super().__call__(response)
        if not response["body"]:  # Mangum would call it JSON
            answer["headers"].pop("content-type", None)
        return answer


def identity_of(context: Mapping[str, Any]) -> Identity | None:
    """The subject of the token that the JWT authorizer has checked, or the IAM user or role, whatever its session."""
    authorizer = context.get("authorizer") or {}
    claims = authorizer.get("jwt", {}).get("claims", {})
    if subject := claims.get("sub") or claims.get("client_id"):
        return Identity("jwt", str(subject))
    if user := str(authorizer.get("iam", {}).get("userId") or "").partition(":")[0]:
        return Identity("iam", user)
    return None


@functools.lru_cache(maxsize=1)
def _adapter(services: Services) -> Mangum:
    return Mangum(
        ControlPlane(services),
        lifespan="off",
        custom_handlers=[Gateway],
        text_mime_types=[*DEFAULT_TEXT_MIME_TYPES, PROBLEM_JSON],
    )


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    """One for the life of the process."""
    return asyncio.new_event_loop()
