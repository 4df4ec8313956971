"""Progress as server-sent events: what the engine thread publishes, and the stream that carries it to a caller."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from darkroom.errors import DarkroomError, JobCancelled
from darkroom.server_sent_events import KEEP_ALIVE, MEDIA_TYPE, event
from runtime.arrays import Floats
from runtime.serving.generation import Generation, Look

KEEP_ALIVE_SECONDS = 10.0


class ProgressFeed:
    """The latest look at a generation: a caller who is slower than the engine misses steps, and holds up nothing."""

    def __init__(self) -> None:
        """To be made inside the event loop that reads it."""
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._latest: Look | None = None

    def publish(self, look: Look) -> None:
        """Called from the engine thread."""
        self._latest = look
        self._wake()

    def end(self) -> None:
        """There is an answer; called from any thread."""
        self._wake()

    async def next(self) -> Look | None:
        """The newest look that has not been read, None where there was none since: then there is an answer."""
        await self._changed.wait()
        self._changed.clear()
        latest, self._latest = self._latest, None
        return latest

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop has ended, and its readers with it
            self._loop.call_soon_threadsafe(self._changed.set)


class EventStream(StreamingResponse):
    """`event: progress` after steps, comments while nothing happens, and exactly one `event: result` or `event: error`.

    A caller who leaves gives the generation up.
    """

    def __init__(self, generation: Generation, feed: ProgressFeed, preview: Callable[[Floats], str]) -> None:
        """`preview` makes a data URI of a denoised estimate; it is called outside the event loop."""
        super().__init__(self._chunks(), headers={"Cache-Control": "no-store"}, media_type=MEDIA_TYPE)
        self._generation = generation
        self._feed = feed
        self._preview = preview

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        self._generation.answer.add_done_callback(lambda _: self._feed.end())
        sending = asyncio.ensure_future(self.stream_response(send))
        leaving = asyncio.ensure_future(client_left(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._generation.fail(JobCancelled())  # changes nothing where there is an answer
            leaving.cancel()
            if not sending.done():
                sending.cancel()
        await asyncio.gather(sending, leaving, return_exceptions=True)

    async def _chunks(self) -> AsyncIterator[str]:
        generation = self._generation
        while not generation.answered:
            try:
                look = await asyncio.wait_for(self._feed.next(), KEEP_ALIVE_SECONDS)
            except TimeoutError:
                yield KEEP_ALIVE
                continue
            if look is not None:
                shown = None if look.denoised is None else await asyncio.to_thread(self._preview, look.denoised)
                yield event("progress", json.dumps({"step": look.step, "steps": look.steps, "preview": shown}))
        error = generation.answer.exception()
        if error is None:
            yield event("result", generation.answer.result().model_dump_json())
        else:
            known = error if isinstance(error, DarkroomError) else DarkroomError()
            yield event("error", known.problem(generation.id).model_dump_json())


async def client_left(receive: Receive) -> None:
    """Return when the client has gone away."""
    while (await receive())["type"] != "http.disconnect":
        pass
