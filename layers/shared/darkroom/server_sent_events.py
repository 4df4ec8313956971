"""Server-sent events (HTML Standard, 9.2), written and read."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

MEDIA_TYPE = "text/event-stream"
KEEP_ALIVE = ": keep-alive\n\n"
"""A comment: shows that the connection lives."""


def event(name: str, data: str, *, id: int | None = None, retry_milliseconds: int | None = None) -> str:
    """One event. With `retry_milliseconds`, a browser whose stream ends comes back after so long; the `id` of the last
    event that it has seen it then sends as Last-Event-ID."""
    known = "" if id is None else f"id: {id}\n"
    retry = "" if retry_milliseconds is None else f"retry: {retry_milliseconds}\n"
    lines = "".join(f"data: {line}\n" for line in data.split("\n"))
    return f"event: {name}\n{known}{retry}{lines}\n"


async def events(lines: AsyncIterator[str]) -> AsyncGenerator[tuple[str, str], None]:
    """(name, data) of each event in the lines of a stream; one that its end cuts off is left out."""
    name, data = "message", list[str]()
    async for line in lines:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                yield name, "\n".join(data)
            name, data = "message", []
        elif field == "event":
            name = value
        elif field == "data":
            data.append(value)
