"""A runtime over HTTP: a real server, and raw sockets for what a real one would never send."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from darkroom.contracts import GenerationRequest, GenerationResult, Invocation
from darkroom.errors import DarkroomError, Draining, GenerationInvalid, Overloaded, RuntimeUnavailable
from darkroom.inference import Unreached
from darkroom.inference.http import HttpRuntime, StepProgress
from tests.fakes import runtime as fake


def invocation(prompt: str = "a dog", **asked: int) -> Invocation:
    request = GenerationRequest(prompt=prompt, seed=7, **{"num_inference_steps": 3, **asked})
    return Invocation(id="job-1", request=request)


async def collect(runtime: HttpRuntime, asked: Invocation) -> list[StepProgress | GenerationResult]:
    return [told async for told in runtime.invoke(asked)]


@contextlib.asynccontextmanager
async def fake_runtime(directory: Path) -> AsyncIterator[tuple[fake.FakeRuntime, HttpRuntime]]:
    served = fake.FakeRuntime(str(directory / "store"), directory)
    async with fake.serving(served) as url:
        runtime = HttpRuntime(url)
        try:
            yield served, runtime
        finally:
            await runtime.close()


@contextlib.asynccontextmanager
async def scripted(answer: bytes) -> AsyncIterator[HttpRuntime]:
    """A runtime that says these bytes and hangs up."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    runtime = HttpRuntime(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    try:
        yield runtime
    finally:
        await runtime.close()
        server.close()
        await server.wait_closed()


def test_steps_and_then_the_result(tmp_path: Path) -> None:
    async def run() -> list[StepProgress | GenerationResult]:
        async with fake_runtime(tmp_path) as (_, runtime):
            return await collect(runtime, invocation(num_images=2))

    *steps, result = asyncio.run(run())
    assert [(step.progress.step, step.progress.steps) for step in steps if isinstance(step, StepProgress)] == [
        (step, 6) for step in range(1, 7)
    ]
    assert isinstance(result, GenerationResult)
    assert [image.seed for image in result.images] == [7, 8]


@pytest.mark.parametrize(
    ("prompt", "error"), [("fail:generation_invalid", GenerationInvalid), ("busy", Overloaded), ("leave", Draining)]
)
def test_the_runtimes_own_error(tmp_path: Path, prompt: str, error: type[DarkroomError]) -> None:
    async def run() -> None:
        async with fake_runtime(tmp_path) as (served, runtime):
            served.status = "draining" if prompt == "leave" else "ready"
            await collect(runtime, invocation(prompt))

    with pytest.raises(error):
        asyncio.run(run())


def test_closing_the_iterator_ends_the_invocation(tmp_path: Path) -> None:
    async def run() -> None:
        async with fake_runtime(tmp_path) as (_, runtime):
            async with contextlib.aclosing(runtime.invoke(invocation("hold"))) as told:
                assert isinstance(await anext(told), StepProgress)
            async with asyncio.timeout(30):
                while not (tmp_path / "gone-job-1").exists():  # noqa: ASYNC110  (the server writes it)
                    await asyncio.sleep(0.01)

    asyncio.run(run())
    assert not (tmp_path / "made").exists()


def test_nobody_listens() -> None:
    async def run() -> None:
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        runtime = HttpRuntime(f"http://127.0.0.1:{port}")
        try:
            assert await runtime.readiness() is None
            await collect(runtime, invocation())
        finally:
            await runtime.close()

    with pytest.raises(Unreached):
        asyncio.run(run())


STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nevent: pro",
        STREAM,
        STREAM + b"event: progress\ndata: {}\n\n",
        STREAM + b"event: progress\ndata: [\n\n",
        STREAM + b"event: result\ndata: {}\n\n",
        STREAM + b"event: error\ndata: nonsense\n\n",
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\noops",
        b"SSH-2.0-OpenSSH\r\n",
    ],
)
def test_an_answer_that_breaks_off_or_makes_no_sense(answer: bytes) -> None:
    async def run() -> None:
        async with scripted(answer) as runtime:
            await collect(runtime, invocation())

    with pytest.raises(RuntimeUnavailable) as failed:
        asyncio.run(run())
    assert not isinstance(failed.value, Unreached)


def test_readiness_is_what_ping_says(tmp_path: Path) -> None:
    async def run() -> list[bool]:
        async with fake_runtime(tmp_path) as (served, runtime):
            told = [await runtime.readiness()]
            served.status = "draining"
            told.append(await runtime.readiness())
            assert (await runtime.metrics()).startswith("fake_runtime")
        return [readiness is not None and readiness.ready for readiness in told]

    assert asyncio.run(run()) == [True, False]
