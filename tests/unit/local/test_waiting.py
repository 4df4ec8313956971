"""Waiting for jobs of this process, and of others, on one machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from api.waiting import News
from darkroom.contracts import GenerationRequest, Job, JobStatus, Progress
from darkroom.errors import JobStoreUnavailable
from darkroom.jobs.sql import SqlJobStore
from local.replicas.bulletin import Bulletin
from local.waiting import BulletinWaiting


@pytest.fixture
def jobs(tmp_path: Path) -> SqlJobStore:
    return SqlJobStore(f"sqlite:///{tmp_path / 'jobs.db'}")


def running(jobs: Any, work: Callable[[Job, Bulletin, BulletinWaiting], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        bulletin = Bulletin()
        job = jobs.create("crayon", GenerationRequest(prompt="a"), tenant="t", idempotency=None).job
        return await work(job, bulletin, BulletinWaiting(jobs, bulletin))

    return asyncio.run(run())


def test_news_of_the_end_ends_a_wait(jobs: SqlJobStore) -> None:
    async def work(job: Job, bulletin: Bulletin, waiting: BulletinWaiting) -> Job:
        wait = asyncio.create_task(waiting.wait(job, 3600.0))
        await asyncio.sleep(0)
        bulletin.post(job.id, News(Progress(step=1, steps=4)))
        jobs.cancel(job.id, tenant="t")
        bulletin.post(job.id, News(finished=True))
        return await wait

    assert running(jobs, work).status is JobStatus.CANCELLED


def test_a_job_that_ended_before_anybody_watched(jobs: SqlJobStore) -> None:
    async def work(job: Job, _bulletin: Bulletin, waiting: BulletinWaiting) -> tuple[Job, list[Any]]:
        jobs.cancel(job.id, tenant="t")
        return await waiting.wait(job, 3600.0), [news async for news in waiting.follow(job)]

    waited, followed = running(jobs, work)
    assert waited.status is JobStatus.CANCELLED
    assert followed == [waited]


def test_no_patience_is_no_wait(jobs: SqlJobStore) -> None:
    async def work(job: Job, _bulletin: Bulletin, waiting: BulletinWaiting) -> Job:
        return await waiting.wait(job, 0.0)

    assert running(jobs, work).status is JobStatus.QUEUED


def test_a_bulletin_that_closes_ends_every_wait_and_every_stream(jobs: SqlJobStore) -> None:
    async def rest(stream: AsyncIterator[Any]) -> list[Any]:
        return [news async for news in stream]

    async def work(job: Job, bulletin: Bulletin, waiting: BulletinWaiting) -> tuple[Job, list[Any]]:
        wait = asyncio.create_task(waiting.wait(job, 3600.0))
        follow = asyncio.create_task(rest(waiting.follow(job)))
        await asyncio.sleep(0)
        bulletin.close()
        return await wait, await follow

    waited, followed = running(jobs, work)
    assert waited.status is JobStatus.QUEUED
    assert followed == []


def test_steps_are_followed_to_the_end(jobs: SqlJobStore) -> None:
    async def work(job: Job, bulletin: Bulletin, waiting: BulletinWaiting) -> list[Any]:
        told = []
        step = News(Progress(step=1, steps=4), "data:image/png;base64,AA")
        bulletin.post(job.id, step)  # what is known when the stream begins is told first
        async for news in waiting.follow(job):
            told.append(news)
            if news == step:
                jobs.cancel(job.id, tenant="t")
                bulletin.post(job.id, News(finished=True))
        assert told[0] == step
        return told

    *_, last = running(jobs, work)
    assert last.status is JobStatus.CANCELLED


def test_a_store_that_is_down_is_waited_out(jobs: SqlJobStore) -> None:
    class Down(SqlJobStore):
        def get(self, job_id: str, *, tenant: str) -> Job:
            raise JobStoreUnavailable

    async def work(job: Job, bulletin: Bulletin, _waiting: BulletinWaiting) -> Job:
        down = Down.__new__(Down)
        return await BulletinWaiting(down, bulletin).wait(job, 0.0)

    assert running(jobs, work).status is JobStatus.QUEUED
