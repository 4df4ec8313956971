"""The handlers of one address, by method, as an ASGI application."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from operator import attrgetter
from typing import cast

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.answers import ProblemForm, rfc_9457
from api.call import CALL, Call
from darkroom.errors import MethodNotAllowed
from darkroom.settings import Settings

Handler = Callable[[Call], Response | Awaitable[Response]]
Handlers = Mapping[str, Handler]
READ = "GET, HEAD"  # both, by one handler
DOCUMENT_BYTES = 65_536  # of a body that holds no image
MOST_OF_A_BODY: Callable[[Settings], int] = attrgetter("max_body_bytes")
MOST_OF_A_FORM: Callable[[Settings], int] = attrgetter("max_form_bytes")
BODY_SECONDS = 20.0


class HttpEndpoint:
    """Asks who calls, reads the body, then calls the method's handler: a coroutine on the loop, any other off it.

    Any other method gets the answer that names those there are. `open`: to everybody, nobody is asked for a key. The
    body may have `most` bytes, or what that says of the settings; with `reads=False` it is the handlers' business.
    `form` is how its callers read errors.
    Raises: what handlers, `Call.identify`, `Bodies.room` and `Call.read` raise.
    """

    def __init__(
        self,
        handlers: Handlers,
        *,
        open: bool = False,
        most: int | Callable[[Settings], int] = DOCUMENT_BYTES,
        reads: bool = True,
        form: ProblemForm = rfc_9457,
    ) -> None:
        self.methods = {method: handler for names, handler in handlers.items() for method in names.split(", ")}
        self._allow = ", ".join(self.methods)
        self._open = open
        self._most = most
        self._reads = reads
        self._form = form

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call: Call = scope[CALL]
        call.form = self._form
        handler = self.methods.get(call.method)
        if handler is None:
            refusal = call.answers.problem(MethodNotAllowed(), {"Allow": self._allow})
            await refusal(scope, receive, call.send_and_close if call.unread else send)
            return
        if not self._open:
            await call.identify()
        if not self._reads:
            response = await self._answer(call, handler)
        else:
            settings = call.services.settings
            limit = min(self._most, settings.max_body_bytes) if isinstance(self._most, int) else self._most(settings)
            size = call.announced(limit=limit)
            async with call.services.bodies.room(call.tenant, size, seconds=BODY_SECONDS) as call.give_back:
                await call.read(limit=limit, seconds=BODY_SECONDS)
                response = await self._answer(call, handler)
        await response(scope, receive, send)

    async def _answer(self, call: Call, handler: Handler) -> Response:
        if inspect.iscoroutinefunction(handler):
            response: Response = await handler(call)
            return response
        return await call.services.run(cast(Callable[[Call], Response], handler), call)
