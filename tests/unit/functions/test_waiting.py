"""Callers who wait, in an account of few concurrent executions: jobs are closed all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from api.services import Services
from api.waiting import Wait
from darkroom.contracts import GenerationRequest, Job, JobStatus
from darkroom.jobs import open_jobs
from darkroom.settings import Settings
from functions.waiting import bounded, leaving_room

# A new account's: "Lambda quotas" in the Lambda Developer Guide ("New AWS accounts have reduced concurrency").
EXECUTIONS = 10
SECONDS = 25.0
_tables = count()  # moto's services share what one process has made


@dataclass
class Account:
    """Executions that are held, and jobs that have not finished. A throttled event is tried again later."""

    free: int = EXECUTIONS
    jobs: dict[str, Job] = field(default_factory=dict)
    ended: dict[str, asyncio.Event] = field(default_factory=dict)
    throttled: int = 0
    waits: list[asyncio.Task[None]] = field(default_factory=list)

    def unfinished(self, up_to: int) -> int:
        return min(up_to, sum(not job.status.finished for job in self.jobs.values()))

    async def wait(self, job: Job, seconds: float) -> Job:
        """Until the job is closed; nobody's clock runs out here."""
        if seconds:
            await self.ended[job.id].wait()
        return self.jobs[job.id]

    async def predict(self, wait: Wait) -> None:
        """One caller, who waits for as long as is allowed."""
        if not self.free:
            self.throttled += 1
            return
        self.free -= 1
        job = Job(
            id=f"{len(self.jobs):032x}", tenant="a", model="m", request=GenerationRequest(prompt="x"), created_at=0
        )
        self.jobs[job.id], self.ended[job.id] = job, asyncio.Event()
        self.waits.append(asyncio.create_task(self._held(wait, job)))
        await asyncio.sleep(0)

    async def _held(self, wait: Wait, job: Job) -> None:
        await wait(job, SECONDS)
        self.free += 1

    async def close(self, job_id: str) -> bool:
        """One notification: whether job_events had an execution to close the job with."""
        if not self.free:
            return False
        self.jobs[job_id] = self.jobs[job_id].model_copy(update={"status": JobStatus.CANCELLED})
        self.ended[job_id].set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return True


def crowd(callers: int, most: int) -> tuple[Account, bool]:
    """So many callers at once; the account then, and whether the first job could be closed."""

    async def run() -> tuple[Account, bool]:
        account = Account()
        wait = bounded(account.wait, account.unfinished, most)
        for _ in range(callers):
            await account.predict(wait)
        closed = await account.close(f"{0:032x}")
        for task in account.waits:
            task.cancel()
        await asyncio.gather(*account.waits, return_exceptions=True)
        return account, closed

    return asyncio.run(run())


def test_without_a_bound_ten_waits_leave_nothing_to_close_a_job_with() -> None:
    account, closed = crowd(12, most=1000)
    assert (account.throttled, closed) == (2, False)


@pytest.mark.parametrize("callers", [6, 12, 100])
def test_with_one_the_rest_of_the_executions_close_jobs(callers: int) -> None:
    account, closed = crowd(callers, most=5)
    assert (account.throttled, closed) == (0, True)


def test_a_job_that_has_finished_is_answered_whatever_the_crowd() -> None:
    finished = Job(
        id="0" * 32,
        tenant="a",
        model="m",
        request=GenerationRequest(prompt="x"),
        created_at=0,
        status=JobStatus.CANCELLED,
    )
    account = Account(jobs={finished.id: finished})

    async def run() -> Job:
        return await bounded(account.wait, lambda _: 1 // 0, 1)(finished, 0.0)

    assert asyncio.run(run()) is finished


def test_the_job_store_counts_no_further_than_matters(dynamodb_jobs: str) -> None:
    store = open_jobs(f"dynamodb://{dynamodb_jobs}")
    for _ in range(4):
        store.create("m", GenerationRequest(prompt="x"), tenant="a", idempotency=None)
    assert [store.queued(up_to) for up_to in (2, 4, 9)] == [2, 4, 4]  # type: ignore[attr-defined]
    store.close()


@pytest.mark.parametrize(("most", "waited"), [(3, 0.0), (4, SECONDS), (0, SECONDS)])
def test_the_functions_wait_is_bounded_by_its_setting(dynamodb_jobs: str, most: int, waited: float) -> None:
    store = open_jobs(f"dynamodb://{dynamodb_jobs}")
    jobs = [store.create("m", GenerationRequest(prompt="x"), tenant="a", idempotency=None).job for _ in range(4)]
    asked: list[float] = []

    async def wait(job: Job, seconds: float) -> Job:
        asked.append(seconds)
        return job

    services = SimpleNamespace(jobs=store, settings=Settings(max_waiting=most), wait=wait)
    asyncio.run(cast(Any, leaving_room(cast(Services, services))(jobs[0], SECONDS)))
    assert asked == [waited]
    store.close()


def test_elsewhere_nobody_is_bounded(tmp_path: Path) -> None:
    """On one machine who waits costs no more than a connection."""
    store = open_jobs(f"sqlite:///{tmp_path / 'jobs.db'}")
    services = SimpleNamespace(jobs=store, settings=Settings(max_waiting=1), wait=object())
    assert leaving_room(cast(Services, services)) is services.wait
    store.close()


@pytest.fixture
def dynamodb_jobs(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    import boto3

    from darkroom.jobs.items import TABLE
    from tests.fakes import aws

    with aws.serving() as endpoint:
        for name, value in aws.environment(endpoint).items():
            monkeypatch.setenv(name, value)
        name = f"functions-waiting-{next(_tables)}"
        boto3.client("dynamodb").create_table(TableName=name, **TABLE)
        yield name
