"""The control plane as one ASGI application: guards, routes, and one answer to every error."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from api.call import CALL, Call, ClientGone
from api.endpoint import MOST_OF_A_BODY, MOST_OF_A_FORM, READ, HttpEndpoint
from api.routes import deployment, images, jobs, models, openai, predict, releases, scaling, uploads, web_ui
from api.services import Services
from darkroom.errors import DarkroomError, Draining, MalformedRequest, ModelNotFound, NotFound

_POLICY_BYTES = 256 * 1024
ROUTES: dict[str, HttpEndpoint] = {  # the first match wins
    "/v1/models/{model}:predict": HttpEndpoint({"POST": predict.predict}, most=MOST_OF_A_BODY),
    "/tione/v1/models/{model}:predict": HttpEndpoint({"POST": predict.predict_as_the_seeds_do}, most=MOST_OF_A_BODY),
    "/v1/images/generations": HttpEndpoint({"POST": openai.generations}, form=openai.written),
    "/v1/images/edits": HttpEndpoint({"POST": openai.edits}, most=MOST_OF_A_FORM, form=openai.written),
    f"{web_ui.PREFIX}/txt2img": HttpEndpoint({"POST": web_ui.txt2img}, most=MOST_OF_A_BODY, form=web_ui.written),
    f"{web_ui.PREFIX}/img2img": HttpEndpoint({"POST": web_ui.img2img}, most=MOST_OF_A_BODY, form=web_ui.written),
    f"{web_ui.PREFIX}/interrupt": HttpEndpoint({"POST": web_ui.interrupt}, form=web_ui.written),
    f"{web_ui.PREFIX}/options": HttpEndpoint({READ: web_ui.look, "POST": web_ui.set_options}, form=web_ui.written),
    **{
        f"{web_ui.PREFIX}/{name}": HttpEndpoint({READ: web_ui.look}, form=web_ui.written)
        for name in web_ui.LISTS
        if name != "options"
    },
    "/v1/uploads": HttpEndpoint({"POST": uploads.grant}),
    "/v1/models": HttpEndpoint({READ: models.list_all}),
    "/v1/models/{model}": HttpEndpoint({READ: models.get}),
    "/v1/models/{model}/scaling-policy": HttpEndpoint(
        {READ: scaling.get, "PUT": scaling.put, "DELETE": scaling.delete}, most=_POLICY_BYTES
    ),
    "/v1/models/{model}/scaling-policy/changes": HttpEndpoint({READ: scaling.changes}),
    "/v1/models/{model}/scaling-plan": HttpEndpoint({READ: scaling.plan}),
    "/v1/models/{model}/release": HttpEndpoint({READ: releases.get, "PUT": releases.put}),
    "/v1/models/{model}/release/changes": HttpEndpoint({READ: releases.changes}),
    "/v1/models/{model}/rollback": HttpEndpoint({"POST": releases.roll_back}),
    "/v1/images/{id}": HttpEndpoint({READ: images.get}),
    "/v1/jobs": HttpEndpoint({READ: jobs.page}),
    "/v1/jobs/{id}": HttpEndpoint({READ: jobs.get, "DELETE": jobs.delete}),
    "/v1/jobs/{id}/cancel": HttpEndpoint({"POST": jobs.cancel}),
    "/v1/jobs/{id}/events": HttpEndpoint({READ: jobs.events}),
    "/ping": HttpEndpoint({READ: deployment.ping}, open=True),
    "/openapi.json": HttpEndpoint({READ: deployment.openapi}, open=True),
    "/docs": HttpEndpoint({READ: deployment.docs}, open=True),
}
_CORS: dict[str, Any] = {
    "allow_methods": ["*"],
    "allow_headers": ["*"],
    "expose_headers": ["ETag", "Location", "Preference-Applied", "Retry-After", "X-Request-Id"],
}
_COMPRESSED = {"/docs": [Middleware(GZipMiddleware)]}
_BELOW_MODELS = ("/v1/models/", "/tione/v1/models/")


class ControlPlane:
    """Sends every request to its route; turns every error into a problem; tells of every answer.

    `routes` are what only this deployment has, made with `HttpEndpoint`; they are looked at first. `answered` is told
    of every answer, and how many seconds it took, waits included.
    """

    def __init__(
        self,
        services: Services,
        routes: Sequence[BaseRoute] = (),
        answered: Callable[[Call, float], None] = lambda _call, _seconds: None,
    ) -> None:
        self.services = services
        self._answered = answered
        ours = [Route(path, endpoint, middleware=_COMPRESSED.get(path)) for path, endpoint in ROUTES.items()]
        self._router = Router([*routes, *ours], redirect_slashes=False, default=_unknown)
        pages = services.settings.pages()
        self._app: ASGIApp = CORSMiddleware(self._serve, pages, **_CORS) if pages else self._serve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._router(scope, receive, send)
            return
        scope["path"] = scope["path"].rstrip("/") or "/"
        call, started = Call(scope, receive, send, self.services), time.monotonic()
        scope[CALL] = call
        try:
            self._guard(call)
            await self._router(scope, call.receive, call.send)
        except (ClientGone, ClientDisconnect):
            pass
        except Exception as error:
            await self._answer_error(call, error)
        finally:
            self._answered(call, time.monotonic() - started)

    async def _answer_error(self, call: Call, error: Exception) -> None:
        """What nobody foresaw says nothing of itself: the log has the traceback, the caller an id to ask about."""
        known = error if isinstance(error, DarkroomError) else DarkroomError()
        if known is not error:
            self.services.log.error("unexpected error", exc_info=error, request_id=call.request_id)
        self.services.count(f"Problem.{known.code}")
        if call.status is not None:  # too late for another answer: let the connection break
            raise error
        send = call.send_and_close if call.unread else call.send
        await call.answers.problem(known)(call.scope, call.receive, send)

    def _guard(self, call: Call) -> None:
        """What is refused whatever it is about. Raises: MalformedRequest, Draining; what `Origins.check` raises."""
        if {"transfer-encoding", "content-length"} <= call.headers.keys():  # how requests are smuggled past a proxy
            raise MalformedRequest("A request has a Content-Length or a Transfer-Encoding, not both.")
        if self.services.origins is not None:
            self.services.origins.check(call.method, call.headers)
        if call.method == "POST" and self.services.draining():
            raise Draining(retry_after=5)


async def _unknown(scope: Scope, receive: Receive, send: Send) -> None:
    """Raises: ModelNotFound below the models' addresses, NotFound elsewhere."""
    if scope["type"] != "http":
        await Router().not_found(scope, receive, send)
        return
    call: Call = scope[CALL]
    raise ModelNotFound("There is no model of this name.") if call.path.startswith(_BELOW_MODELS) else NotFound()
