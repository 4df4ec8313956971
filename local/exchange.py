"""One HTTP request and its answer, as ASGI has them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.types import Message, Receive, Scope, Send

from darkroom.errors import MalformedRequest, PayloadTooLarge, RequestTimeout
from functions.answers import Answer

_LINGER_SECONDS = 2.0
_LINGER_BYTES = 64 << 20


class ClientGone(Exception):
    """The client closed its connection; there is nobody to answer."""


@dataclass
class Exchange:
    """`headers` has lower-case names; a header that came more than once is joined by commas."""

    scope: Scope
    _receive: Receive
    _send: Send
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: int | None = None

    def __post_init__(self) -> None:
        self.method: str = self.scope["method"]
        self.path: str = self.scope["path"]
        self.headers: dict[str, str] = {}
        self._more = True  # of the body is to come
        for name, value in self.scope["headers"]:
            key, said = name.decode("latin-1").lower(), value.decode("latin-1")
            self.headers[key] = f"{self.headers[key]},{said}" if key in self.headers else said

    async def receive(self) -> Message:
        message = await self._receive()
        self._more = message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)

    async def body(self, *, limit: int, seconds: float) -> bytes:
        """The whole request body; one that is too large is refused before it is read, or at the byte where it shows.

        Raises: PayloadTooLarge, RequestTimeout, MalformedRequest (a length that is no number), ClientGone.
        """
        said = self.headers.get("content-length", "0")
        if not said.isascii() or not said.isdigit():
            raise MalformedRequest("Content-Length is not a number.")
        if int(said) > limit:
            raise PayloadTooLarge(f"The body may have at most {limit} bytes.")
        body = bytearray()
        try:
            async with asyncio.timeout(seconds):
                while True:
                    message = await self.receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    body += message.get("body", b"")
                    if len(body) > limit:
                        raise PayloadTooLarge(f"The body may have at most {limit} bytes.")
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            raise RequestTimeout(f"The body must arrive within {seconds:g} seconds.") from None

    async def gone(self) -> None:
        """Returns when the client has closed its connection; call it once the body is read."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def answer(self, answer: Answer, *, close: bool = False) -> None:
        """Send a built answer. `close`: the rest of the request is not wanted, so the connection ends with it."""
        headers = {**answer.headers, "X-Request-Id": self.request_id}
        body = answer.body().encode()
        if not close:
            await self.respond(answer.status, body, answer.content_type, headers)
            return
        await self.start(answer.status, answer.content_type, {**headers, "Connection": "close"}, length=len(body))
        await self.send({"type": "http.response.body", "body": body, "more_body": True})
        await self._linger()
        await self.send({"type": "http.response.body", "body": b""})

    async def respond(self, status: int, body: bytes, content_type: str | None, headers: Mapping[str, str]) -> None:
        await self.start(status, content_type, headers, length=len(body))
        await self.send({"type": "http.response.body", "body": body})

    async def start(
        self, status: int, content_type: str | None, headers: Mapping[str, str], *, length: int | None = None
    ) -> None:
        told = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        if content_type:
            told.append((b"content-type", content_type.encode("latin-1")))
        if length is not None:
            told.append((b"content-length", str(length).encode()))
        await self.send({"type": "http.response.start", "status": status, "headers": told})

    async def _linger(self) -> None:
        """Read on and forget for a while: closing on a client that still writes would take the answer from it."""
        if "expect" in self.headers:  # it waits for our leave to write
            return
        left = _LINGER_BYTES
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                while self._more and left > 0:
                    left -= len((await self.receive()).get("body", b""))
        except TimeoutError:
            return
