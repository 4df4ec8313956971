"""How long a caller waits, and what is left when they do not."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from api import waiting
from api.waiting import Wait
from darkroom.contracts import GenerationRequest, Job, JobStatus, Progress
from darkroom.jobs.sql import SqlJobStore


@pytest.fixture
def jobs(tmp_path: Path) -> SqlJobStore:
    return SqlJobStore(f"sqlite:///{tmp_path / 'jobs.db'}")


def wait(waiting: Wait, job: Job, seconds: float) -> Job:
    async def run() -> Job:
        return await waiting(job, seconds)

    return asyncio.run(run())


def test_a_wait_looks_less_and_less_often_and_ends_with_the_job(jobs: SqlJobStore) -> None:
    job = jobs.create("crayon", GenerationRequest(prompt="a"), tenant="t", idempotency=None).job
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 8:
            jobs.cancel(job.id, tenant="t")

    ended = wait(waiting.polling(jobs, clock=lambda: sum(pauses), sleep=sleep), job, 25.0)
    assert ended.status is JobStatus.CANCELLED
    assert len(pauses) == 8
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (waiting.FIRST_PAUSE, waiting.LONGEST_PAUSE)


@pytest.mark.parametrize("seconds", [0.0, 0.4, 3.0])
def test_a_wait_ends_with_the_callers_patience(jobs: SqlJobStore, seconds: float) -> None:
    job = jobs.create("crayon", GenerationRequest(prompt="a"), tenant="t", idempotency=None).job
    spent: list[float] = []

    async def sleep(seconds: float) -> None:
        spent.append(seconds)

    polling = waiting.polling(jobs, clock=lambda: sum(spent), sleep=sleep)
    assert wait(polling, job, seconds).status is JobStatus.QUEUED
    assert sum(spent) == pytest.approx(seconds)


def test_a_finished_job_is_not_waited_for(jobs: SqlJobStore) -> None:
    finished = Job(
        id="0" * 32,
        tenant="t",
        model="crayon",
        request=GenerationRequest(prompt="a"),
        status=JobStatus.FAILED,
        created_at=time.time(),
        progress=Progress(),
    )
    assert wait(waiting.polling(jobs, sleep=lambda _: pytest.fail("it waited")), finished, 25.0) is finished


def test_whichever_comes_first_ends_the_other() -> None:
    ended: list[str] = []

    async def never(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    async def at_once() -> str:
        return "done"

    async def both() -> tuple[object, object]:
        return await waiting.first(at_once(), never("gone")), await waiting.first(never("work"), asyncio.sleep(0))  # type: ignore[arg-type]

    assert asyncio.run(both()) == ("done", None)
    assert ended == ["gone", "work"]
