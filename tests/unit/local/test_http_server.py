"""What the server says to those who never finish a request, or never begin one."""

import asyncio
import contextlib
import json
import resource
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn
import uvicorn.server

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


@pytest.mark.parametrize(
    "flood",
    [
        b"X-Many: y\r\n" * 3000,
        b"X-Long: " + b"y" * 40_000,
        b"X-Burst: " + b"y" * 100_000 + b"\r\n\r\n",  # whole, and perhaps in one packet
        b"X-Crumbs: y\r\n" * 1500 + b"\r\n",
    ],
)
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


CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_a_body_in_crumbs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of one byte cost a hundred times what they carry; the loop has others to serve."""
    pieces = []
    counted = http_server.StrictH11._counted
    monkeypatch.setattr(http_server.StrictH11, "_counted", lambda self: pieces.append(1) or counted(self))
    assert refused(CHUNKED + b"1\r\nx\r\n" * 300_000) == (400, "malformed_request")
    assert len(pieces) < 1100


def test_a_body_in_a_few_small_pieces_and_many_large_ones() -> None:
    chunks = b"1\r\nx\r\n" * 900 + b"400\r\n" + b"x" * 1024 + b"\r\n"
    many = (b"400\r\n" + b"x" * 1024 + b"\r\n") * 2000
    last = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = asyncio.run(exchange(CHUNKED + chunks + many + b"0\r\n\r\n" + last))
    assert answer.count(b"HTTP/1.1 200 ") == 2


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """There is room for three connections."""
    monkeypatch.setattr(http_server, "most_connections", lambda: 3)
    return 3


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    return await asyncio.wait_for(reader.readuntil(b"ok"), 30)


def test_idle_connections_make_room_oldest_first(few: int) -> None:
    async def crowd() -> None:
        async with serving() as port, contextlib.AsyncExitStack() as open_:
            idle = [await open_.enter_async_context(connected(port)) for _ in range(few + 20)]
            newest = await open_.enter_async_context(connected(port))
            assert (await answered(*newest)).startswith(b"HTTP/1.1 200 ")
            for reader, _ in idle[:21]:
                with contextlib.suppress(ConnectionResetError):
                    assert not await asyncio.wait_for(reader.read(), 30)
            assert (await answered(*idle[-1])).startswith(b"HTTP/1.1 200 ")

    asyncio.run(crowd())


def test_many_at_once_each_make_room(few: int) -> None:
    """Of a crowd that comes in one turn of the loop each sends another one away, not all the same."""
    aborted = []

    class Transport(asyncio.Transport):
        def get_extra_info(self, _name: str, default: object = None) -> object:
            return default

        def is_closing(self) -> bool:
            return False

        def abort(self) -> None:
            aborted.append(self)

    async def crowd() -> None:
        config = http_server.server(app).config
        make: Any = config.http
        transports = [Transport() for _ in range(few + 10)]
        state = uvicorn.server.ServerState()
        for transport in transports:
            make(config=config, server_state=state, app_state={}).connection_made(transport)
        assert aborted == transports[:10]

    asyncio.run(crowd())


def test_who_is_being_answered_is_never_sent_away(few: int) -> None:
    async def crowd() -> None:
        async with serving() as port, contextlib.AsyncExitStack() as open_:
            busy = [await open_.enter_async_context(connected(port)) for _ in range(few)]
            for reader, writer in busy:  # answered once, so it is known that the server reads them
                await answered(reader, writer)
                writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
                await asyncio.wait_for(reader.readuntil(b"100 Continue\r\n\r\n"), 30)
            reader, _ = await open_.enter_async_context(connected(port))
            refusal = await asyncio.wait_for(reader.read(), 30)
            assert refusal.startswith(b"HTTP/1.1 503 ")
            assert b'"code":"overloaded"' in refusal
            for reader, writer in busy:
                writer.write(b"xx")
                assert (await asyncio.wait_for(reader.readuntil(b"ok"), 30)).startswith(b"HTTP/1.1 200 ")

    asyncio.run(crowd())


@pytest.mark.parametrize(("files", "most"), [(1024, 768), (100_000, 4096), (resource.RLIM_INFINITY, 4096)])
def test_connections_leave_files_for_the_rest(monkeypatch: pytest.MonkeyPatch, files: int, most: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (files, files))
    assert http_server.most_connections() == most
