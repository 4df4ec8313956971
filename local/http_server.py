"""uvicorn with limits on what one client may do to the others: late headers get 408, floods 431, nonsense 400."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import resource
import socket
import sys
from collections.abc import Iterator
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from darkroom.errors import DarkroomError, MalformedRequest, Overloaded, RequestHeadersTooLarge, RequestTimeout

HEADER_SECONDS = 10.0
HEADER_BYTES = 16_384
_KEEP_ALIVE_SECONDS = 30
_SHUTDOWN_SECONDS = 5
_RETRY_SECONDS = 2
_LINGER_SECONDS = 2.0
_MOST_CONNECTIONS = 4096
_ACCEPTED_AT_ONCE = 16  # of those that wait; we hear of them some turns of the loop later
_WAITING = 1024
_FREE_PIECES, _PIECE_BYTES = 1000, 512  # of a body: so many at least, and one for so many bytes


class StrictH11(H11Protocol):
    """A request's headers must arrive within `HEADER_SECONDS` of the connection, or of their first byte.

    A body comes in pieces (HTTP's chunks, the network's packets), and each is work: a few may be small, all together
    may not. Of more connections than there is room for, the one that has been idle for longest goes.
    """

    _deadline: asyncio.TimerHandle | None = None
    _refused = False
    _pieces = 0
    _bytes = 0

    def __init__(self, *args: Any, crowd: dict[StrictH11, None], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._crowd = crowd  # all connections, in the order in which they were made
        self._next_event = self.conn.next_event
        self.conn.next_event = self._counted  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._crowd[self] = None
        if len(self._crowd) > most_connections():
            idle = next((one for one in self._crowd if one.idle and one is not self), None)
            if idle is None:
                self._refuse(Overloaded("Too many requests are being answered.", retry_after=_RETRY_SECONDS))
                return
            del self._crowd[idle]  # now, not when the loop comes to tell us: the next one finds another
            idle.transport.abort()
        self._watch_headers()

    @property
    def idle(self) -> bool:
        """No request is being read or answered."""
        return self.conn.their_state is h11.IDLE and self.conn.our_state is h11.IDLE

    def _counted(self) -> Any:
        event = self._next_event()
        if isinstance(event, h11.Request):
            self._pieces = self._bytes = 0
            if sum(len(name) + len(value) + 4 for name, value in event.headers) > HEADER_BYTES:
                raise h11.RemoteProtocolError("the headers are too large", error_status_hint=431)
        elif isinstance(event, h11.Data):
            self._pieces += 1
            self._bytes += len(event.data)
            if self._pieces > _FREE_PIECES + self._bytes // _PIECE_BYTES:
                raise h11.RemoteProtocolError("the body comes in crumbs")
        return event

    def data_received(self, data: bytes) -> None:
        if not self._refused:
            super().data_received(data)
            self._watch_headers()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing() and self.conn.trailing_data[0]:  # the next request has begun
            self._watch_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._crowd.pop(self, None)
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
        if self.cycle is not None:  # who is working on an answer need not send it
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        # Closed at once, a connection that still brings something is reset, and the answer with it.
        self._refused = True
        self.flow.resume_reading()
        self.transport.write_eof()
        self.loop.call_later(_LINGER_SECONDS, self.transport.close)


def most_connections() -> int:
    """How many leave files for everything else: this process may open no more than its limit."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_CONNECTIONS if files == resource.RLIM_INFINITY else min(_MOST_CONNECTIONS, files * 3 // 4)


class Server(uvicorn.Server):
    """Leaves the signals to whoever runs it."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            # asyncio's backlog is both how many it accepts at once and how many may wait, of which there may be more:
            # who finds no room to wait tries again after seconds.
            listener.listen(_WAITING)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def server(app: Any) -> Server:
    """A server for an ASGI application; give `serve` its listening socket."""
    config = uvicorn.Config(
        app,
        http=functools.partial(StrictH11, crowd={}),  # type: ignore[arg-type] # it is called as the class is
        backlog=_ACCEPTED_AT_ONCE,
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
