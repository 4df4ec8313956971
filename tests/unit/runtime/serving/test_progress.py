"""The stream of events, driven without a socket."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from darkroom.errors import JobCancelled
from runtime.serving import progress
from runtime.serving.generation import Look
from runtime.serving.progress import EventStream, ProgressFeed


class Wire:
    """An ASGI connection: what was sent, and a client that leaves when told to."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.left = asyncio.Event()
        self.got = asyncio.Condition()

    async def receive(self) -> dict[str, str]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict) -> None:
        async with self.got:
            self.sent.append(message.get("body", b""))
            self.got.notify_all()

    async def until(self, part: bytes) -> None:
        async with self.got:
            await self.got.wait_for(lambda: any(part in body for body in self.sent))


def run(scenario) -> None:
    asyncio.run(asyncio.wait_for(scenario, 10))


def test_a_feed_keeps_only_the_newest_look() -> None:
    async def scenario() -> None:
        feed = ProgressFeed()
        for step in range(3):
            feed.publish(Look(step, 3, None))
        assert (await feed.next()).step == 2
        feed.end()
        assert await feed.next() is None

    run(scenario())


def test_publishing_after_the_event_loop_has_ended_is_harmless() -> None:
    feeds = []

    async def scenario() -> None:
        feeds.append(ProgressFeed())

    run(scenario())
    feeds[0].publish(Look(1, 2, None))
    feeds[0].end()


def test_silence_is_filled_with_comments(service, admit, monkeypatch) -> None:
    monkeypatch.setattr(progress, "KEEP_ALIVE_SECONDS", 0.001)

    async def scenario() -> None:
        wire, feed = Wire(), ProgressFeed()
        generation = admit(service, listener=feed.publish)
        streaming = asyncio.create_task(EventStream(generation, feed, lambda _: "preview")({}, wire.receive, wire.send))
        await wire.until(b": keep-alive\n\n")
        feed.publish(Look(1, 4, np.zeros((4, 4, 4), np.float32)))
        await wire.until(b'"preview": "preview"')
        feed.publish(Look(2, 4, None))
        await wire.until(b'"preview": null')
        generation.fail(JobCancelled())
        await streaming
        assert wire.sent[-2].startswith(b"event: error\n")
        assert wire.sent[-1] == b""

    run(scenario())


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_stream_that_ends_early_gives_the_generation_up(service, admit, cancelled: bool) -> None:
    async def scenario() -> None:
        wire, feed = Wire(), ProgressFeed()
        generation = admit(service, listener=feed.publish)
        streaming = asyncio.create_task(EventStream(generation, feed, lambda _: "")({}, wire.receive, wire.send))
        await wire.until(b"")
        if cancelled:
            streaming.cancel()
        else:
            wire.left.set()
        await asyncio.gather(streaming, return_exceptions=True)
        assert isinstance(generation.answer.exception(0), JobCancelled)

    run(scenario())
