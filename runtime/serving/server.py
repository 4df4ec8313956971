"""HTTP: /ping, /invocations as JSON or with progress as server-sent events, /metrics."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import structlog
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from darkroom import server_sent_events, strict_json
from darkroom.contracts import Invocation
from darkroom.errors import (
    DarkroomError,
    JobCancelled,
    MethodNotAllowed,
    ModelNotFound,
    NotFound,
    PayloadTooLarge,
    RequestTimeout,
    UnsupportedMediaType,
)
from darkroom.parsing import from_validation, parse_request
from runtime.config import RuntimeConfig
from runtime.metrics import Metrics, exposition
from runtime.serving.engine_thread import EngineStatus, EngineThread
from runtime.serving.generation import Generation, Listener
from runtime.serving.progress import EventStream, ProgressFeed, client_left

_FETCHES_AT_ONCE = 64  # requests whose images are fetched side by side: slow servers must not hold up the others'
_FETCHES_OF_A_TENANT = 16
_JSON = "application/json"
_PROBLEM = "application/problem+json"
_METRICS = "text/plain; version=1.0.0; charset=utf-8"


def build_app(replicas: Mapping[str, EngineThread], config: RuntimeConfig) -> Starlette:
    """The application over one replica for each model, the default one first; it starts and stops nothing."""
    fetches = ThreadPoolExecutor(_FETCHES_AT_ONCE, thread_name_prefix="fetch")
    own_fetches: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
    default = next(iter(replicas))

    async def ping(_: Request) -> Response:
        worst = next((each for each in replicas.values() if each.status is not EngineStatus.READY), None)
        described = (worst or replicas[default]).describe()
        if len(replicas) > 1:
            described["models"] = ",".join(replicas)
        return JSONResponse(described, 200 if worst is None else 503)

    async def exposed(_: Request) -> Response:
        by_model = {model: replica.metrics for model, replica in replicas.items()}
        return Response(exposition(by_model), media_type=_METRICS)

    async def model(request: Request) -> Response:
        return JSONResponse(named(request).describe())

    def named(request: Request) -> EngineThread:
        try:
            return replicas[request.path_params.get("model", default)]
        except KeyError:
            raise ModelNotFound from None

    async def invocations(request: Request) -> Response:
        replica = named(request)
        body = await read_body(request, config.max_body_bytes, config.body_seconds)
        invocation = parse_invocation(body)
        if server_sent_events.MEDIA_TYPE not in request.headers.get("accept", ""):
            return await answer(await admit(replica, invocation, None), request)
        feed = ProgressFeed()
        return EventStream(await admit(replica, invocation, feed.publish), feed, replica.preview)

    async def admit(replica: EngineThread, invocation: Invocation, listener: Listener | None) -> Generation:
        if not invocation.request.brings_images:
            return replica.admit(invocation, listener)
        async with own_fetches.setdefault(invocation.tenant, asyncio.Semaphore(_FETCHES_OF_A_TENANT)):
            return await asyncio.get_running_loop().run_in_executor(fetches, replica.admit, invocation, listener)

    answering = partial(_answering, metrics=replicas[default].metrics)
    return Starlette(
        routes=[
            Route("/ping", ping),
            Route("/metrics", exposed),
            Route("/invocations", answering(invocations), methods=["POST"]),
            # as SageMaker's multi-model endpoints have it
            Route("/models/{model}", answering(model), methods=["GET"]),
            Route("/models/{model}/invoke", answering(invocations), methods=["POST"]),
        ],
        exception_handlers={HTTPException: _http_problem},
    )


async def read_body(request: Request, limit: int, seconds: float) -> bytes:
    """The request's body, refused by its declared length before it is read, and at `limit` bytes while it is.

    Raises: UnsupportedMediaType, PayloadTooLarge, RequestTimeout.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _JSON:
        raise UnsupportedMediaType
    refusal = PayloadTooLarge(f"A body may have at most {limit} bytes.")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise refusal
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise refusal
    except TimeoutError:
        raise RequestTimeout from None
    return bytes(body)


def parse_invocation(body: bytes) -> Invocation:
    """An invocation from its JSON, or a bare request in an envelope with an id drawn for it.

    Raises: as `strict_json.parse` and `contracts.parse_request` do.
    """
    value: Any = strict_json.parse(body)
    if not isinstance(value, dict) or "request" not in value:
        return Invocation(id=secrets.token_hex(8), request=parse_request(value))
    try:
        return Invocation.model_validate(value)
    except ValidationError as refused:
        raise from_validation(refused) from None


async def answer(generation: Generation, request: Request) -> Response:
    """The result as JSON, once it is there; a caller who leaves before that gives the generation up."""
    result = asyncio.wrap_future(generation.answer)
    gone = asyncio.ensure_future(client_left(request.receive))
    either: list[asyncio.Future[Any]] = [result, gone]
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
        generation.fail(JobCancelled())  # changes nothing where there is an answer
    try:
        return JSONResponse((await result).model_dump(mode="json"))
    except DarkroomError as error:
        return problem(error, generation.id)


def problem(error: DarkroomError, request_id: str | None = None) -> Response:
    """The answer to a failed request."""
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    body = error.problem(request_id).model_dump(mode="json")
    return JSONResponse(body, error.status, headers, media_type=_PROBLEM)


def _answering(
    endpoint: Callable[[Request], Awaitable[Response]], metrics: Metrics
) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint with every refusal counted and answered as a problem."""

    async def guarded(request: Request) -> Response:
        try:
            return await endpoint(request)
        except DarkroomError as error:
            refusal = error
        except ClientDisconnect:
            refusal = JobCancelled()
        except Exception:
            structlog.get_logger().exception("request failed")
            refusal = DarkroomError()
        metrics.requests.labels(refusal.code).inc()
        return problem(refusal)

    return guarded


async def _http_problem(_: Request, refused: Exception) -> Response:
    """Starlette's own refusals: an unknown path or a wrong method."""
    wrong_method = isinstance(refused, HTTPException) and refused.status_code == MethodNotAllowed.status
    return problem(MethodNotAllowed() if wrong_method else NotFound())
