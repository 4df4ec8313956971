"""ASGI -> API Gateway event -> the real Lambda handler -> ASGI; the waiting is done here, outside the handler."""

from __future__ import annotations

import asyncio
import base64
import time
import types
import urllib.parse
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from darkroom.contracts import Job
from darkroom.errors import JobFinished, JobStoreUnavailable
from functions import submission
from functions.answers import Answers
from functions.submission import Preference
from functions.wiring import Wiring
from local.bulletin import Bulletin
from local.exchange import ClientGone, Exchange

Event = dict[str, Any]
LambdaAnswer = dict[str, Any]
_BODY_SECONDS = 20.0
_LOOK_SECONDS = 1.0  # how often to ask the job store about a job that another process may be working on


class LambdaAdapter:
    """One event at a time: powertools keeps the current event on a class, as a Lambda process has only one."""

    def __init__(self, handler: Callable[..., LambdaAnswer], wiring: Wiring, bulletin: Bulletin) -> None:
        self.wiring = replace(wiring, wait=self._park)
        self._handler = handler
        self._bulletin = bulletin
        self._one_at_a_time = asyncio.Lock()
        self._parked: Job | None = None

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one request, after waiting for its job where the caller wants that."""
        settings = self.wiring.settings
        preference = submission.preference_of(exchange.headers, settings)
        answer, job = await self.handle(exchange)
        if job is None or job.status.finished or preference.wait <= 0:
            await send(exchange, answer)
            return
        job = await self._wait(exchange, job, preference)
        answers = Answers(self.wiring.store, settings, exchange.request_id)
        await exchange.answer(await asyncio.to_thread(answers.predicted, job, preference))

    async def handle(self, exchange: Exchange) -> tuple[LambdaAnswer, Job | None]:
        """The handler's own answer, and the job that it would have waited for.

        Raises: PayloadTooLarge, RequestTimeout, MalformedRequest, ClientGone.
        """
        body = await exchange.body(limit=self.wiring.settings.max_body_bytes, seconds=_BODY_SECONDS)
        event = to_event(exchange, body)
        context = types.SimpleNamespace(
            function_name="local",
            memory_limit_in_mb=512,
            aws_request_id=exchange.request_id,
            invoked_function_arn="arn:aws:lambda:local:000000000000:function:local",
        )
        async with self._one_at_a_time:
            self._parked = None
            handling = asyncio.create_task(
                asyncio.to_thread(self._handler, event, context, wired=self.wiring), name="handler"
            )
            try:
                return await asyncio.shield(handling), self._parked
            finally:
                await asyncio.wait({handling})  # a thread cannot be cancelled, and the lock is about it

    def _park(self, job: Job, _seconds: float) -> Job:
        self._parked = job
        return job

    async def _wait(self, exchange: Exchange, job: Job, preference: Preference) -> Job:
        """The job as it is when it has finished or the wait is over.

        A caller who goes away takes the job along, unless they asked for a job (`respond-async`) or left a key to come
        back with (`Idempotency-Key`). Raises: ClientGone.
        """
        finished = asyncio.create_task(self._until_finished(job, preference.wait))
        gone = asyncio.create_task(exchange.gone())
        try:
            await asyncio.wait({finished, gone}, return_when=asyncio.FIRST_COMPLETED)
            if finished.done():
                return finished.result()
            if not preference.respond_async and "idempotency-key" not in exchange.headers:
                await self._cancel(job)
            raise ClientGone
        finally:
            finished.cancel()
            gone.cancel()

    async def _until_finished(self, job: Job, seconds: float) -> Job:
        clock = asyncio.get_running_loop().time
        until = clock() + seconds
        with self._bulletin.watch(job.id) as watch:
            while True:
                job = await self._look(job)
                if job.status.finished or self._bulletin.closed or clock() >= until:
                    return job
                look_at = min(until, clock() + _LOOK_SECONDS)
                while (left := look_at - clock()) > 0:
                    news = await watch.next(left)
                    if self._bulletin.closed or (news is not None and news.finished):
                        break

    async def _look(self, job: Job) -> Job:
        try:
            return await asyncio.to_thread(self.wiring.jobs.get, job.id, tenant=job.tenant)
        except JobStoreUnavailable:  # the job is safe; what we knew of it is still true
            return job

    async def _cancel(self, job: Job) -> None:
        try:
            cancelled = await asyncio.to_thread(self.wiring.jobs.cancel, job.id, tenant=job.tenant)
        except (JobFinished, JobStoreUnavailable):
            return
        self.wiring.inference.withdraw(cancelled)


def to_event(exchange: Exchange, body: bytes) -> Event:
    """The payload 2.0 event that an HTTP API would have sent."""
    scope, headers = exchange.scope, dict(exchange.headers)
    cookies = [cookie.strip() for cookie in headers.pop("cookie", "").split(";") if cookie.strip()]
    try:
        text, encoded = body.decode() or None, False
    except UnicodeDecodeError:
        text, encoded = base64.b64encode(body).decode(), True
    query = scope["query_string"].decode("latin-1")
    parsed = urllib.parse.parse_qs(query, keep_blank_values=True)
    raw_path = scope.get("raw_path") or urllib.parse.quote(exchange.path).encode()
    http = {
        "method": exchange.method,
        "path": exchange.path,
        "protocol": f"HTTP/{scope['http_version']}",
        "sourceIp": (scope.get("client") or ["127.0.0.1"])[0],
        "userAgent": headers.get("user-agent", ""),
    }
    now = time.time()
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": raw_path.decode("latin-1"),
        "rawQueryString": query,
        "headers": headers,
        "queryStringParameters": {name: ",".join(values) for name, values in parsed.items()} or None,
        "body": text,
        "isBase64Encoded": encoded,
        **({"cookies": cookies} if cookies else {}),
        "requestContext": {
            "accountId": "000000000000",
            "apiId": "local",
            "stage": "$default",
            "routeKey": "$default",
            "http": http,
            "domainName": headers.get("host", "localhost"),
            "domainPrefix": "local",
            "requestId": exchange.request_id,
            "time": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now)),
            "timeEpoch": int(now * 1000),
        },
    }


async def send(exchange: Exchange, answer: LambdaAnswer) -> None:
    """A Lambda answer as ASGI messages."""
    body = answer.get("body") or ""
    raw = base64.b64decode(body) if answer.get("isBase64Encoded") else body.encode()
    headers = dict(answer.get("headers", {}))
    for cookie in answer.get("cookies", []):
        headers["Set-Cookie"] = cookie
    await exchange.respond(answer["statusCode"], raw, None, headers)
