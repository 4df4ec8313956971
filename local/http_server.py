"""uvicorn with limits on what one client may do to the others: late headers get 408, floods 431, nonsense 400."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from darkroom.errors import DarkroomError, MalformedRequest, RequestHeadersTooLarge, RequestTimeout

HEADER_SECONDS = 10.0
HEADER_BYTES = 16_384
_KEEP_ALIVE_SECONDS = 30
_SHUTDOWN_SECONDS = 5


class StrictH11(H11Protocol):
    """A request's headers must arrive within `HEADER_SECONDS` of the connection, or of their first byte."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch_headers()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_headers()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing() and self.conn.trailing_data[0]:  # the next request has begun
            self._watch_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watching()
        super().connection_lost(exc)

    def _watch_headers(self) -> None:
        if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
            self._stop_watching()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEADER_SECONDS, self._too_late)

    def _stop_watching(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_late(self) -> None:
        self._deadline = None
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self._refuse(RequestTimeout(f"The headers must arrive within {HEADER_SECONDS:g} seconds."))

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  (uvicorn's words are not for strangers)
        """uvicorn calls this from where it catches h11's error, which knows the better status."""
        caught = sys.exc_info()[1]
        flood = isinstance(caught, h11.RemoteProtocolError) and caught.error_status_hint == 431
        self._refuse(RequestHeadersTooLarge() if flood else MalformedRequest())

    def _refuse(self, error: DarkroomError) -> None:
        """Answer what never became a request; while another one is being answered, only end the connection."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = error.problem().model_dump_json(exclude_none=True).encode()
            headers = [
                ("content-type", "application/problem+json"),
                ("content-length", str(len(body))),
                ("connection", "close"),
            ]
            answer = h11.Response(status_code=error.status, headers=headers)
            for event in (answer, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


class Server(uvicorn.Server):
    """Leaves the signals to whoever runs it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def server(app: Any) -> Server:
    """A server for an ASGI application; give `serve` its listening socket."""
    config = uvicorn.Config(
        app,
        http=StrictH11,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        h11_max_incomplete_event_size=HEADER_BYTES,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    return Server(config)
