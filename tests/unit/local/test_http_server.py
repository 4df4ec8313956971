"""What the server says to those who never finish a request, or never begin one."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from local import http_server


async def app(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = http_server.server(app)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await task


async def exchange(raw: bytes) -> bytes:
    """All that comes back until the server closes."""
    async with serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(raw)
        await writer.drain()
        answer = await asyncio.wait_for(reader.read(), 30)
        writer.close()
        return answer


def refused(raw: bytes) -> tuple[int, str]:
    head, _, body = asyncio.run(exchange(raw)).partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    return int(head.split()[1]), json.loads(body)["code"]


def test_row_51_headers_that_trickle_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "HEADER_SECONDS", 0.05)
    assert refused(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ") == (408, "request_timeout")
    assert refused(b"") == (408, "request_timeout")


def test_row_51_headers_that_trickle_in_after_a_first_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "HEADER_SECONDS", 0.05)
    answer = asyncio.run(exchange(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HT"))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 408 " in answer


@pytest.mark.parametrize("flood", [b"X-Many: y\r\n" * 3000, b"X-Long: " + b"y" * 40_000])
def test_row_51_a_flood_of_headers(flood: bytes) -> None:
    assert refused(b"GET / HTTP/1.1\r\nHost: x\r\n" + flood) == (431, "headers_too_large")


@pytest.mark.parametrize(
    "lengths",
    [
        b"Content-Length: 2\r\nContent-Length: 3\r\n",
        b"Content-Length: -2\r\n",
        b"Content-Length: two\r\n",
    ],
)
def test_row_52_lengths_that_contradict_each_other(lengths: bytes) -> None:
    answer = asyncio.run(exchange(b"POST / HTTP/1.1\r\nHost: x\r\n" + lengths + b"\r\n0\r\n\r\n"))
    assert answer.startswith(b"HTTP/1.1 400 "), answer


@pytest.mark.parametrize("raw", [b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"])
def test_row_52_what_is_not_http(raw: bytes) -> None:
    assert refused(raw) == (400, "malformed_request")


def test_a_connection_is_used_again() -> None:
    request = b"GET / HTTP/1.1\r\nHost: x\r\n"
    answer = asyncio.run(exchange((request + b"\r\n") * 2 + request + b"Connection: close\r\n\r\n"))
    assert answer.count(b"HTTP/1.1 200 ") == 3
