"""Waiting for jobs where their news are: the bulletin says when one has ended, and the job store what it came to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from api.blocking import in_thread
from api.waiting import News
from darkroom.contracts import Job
from darkroom.errors import JobStoreUnavailable
from darkroom.jobs import JobStore
from local.replicas.bulletin import Bulletin

_LOOK_SECONDS = 1.0  # how often to ask the job store about a job that another process may be working on
_QUIET_SECONDS = 15.0  # without news, after which a follower is told that there are none


@dataclass(frozen=True)
class BulletinWaiting:
    """`wait` is an `api.waiting.Wait`, `follow` an `api.waiting.Follow`; both end when the bulletin closes."""

    jobs: JobStore
    bulletin: Bulletin

    async def wait(self, job: Job, seconds: float) -> Job:
        """The job as it is when it has finished or the time is over."""
        clock = asyncio.get_running_loop().time
        until = clock() + seconds
        with self.bulletin.watch(job.id) as watch:
            while True:
                job = await self._look(job)
                if job.status.finished or self.bulletin.closed or clock() >= until:
                    return job
                look_at = min(until, clock() + _LOOK_SECONDS)
                while (left := look_at - clock()) > 0:
                    news = await watch.next(left)
                    if self.bulletin.closed or (news is not None and news.finished):
                        break

    async def follow(self, job: Job) -> AsyncIterator[News | Job | None]:
        """Every step as it is made, at last the finished job."""
        clock = asyncio.get_running_loop().time
        progress, told_at = job.progress, clock()
        with self.bulletin.watch(job.id) as watch:
            job = await self._look(job)  # it may have ended before we watched
            while not job.status.finished and not self.bulletin.closed:
                news = await watch.next(_LOOK_SECONDS)
                if news is None or news.finished or news.progress is None:
                    job = await self._look(job)
                    news = None if job.progress == progress else News(job.progress)
                if news is not None and news.progress is not None and not job.status.finished:
                    progress, told_at = news.progress, clock()
                    yield news
                elif clock() - told_at >= _QUIET_SECONDS:
                    told_at = clock()
                    yield None
        if job.status.finished:
            yield job

    async def _look(self, job: Job) -> Job:
        try:
            return await in_thread(self.jobs.get, job.id, tenant=job.tenant)
        except JobStoreUnavailable:  # the job is safe; what we knew of it is still true
            return job
