"""Whether the deployment answers, and what it can be asked: open to everybody."""

from __future__ import annotations

from starlette.responses import Response

from api.answers import JSON, answer
from api.call import Call
from api.schemas.models import Health

_KEPT = {"Cache-Control": "max-age=3600"}
_PAGE = _KEPT | {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
}


async def ping(call: Call) -> Response:
    """GET /ping: whether a request could be served now."""
    health = call.services.health()
    if health.status == "ready" and (missing := await call.services.readiness.missing()):
        health = Health(status="unavailable", detail=f"The {' and the '.join(missing)} does not answer.")
    return answer(200 if health.status == "ready" else 503, health)


async def live(_call: Call) -> Response:
    """GET /live: whether this process answers at all; what it needs of others is not looked at."""
    return answer(200, Health(status="live"))


def openapi(_call: Call) -> Response:
    """GET /openapi.json"""
    from api.openapi import document  # few ask for it, and it takes a while to import

    return Response(document.openapi(), headers=_KEPT, media_type=JSON)


def docs(_call: Call) -> Response:
    """GET /docs"""
    from api.openapi import page

    return Response(page.page(), headers=_PAGE, media_type="text/html")
