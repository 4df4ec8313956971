"""The event that is being answered: what it says, who asks, and the parts of this deployment that answer it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response

from darkroom.manifest import EngineManifest
from functions import wiring
from functions.answers import Answer, Answers
from functions.wiring import Wiring

Event = dict[str, Any]

app = APIGatewayHttpResolver()


def wired() -> Wiring:
    replaced: Wiring | None = app.context.get("wired")
    return replaced or wiring.from_environment()


def event() -> Event:
    """As API Gateway sent it."""
    raw: Event = app.current_event.raw_event
    return raw


def request_id() -> str:
    return str(app.context["request_id"])


def headers() -> Mapping[str, str]:
    """By lower-case name."""
    return {name.lower(): value for name, value in app.current_event.headers.items()}


def query() -> Mapping[str, str]:
    return app.current_event.query_string_parameters or {}


def tenant() -> str:
    """Who asks. Raises Unauthorized."""
    return wired().tenant(event(), headers())


def manifest(name: str) -> EngineManifest:
    """Of the model of this name in the path, where m stands for the default one. Raises ModelNotFound."""
    return wired().manifests.current(wired().settings.default_model if name == "m" else name)


def answers() -> Answers:
    return Answers(wired().store, wired().settings, request_id())


def respond(answer: Answer) -> Response[str]:
    return Response(answer.status, answer.content_type, answer.body(), dict(answer.headers))
