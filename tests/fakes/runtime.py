"""A runtime that speaks the whole HTTP contract and makes pictures of nothing.

Words in the prompt make it misbehave; a directory shared with the test steers and records it:

- `hold` stops after the first step until the file `go` is there; `gone-{id}` tells that the client left meanwhile
- `busy` answers `overloaded` (and makes `turned-away`) until the file `room` is there
- `fetching` waits for an image (and makes `fetching-{id}`) until the file `fetched` is there, before it says anything
- `crash` ends the process; `fail:{code}` answers that error
- while the file `hold-start` is there, a process that starts does not become ready
- `made` gets a line `{id} {seed}` for every image that was stored
"""

import asyncio
import hashlib
import json
import os
import signal
import socket
import struct
import sys
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from darkroom.contracts import GeneratedImage, GenerationResult, Invocation
from darkroom.errors import DarkroomError, Draining, Overloaded, Problem
from darkroom.storage import open_store

PROGRAM = ("-m", "tests.fakes.runtime")
LOOK_SECONDS = 0.01


class FakeRuntime:
    def __init__(self, store_url: str, directory: Path) -> None:
        self.store = open_store(store_url)
        self.directory = directory
        self.status = "ready"
        self.app = Starlette(
            routes=[
                Route("/ping", self.ping),
                Route("/invocations", self.invocations, methods=["POST"]),
                Route("/metrics", lambda _: PlainTextResponse("fake_runtime 1\n")),
            ]
        )

    async def ping(self, _: Request) -> Response:
        told = {"status": self.status, "model": "crayon", "version": "f" * 16, "target": "fake"}
        return JSONResponse(told, 200 if self.status == "ready" else 503)

    async def invocations(self, request: Request) -> Response:
        invocation = Invocation.model_validate_json(await request.body())
        words = invocation.request.prompt.split()
        if self.status != "ready":
            return problem(Draining())
        if "busy" in words and not (self.directory / "room").exists():
            (self.directory / "turned-away").touch()
            return problem(Overloaded(retry_after=1))
        if "fetching" in words:
            (self.directory / f"fetching-{invocation.id}").touch()
            while not (self.directory / "fetched").exists():  # noqa: ASYNC110 (a test makes it)
                await asyncio.sleep(LOOK_SECONDS)
        return StreamingResponse(self.events(invocation, words), media_type="text/event-stream")

    async def events(self, invocation: Invocation, words: list[str]) -> AsyncIterator[str]:
        asked = invocation.request
        steps = (asked.num_inference_steps or 1) * asked.num_images
        for step in range(1, steps + 1):
            yield event("progress", {"step": step, "steps": steps, "preview": "data:image/jpeg;base64,AA=="})
            if "crash" in words:
                os.kill(os.getpid(), signal.SIGKILL)
            if "hold" in words:
                await self.held(invocation.id)
        for word in words:
            if word.startswith("fail:"):
                error = DarkroomError._by_code[word.removeprefix("fail:")]()
                yield event("error", error.problem(invocation.id).model_dump(mode="json"))
                return
        yield event("result", self.make(invocation).model_dump(mode="json"))

    async def held(self, job: str) -> None:
        (self.directory / f"held-{job}").touch()
        try:
            while not (self.directory / "go").exists():  # noqa: ASYNC110  (another process makes it)
                await asyncio.sleep(LOOK_SECONDS)
        except asyncio.CancelledError:
            (self.directory / f"gone-{job}").touch()
            raise

    def make(self, invocation: Invocation) -> GenerationResult:
        asked, images = invocation.request, []
        for index in range(asked.num_images):
            seed = ((asked.seed or 0) + index) % 2**32
            body = png(seed)
            key = f"images/{invocation.id}/{index}.{asked.output_format.value}"
            self.store.put(key, body, content_type="image/png")
            with (self.directory / "made").open("a") as made:
                made.write(f"{invocation.id} {seed}\n")
            images.append(
                GeneratedImage(
                    key=key,
                    seed=seed,
                    width=1,
                    height=1,
                    content_type="image/png",
                    size=len(body),
                    sha256=hashlib.sha256(body).hexdigest(),
                )
            )
        return GenerationResult(images=images, seed=asked.seed or 0, model="crayon", version="f" * 16, target="fake")


def problem(error: DarkroomError) -> Response:
    told: Problem = error.problem()
    return JSONResponse(told.model_dump(mode="json"), told.status, media_type="application/problem+json")


def event(name: str, data: Any) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


def png(seed: int) -> bytes:
    """A PNG of one pixel, whose colour is the seed."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header, pixel = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0), b"\0" + seed.to_bytes(4, "big")[1:]
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixel)) + chunk(b"IEND", b"")


class Server(uvicorn.Server):
    def capture_signals(self) -> Any:
        return nullcontext()


def server(fake: FakeRuntime) -> Server:
    return Server(uvicorn.Config(fake.app, ws="none", lifespan="off", log_config=None, access_log=False))


@asynccontextmanager
async def serving(fake: FakeRuntime) -> AsyncIterator[str]:
    """Serve in this event loop; gives the base URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    running = server(fake)
    task = asyncio.create_task(running.serve(sockets=[listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        running.should_exit = running.force_exit = True
        await task


async def main() -> None:
    """Run as a process of the pool: the directory to share is the one argument."""
    fake = FakeRuntime(os.environ["RUNTIME_STORE_URL"], Path(sys.argv[1]))
    while (fake.directory / "hold-start").exists():  # noqa: ASYNC110  (another process removes it)
        await asyncio.sleep(LOOK_SECONDS)
    listener, running = socket.socket(fileno=int(os.environ["RUNTIME_FD"])), server(fake)

    def drain() -> None:
        fake.status = "draining"
        running.should_exit = True

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, drain)
    print("fake runtime is up", flush=True)
    await running.serve(sockets=[listener])


if __name__ == "__main__":
    asyncio.run(main())
