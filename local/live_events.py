"""`/v1/jobs/{id}/events` without end: the handler's snapshot first, then every step as it is made."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

from darkroom.contracts import Job, Progress
from darkroom.errors import JobStoreUnavailable
from functions import events
from functions.answers import Answers
from local.adapter import LambdaAdapter, send
from local.bulletin import Bulletin, News, Watch
from local.exchange import Exchange

PATH = re.compile(r"/v1/jobs/[^/]+/events")
_LOOK_SECONDS = 1.0  # how often to ask the job store about a job that another process may be working on
_KEEP_ALIVE_SECONDS = 15.0


@dataclass(frozen=True)
class LiveEvents:
    """The handler checks who asks and whether the job is theirs; only then a stream begins."""

    adapter: LambdaAdapter
    bulletin: Bulletin

    async def __call__(self, exchange: Exchange) -> None:
        job_id = exchange.path.split("/")[3]
        with self.bulletin.watch(job_id) as watch:
            answer, _ = await self.adapter.handle(exchange)
            if exchange.method != "GET" or answer["statusCode"] != 200:
                await send(exchange, answer)
                return
            wiring = self.adapter.wiring
            tenant = wiring.tenant({}, exchange.headers)
            job = await asyncio.to_thread(wiring.jobs.get, job_id, tenant=tenant)
            headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "X-Request-Id": exchange.request_id}
            await exchange.start(200, events.EVENT_STREAM, headers)
            await _say(exchange, answer["body"])
            if "event: finished\n" not in answer["body"]:
                await self._follow(exchange, job, watch)
            await exchange.send({"type": "http.response.body", "body": b""})

    async def _follow(self, exchange: Exchange, job: Job, watch: Watch) -> None:
        """Tell steps until the job has finished, the client has gone, or this process stops."""
        telling = asyncio.create_task(self._tell(exchange, job, watch))
        gone = asyncio.create_task(exchange.gone())
        try:
            await asyncio.wait({telling, gone}, return_when=asyncio.FIRST_COMPLETED)
            if telling.done():
                telling.result()
        finally:
            telling.cancel()
            gone.cancel()
            await asyncio.gather(telling, gone, return_exceptions=True)

    async def _tell(self, exchange: Exchange, job: Job, watch: Watch) -> None:
        clock = asyncio.get_running_loop().time
        told, told_at = job.progress, clock()
        while not job.status.finished and not self.bulletin.closed:
            news = await watch.next(_LOOK_SECONDS)
            if news is None or news.finished or news.progress is None:
                job = await self._look(job)
                news = None if job.progress == told else News(job.progress)
            if news is not None and news.progress is not None and not job.status.finished:
                told = Progress.model_validate(news.progress)
                await _say(exchange, events.progress(told, news.preview))
                told_at = clock()
            elif clock() - told_at >= _KEEP_ALIVE_SECONDS:
                await _say(exchange, events.KEEP_ALIVE)
                told_at = clock()
        if job.status.finished:
            wiring = self.adapter.wiring
            answers = Answers(wiring.store, wiring.settings, exchange.request_id)
            await _say(exchange, events.finished(await asyncio.to_thread(answers.document, job)))

    async def _look(self, job: Job) -> Job:
        try:
            return await asyncio.to_thread(self.adapter.wiring.jobs.get, job.id, tenant=job.tenant)
        except JobStoreUnavailable:
            return job


async def _say(exchange: Exchange, text: str) -> None:
    await exchange.send({"type": "http.response.body", "body": text.encode(), "more_body": True})
