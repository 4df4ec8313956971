"""Jobs that nobody comes to end at their deadline, whatever the wall clock does to those of this process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from darkroom.contracts import GenerationRequest, Job, JobStatus
from darkroom.errors import JobStoreUnavailable
from darkroom.jobs.sql import SqlJobStore
from local.replicas import deadlines
from local.replicas.bulletin import Bulletin
from local.replicas.deadlines import GRACE_SECONDS, Deadlines

JOB_SECONDS = 900.0


class Stage:
    def __init__(self, directory: Path) -> None:
        self.wall, self.monotonic = 1_800_000_000.0, 50.0
        self.jobs = SqlJobStore(f"sqlite:///{directory}/jobs.db", wall=lambda: self.wall)

    def accept(self, model: str = "other") -> Job:
        return self.jobs.create(model, GenerationRequest(prompt="a cat"), tenant="one", idempotency=None).job

    def enforce(self, *, of_this_process: Job | None = None, passed: float = 0.0) -> None:
        async def run() -> None:
            bulletin = Bulletin(clock=lambda: self.monotonic)
            if of_this_process:
                bulletin.submit(of_this_process)
                await asyncio.sleep(0)  # the announcement
            self.monotonic += passed
            await Deadlines(self.jobs, bulletin, JOB_SECONDS, clock=lambda: self.wall).enforce()

        asyncio.run(run())

    def status(self, job: Job) -> tuple[JobStatus, str | None]:
        found = self.jobs.find(job.id)
        return found.status, found.error and found.error.code


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    opened = Stage(tmp_path)
    with closing(opened.jobs):
        yield opened


def test_a_job_that_nobody_serves_waits_until_its_deadline_and_no_longer(stage: Stage) -> None:
    job = stage.accept()
    stage.wall += JOB_SECONDS
    stage.enforce()
    assert stage.status(job) == (JobStatus.QUEUED, None)
    stage.wall += 1
    fresh = stage.accept()
    stage.enforce()
    assert stage.status(job) == (JobStatus.FAILED, "deadline_exceeded")
    assert stage.status(fresh) == (JobStatus.QUEUED, None)


def test_a_running_job_has_time_to_end_by_itself(stage: Stage) -> None:
    job = stage.accept()
    assert stage.jobs.claim("w", models=["other"])
    stage.wall += JOB_SECONDS + GRACE_SECONDS
    stage.enforce()
    assert stage.status(job) == (JobStatus.RUNNING, None)
    stage.wall += 1
    stage.enforce()
    assert stage.status(job) == (JobStatus.FAILED, "deadline_exceeded")


def test_a_wall_clock_that_jumps_ends_no_job_of_this_process(stage: Stage) -> None:
    job = stage.accept()
    stage.wall += 1e6
    stage.enforce(of_this_process=job, passed=JOB_SECONDS)
    assert stage.status(job) == (JobStatus.QUEUED, None)
    stage.enforce(of_this_process=job, passed=JOB_SECONDS + 1)
    assert stage.status(job) == (JobStatus.FAILED, "deadline_exceeded")


@pytest.mark.parametrize("error", [JobStoreUnavailable, RuntimeError])
def test_a_store_that_is_down_is_looked_at_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    monkeypatch.setattr(deadlines, "LOOK_SECONDS", 0.0)
    job = stage.accept()
    stage.wall += JOB_SECONDS + 1
    genuine, outages = stage.jobs.overdue, iter([True, True])

    def flaky(*, accepted_before: float) -> list[Job]:
        if next(outages, False):
            raise error
        return genuine(accepted_before=accepted_before)

    monkeypatch.setattr(stage.jobs, "overdue", flaky)

    async def run() -> None:
        bulletin = Bulletin()
        with bulletin.watch(job.id) as watch:
            running = asyncio.create_task(Deadlines(stage.jobs, bulletin, JOB_SECONDS, clock=lambda: stage.wall).run())
            news = await watch.next(30)
            running.cancel()
        assert news
        assert news.finished

    asyncio.run(run())
    assert stage.status(job) == (JobStatus.FAILED, "deadline_exceeded")
