"""Reading a request body under a cap and a deadline."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from starlette.responses import Response

from api.call import Call, ClientGone
from darkroom.errors import MalformedRequest, PayloadTooLarge, RequestTimeout


class Wire:
    """An ASGI server's side: what the client sends, and what it got. After the last message the client is silent."""

    def __init__(self, *messages: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        self.messages = list(messages)
        self.read = 0
        self.sent: list[Any] = []
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/",
            "headers": [(name.encode(), value.encode()) for name, value in (headers or {}).items()],
        }
        self.call = Call(scope, self.receive, self.send, None)  # type: ignore[arg-type]

    async def receive(self) -> Any:
        if self.read == len(self.messages):
            await asyncio.Event().wait()
        self.read += 1
        return self.messages[self.read - 1]

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    def body(self, limit: int = 10, seconds: float = 10.0) -> bytes:
        return asyncio.run(self.call.read(limit=limit, seconds=seconds))


def part(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_body_in_parts() -> None:
    assert Wire(part(b"ab", more=True), part(b"", more=True), part(b"cd")).body() == b"abcd"


@pytest.mark.parametrize(
    ("wire", "error", "read"),
    [
        (lambda: Wire(part(b"x" * 11), headers={"Content-Length": "11"}), PayloadTooLarge, 0),
        (lambda: Wire(part(b"x" * 11)), PayloadTooLarge, 1),
        (lambda: Wire(*[part(b"xxxx", more=True)] * 100), PayloadTooLarge, 3),
        (lambda: Wire(part(b""), headers={"Content-Length": "-1"}), MalformedRequest, 0),
        (lambda: Wire(part(b""), headers={"Content-Length": "²"}), MalformedRequest, 0),
        (lambda: Wire(part(b"x", more=True), {"type": "http.disconnect"}), ClientGone, 2),
    ],
)
def test_a_body_that_is_refused(wire: Callable[[], Wire], error: type[Exception], read: int) -> None:
    made = wire()
    with pytest.raises(error):
        made.body()
    assert made.read == read


def test_a_body_that_never_ends() -> None:
    with pytest.raises(RequestTimeout):
        Wire(part(b"x", more=True)).body(seconds=0.01)


def test_headers_that_come_twice_are_joined() -> None:
    scope = {**Wire().call.scope, "headers": [(b"Prefer", b"respond-async"), (b"prefer", b"wait=5")]}
    assert Call(scope, None, None, None).headers == {"prefer": "respond-async,wait=5"}  # type: ignore[arg-type]


def test_query_parameters_are_decoded_and_joined() -> None:
    scope = {**Wire().call.scope, "query_string": b"a=1&a=2&b=%20&c"}
    assert Call(scope, None, None, None).query == {"a": "1,2", "b": " ", "c": ""}  # type: ignore[arg-type]


def close(wire: Wire) -> None:
    async def answer() -> None:
        await Response(b"refused", 413)(wire.call.scope, wire.call.receive, wire.call.send_and_close)

    asyncio.run(answer())


def test_a_closing_answer_lets_the_client_finish_writing() -> None:
    wire = Wire(*[part(b"x" * 100, more=True)] * 5, part(b"x"), headers={"Transfer-Encoding": "chunked"})
    close(wire)
    assert wire.read == 6
    assert (b"connection", b"close") in wire.sent[0]["headers"]
    assert wire.sent[1]["body"] == b"refused"
    assert wire.sent[-1] == {"type": "http.response.body", "body": b""}


def test_a_client_who_waits_for_leave_to_write_is_not_waited_for() -> None:
    wire = Wire(headers={"Expect": "100-continue", "Content-Length": "5"})
    close(wire)
    assert wire.read == 0


def test_every_answer_carries_the_requests_id() -> None:
    wire = Wire()
    close(wire)
    assert (b"x-request-id", wire.call.request_id.encode()) in wire.sent[0]["headers"]
    assert wire.call.status == 413
