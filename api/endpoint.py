"""The handlers of one address, by method, as an ASGI application."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import cast

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.call import CALL, Call
from darkroom.errors import MethodNotAllowed

Handler = Callable[[Call], Response | Awaitable[Response]]
Handlers = Mapping[str, Handler]
READ = "GET, HEAD"  # both, by one handler
_BODY_SECONDS = 20.0


class HttpEndpoint:
    """Reads the body, then calls the method's handler: a coroutine on the loop, any other function off it.

    Any other method gets the answer that names those there are. With `reads=False` the body is the handlers' business.
    Raises: what handlers and `Call.read` raise.
    """

    def __init__(self, handlers: Handlers, *, reads: bool = True) -> None:
        self._handlers = {method: handler for names, handler in handlers.items() for method in names.split(", ")}
        self._allow = ", ".join(self._handlers)
        self._reads = reads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call: Call = scope[CALL]
        if self._reads:
            await body_of(call)
        response = await self._answer(call)
        await response(scope, receive, send)

    async def _answer(self, call: Call) -> Response:
        handler = self._handlers.get(call.method)
        if handler is None:
            return call.answers.problem(MethodNotAllowed(), {"Allow": self._allow})
        if inspect.iscoroutinefunction(handler):
            response: Response = await handler(call)
            return response
        return await call.services.run(cast(Callable[[Call], Response], handler), call)


async def body_of(call: Call) -> bytes:
    """The body, under the API's own cap and deadline. Raises: what `Call.read` raises."""
    return await call.read(limit=call.services.settings.max_body_bytes, seconds=_BODY_SECONDS)
