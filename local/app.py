"""What only one machine adds to the control plane: the studio, signed objects, metrics, and a line for each answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import structlog
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from api.call import Call
from api.endpoint import READ, Handlers, HttpEndpoint
from api.routes import deployment
from local import metrics, objects
from local.metrics import Metrics
from local.objects import SignedObjects

log = structlog.get_logger(part="api")

WEB = Path(__file__).resolve().parent.parent / "web"
_STUDIO = {"/": "studio.html", "/studio.css": "studio.css", "/studio.js": "studio.js"}
_MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_ROUTINE = ("/ping", "/live", "/metrics")  # asked every few seconds by machines
_STUDIO_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self' https:; "
        "img-src 'self' data: blob: http: https:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-cache",
}


def routes(signed_objects: SignedObjects | None, prometheus: Metrics) -> list[BaseRoute]:
    """The addresses that only exist here."""
    scraped = HttpEndpoint({"GET": prometheus.scraped})
    ours: list[BaseRoute] = [
        *(_Exactly(path, HttpEndpoint({READ: studio}, open=True), methods=["GET"]) for path in _STUDIO),
        _Exactly("/live", HttpEndpoint({READ: deployment.live}, open=True), methods=["GET"]),
        _Exactly(metrics.PATH, scraped, methods=["GET"]),
        _Exactly(f"{metrics.PATH}/{{replica:path}}", scraped, methods=["GET"]),
    ]
    if signed_objects is not None:
        handlers: Handlers = {READ: signed_objects.give, "PUT": signed_objects.take}
        ours.append(Route(f"{objects.PREFIX}{{key:path}}", HttpEndpoint(handlers, open=True, reads=False)))
    return ours


class _Exactly(Route):
    """There is nothing at its address for any other method."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        return (match, child) if match is Match.FULL else (Match.NONE, {})


def studio(call: Call) -> Response:
    """GET /, and what the page is made of."""
    file = WEB / _STUDIO[call.path]
    return Response(file.read_bytes(), headers=_STUDIO_HEADERS, media_type=_MEDIA_TYPES[file.suffix])


def logged(call: Call, seconds: float) -> None:
    """One line for each answer."""
    tell: Any = log.debug if call.path in _ROUTINE else log.info
    tell(
        "answered",
        method=call.method,
        path=call.raw_path,
        status=call.status or "client gone",
        milliseconds=round(seconds * 1000),
        request=call.request_id,
    )
