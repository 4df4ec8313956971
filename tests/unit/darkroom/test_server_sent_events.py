"""What is written can be read, and what others write too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from darkroom.server_sent_events import KEEP_ALIVE, event, events


def read(stream: str) -> list[tuple[str, str]]:
    async def lines() -> AsyncIterator[str]:
        for line in stream.splitlines():
            yield line

    async def collect() -> list[tuple[str, str]]:
        return [pair async for pair in events(lines())]

    return asyncio.run(collect())


def test_an_event_is_two_lines_and_a_blank_one() -> None:
    assert event("progress", '{"step": 1}') == 'event: progress\ndata: {"step": 1}\n\n'


@pytest.mark.parametrize("data", ["{}", "one\ntwo", "", " indented", "a: b", "\n"])
def test_what_is_written_is_read(data: str) -> None:
    stream = event("progress", data) + KEEP_ALIVE + event("result", data, retry_milliseconds=1000)
    assert read(stream) == [("progress", data), ("result", data)]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        ("data:no space\n\n", [("message", "no space")]),
        ("event: named\n\ndata: after it\n\n", [("message", "after it")]),
        ("data\n\n", [("message", "")]),
        ("id: 4\nretry: 10\nfoo: bar\ndata: x\n\n", [("message", "x")]),
        ("event: cut\ndata: off\n", []),
        ("", []),
    ],
)
def test_as_the_standard_has_it(stream: str, expected: list[tuple[str, str]]) -> None:
    assert read(stream) == expected
