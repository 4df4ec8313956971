"""A runtime reached over HTTP: one invocation as a stream of progress that ends in a result."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any

import httpx
from pydantic import BaseModel, ValidationError

from darkroom import server_sent_events
from darkroom.contracts import GenerationResult, Invocation, Progress
from darkroom.errors import DarkroomError, Problem, RuntimeUnavailable
from darkroom.inference import Unreached

_CONNECT_SECONDS = 5.0
_SILENCE_SECONDS = 60.0  # a live stream sends at least keep-alive comments
_PING_SECONDS = 2.0


@dataclass(frozen=True)
class StepProgress:
    """Progress of a running invocation; `preview` is a data: URI of the image so far."""

    progress: Progress
    preview: str | None


class Readiness(BaseModel, frozen=True):
    """What a runtime says of itself on /ping."""

    status: str
    model: str = ""
    version: str = ""
    target: str = ""

    @property
    def ready(self) -> bool:
        return self.status == "ready"


def client() -> httpx.AsyncClient:
    """What runtimes are reached with: it has as many connections as they need, and asks no proxy of the environment."""
    return httpx.AsyncClient(
        trust_env=False,
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
        timeout=httpx.Timeout(_SILENCE_SECONDS, connect=_CONNECT_SECONDS),
    )


class HttpRuntime:
    """One runtime at `base_url`, such as `http://127.0.0.1:4711`; a `client` that is given serves others too."""

    def __init__(self, base_url: str, given: httpx.AsyncClient | None = None) -> None:
        self._url = base_url
        self._client = given or client()
        self._own = given is None

    async def readiness(self) -> Readiness | None:
        """What /ping says; None where nothing sensible answers in time."""
        try:
            answer = await self._client.get(f"{self._url}/ping", timeout=_PING_SECONDS)
            return Readiness.model_validate_json(answer.content)
        except (httpx.HTTPError, ValidationError):
            return None

    async def invoke(
        self, invocation: Invocation, admitted: Callable[[], None] = lambda: None
    ) -> AsyncGenerator[StepProgress | GenerationResult, None]:
        """Run an invocation: any number of steps, then one result. Closing the iterator makes the runtime drop it.

        `admitted` is called once the runtime has all that the request brings, and will draw it.

        Raises: Unreached, RuntimeUnavailable (the connection broke), or the error that the runtime answered.
        """
        headers = {"Accept": server_sent_events.MEDIA_TYPE, "Content-Type": "application/json"}
        sent = False
        try:
            async with self._client.stream(
                "POST", f"{self._url}/invocations", content=invocation.model_dump_json(), headers=headers
            ) as answer:
                sent = True
                if answer.status_code != 200:
                    raise _error_in(await answer.aread())
                admitted()
                async with contextlib.aclosing(server_sent_events.events(answer.aiter_lines())) as events:
                    async for name, data in events:
                        yield (parsed := _parsed(name, data))
                        if isinstance(parsed, GenerationResult):
                            return
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise Unreached("The runtime does not take connections.") from None
        except httpx.HTTPError:
            raise RuntimeUnavailable("The connection to the runtime broke.") from None
        raise RuntimeUnavailable("The runtime ended its answer too early." if sent else "The runtime did not answer.")

    async def metrics(self) -> str:
        """The runtime's Prometheus text. Raises: RuntimeUnavailable."""
        try:
            return (await self._client.get(f"{self._url}/metrics", timeout=_PING_SECONDS)).text
        except httpx.HTTPError:
            raise RuntimeUnavailable("The runtime does not answer.") from None

    async def close(self) -> None:
        if self._own:
            await self._client.aclose()


def _parsed(name: str, data: str) -> StepProgress | GenerationResult:
    try:
        if name == "result":
            return GenerationResult.model_validate_json(data)
        if name == "progress":
            fields: dict[str, Any] = json.loads(data)
            return StepProgress(Progress(step=fields["step"], steps=fields["steps"]), fields.get("preview"))
    except (ValueError, KeyError):  # pydantic's ValidationError and JSONDecodeError are ValueErrors
        raise RuntimeUnavailable("The runtime's answer cannot be read.") from None
    raise _error_in(data.encode())


def _error_in(body: bytes) -> DarkroomError:
    try:
        return DarkroomError.from_problem(Problem.model_validate_json(body))
    except ValidationError:
        return RuntimeUnavailable("The runtime's answer cannot be read.")
