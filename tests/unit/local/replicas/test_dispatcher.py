"""Jobs from a real job store through a runtime over HTTP, without processes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from darkroom.contracts import GenerationRequest, Job, JobStatus
from darkroom.errors import JobStoreUnavailable
from darkroom.inference.http import HttpRuntime
from darkroom.jobs.sql import SqlJobStore
from darkroom.retry import Retry
from darkroom.settings import Settings
from local.replicas.bulletin import Bulletin
from local.replicas.dispatcher import Dispatcher
from tests.fakes import runtime as fake

TENANT = "default"


class Stage:
    """A dispatcher with everything around it, in one event loop."""

    def __init__(self, directory: Path, url: str, now: float | None, **given: Any) -> None:
        self.directory = directory
        self.settings = Settings(**{"lease_seconds": 2.0, **given})
        self.jobs = SqlJobStore(f"sqlite:///{directory / 'jobs.db'}", max_attempts=self.settings.max_attempts)
        self.bulletin = Bulletin()
        self.runtime = HttpRuntime(url)
        clock: dict[str, Callable[[], float]] = {} if now is None else {"clock": lambda: now}
        self.dispatcher = Dispatcher(self.jobs, self.runtime, self.bulletin, self.settings, name="test", **clock)

    def submit(
        self, prompt: str, *, model: str = "crayon", announce: bool = True, tenant: str = TENANT, **asked: Any
    ) -> str:
        request = GenerationRequest(prompt=prompt, seed=1, num_inference_steps=3, **asked)
        job = self.jobs.create(model, request, tenant=tenant, idempotency=None).job
        if announce:
            self.bulletin.submit(job)
        return job.id

    def job(self, job_id: str) -> Job:
        return self.jobs.find(job_id)

    async def until(self, done: Callable[[], Any]) -> Any:
        async with asyncio.timeout(30):
            while not (found := done()):  # noqa: ASYNC110  (files and rows change, not events)
                await asyncio.sleep(0.01)
        return found

    async def finished(self, job_id: str) -> Job:
        await self.until(lambda: self.job(job_id).status.finished)
        return self.job(job_id)

    def touch(self, name: str) -> None:
        (self.directory / name).touch()


@contextlib.asynccontextmanager
async def stage(directory: Path, *, now: float | None = None, **given: Any) -> AsyncIterator[Stage]:
    async with fake.serving(fake.FakeRuntime(str(directory / "store"), directory)) as url:
        made = Stage(directory, url, now, **given)
        task = asyncio.create_task(made.dispatcher.run())
        made.dispatcher.available.set()
        try:
            yield made
        finally:
            made.touch("go")
            made.dispatcher.stop()
            await task
            await made.runtime.close()
            made.jobs.close()


def test_a_job_is_run_and_settled(tmp_path: Path) -> None:
    async def run() -> Job:
        async with stage(tmp_path) as at:
            return await at.finished(at.submit("a dog"))

    job = asyncio.run(run())
    assert (job.status, job.attempts) == (JobStatus.SUCCEEDED, 1)
    assert job.result
    assert job.result.images[0].key == f"images/{job.id}/0.png"


def test_a_job_of_another_process_is_found(tmp_path: Path) -> None:
    async def run() -> Job:
        async with stage(tmp_path) as at:
            return await at.finished(at.submit("a dog", announce=False))

    assert asyncio.run(run()).status is JobStatus.SUCCEEDED


def test_a_failure_is_stored_with_its_problem(tmp_path: Path) -> None:
    async def run() -> Job:
        async with stage(tmp_path) as at:
            return await at.finished(at.submit("fail:storage_full"))

    job = asyncio.run(run())
    assert (job.status, job.error and job.error.code, job.attempts) == (JobStatus.FAILED, "storage_full", 1)


def test_an_engine_that_fails_every_time_poisons_the_job(tmp_path: Path) -> None:
    async def run() -> Job:
        async with stage(tmp_path, max_attempts=3) as at:
            return await at.finished(at.submit("fail:generation_failed"))

    job = asyncio.run(run())
    assert (job.error and job.error.code, job.attempts) == ("poisoned", 3)


def test_progress_is_told_and_kept(tmp_path: Path) -> None:
    async def run() -> None:
        async with stage(tmp_path) as at:
            job = at.submit("hold")
            with at.bulletin.watch(job) as watch:
                news = await watch.next(10)
                assert news
                assert news.progress
                assert (news.progress.step, news.preview) == (1, "data:image/jpeg;base64,AA==")
            await at.until(lambda: at.job(job).progress.step == 1)

    asyncio.run(run())


def test_a_cancelled_job_is_dropped_at_once_or_at_the_next_beat(tmp_path: Path) -> None:
    async def run(told: bool) -> None:
        async with stage(tmp_path) as at:
            job = at.submit("hold")
            await at.until(lambda: (tmp_path / f"held-{job}").exists())
            cancelled = at.jobs.cancel(job, tenant=TENANT)
            if told:
                at.bulletin.withdraw(cancelled)
            await at.until(lambda: (tmp_path / f"gone-{job}").exists())
            await at.until(lambda: at.dispatcher.in_flight == 0)
        (tmp_path / "go").unlink()

    for told in (True, False):
        asyncio.run(run(told))
    assert not (tmp_path / "made").exists()


def test_the_last_attempt_runs_alone(tmp_path: Path) -> None:
    async def run() -> None:
        async with stage(tmp_path, max_attempts=2) as at:
            neighbour = at.submit("hold a dog")
            await at.until(lambda: (tmp_path / f"held-{neighbour}").exists())
            twice = at.submit("fail:generation_failed")
            await at.until(lambda: at.job(twice).attempts == 2)
            newcomer = at.submit("a cat")
            assert at.job(twice).status is JobStatus.RUNNING  # it has its lease, and waits for the neighbour
            assert at.job(newcomer).status is JobStatus.QUEUED
            at.touch("go")
            assert (await at.finished(twice)).status is JobStatus.FAILED
            assert (await at.finished(newcomer)).status is JobStatus.SUCCEEDED

    asyncio.run(run())


def test_no_more_jobs_at_once_than_allowed(tmp_path: Path) -> None:
    async def run() -> None:
        async with stage(tmp_path, jobs_in_flight=2) as at:
            jobs = [at.submit("hold") for _ in range(3)]
            await at.until(lambda: len(list(tmp_path.glob("held-*"))) == 2)
            assert at.dispatcher.in_flight == 2
            assert at.job(jobs[2]).status is JobStatus.QUEUED
            at.touch("go")
            for job in jobs:
                assert (await at.finished(job)).status is JobStatus.SUCCEEDED

    asyncio.run(run())


def test_a_deadline_that_passed_in_the_queue(tmp_path: Path) -> None:
    async def run() -> Job:
        async with stage(tmp_path, now=4e9) as at:  # a wall clock far ahead of every job's birth
            return await at.finished(at.submit("a dog", announce=False))

    job = asyncio.run(run())
    assert (job.error and job.error.code) == "deadline_exceeded"
    assert not (tmp_path / "made").exists()


def test_a_wall_clock_that_jumps_ends_no_job_of_this_process(tmp_path: Path) -> None:
    async def run() -> Job:
        async with stage(tmp_path, now=4e9) as at:
            at.dispatcher.available.clear()
            job = at.submit("a dog")
            await asyncio.sleep(0)  # the announcement
            at.dispatcher.available.set()
            return await at.finished(job)

    assert asyncio.run(run()).status is JobStatus.SUCCEEDED


def test_a_job_of_another_model_is_left_to_who_serves_it(tmp_path: Path) -> None:
    async def run() -> None:
        async with stage(tmp_path) as at:
            others = at.submit("a dog", model="other")
            assert (await at.finished(at.submit("a cat"))).status is JobStatus.SUCCEEDED  # though it came later
            assert (at.job(others).status, at.job(others).attempts) == (JobStatus.QUEUED, 0)
            settings = at.settings.model_copy(update={"default_model": "other"})
            neighbour = Dispatcher(at.jobs, at.runtime, at.bulletin, settings, name="neighbour")
            neighbour.available.set()
            working = asyncio.create_task(neighbour.run())
            assert (await at.finished(others)).status is JobStatus.SUCCEEDED
            neighbour.stop()
            await working

    asyncio.run(run())


@pytest.mark.parametrize("broken", ["claim", "beat", "succeed", "fail", "release"])
@pytest.mark.parametrize("error", [JobStoreUnavailable, RuntimeError])
def test_no_call_of_the_job_store_that_breaks_ends_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, error: type[Exception]
) -> None:
    monkeypatch.setattr("local.replicas.attempt._SETTLING", Retry(tries=2))
    prompts = {"beat": "hold", "fail": "fail:storage_full", "release": "fail:generation_failed"}

    async def run() -> None:
        async with stage(tmp_path) as at:
            called = asyncio.Event()
            loop = asyncio.get_running_loop()

            def down(*_: Any, **__: Any) -> bool:
                loop.call_soon_threadsafe(called.set)
                raise error

            with monkeypatch.context() as outage:
                outage.setattr(at.jobs, broken, down)
                at.submit("a dog", model="other")
                at.submit(prompts.get(broken, "a bird"))
                await asyncio.wait_for(called.wait(), 30)
                at.touch("go")
                await at.until(lambda: at.dispatcher.in_flight == 0)
            assert (await at.finished(at.submit("a cat"))).status is JobStatus.SUCCEEDED

    asyncio.run(run())


def test_nothing_is_claimed_while_the_runtime_is_not_available(tmp_path: Path) -> None:
    async def run() -> None:
        async with stage(tmp_path) as at:
            await at.finished(at.submit("a dog"))
            at.dispatcher.available.clear()
            at.dispatcher.stop()
            job = at.submit("a cat")
            assert at.job(job).status is JobStatus.QUEUED

    asyncio.run(run())


def test_aborting_puts_jobs_back_uncounted(tmp_path: Path) -> None:
    async def run() -> Job:
        async with stage(tmp_path) as at:
            job = at.submit("hold")
            await at.until(lambda: (tmp_path / f"held-{job}").exists())
            at.dispatcher.abort()
            await at.until(lambda: at.dispatcher.in_flight == 0)
            return at.job(job)

    job = asyncio.run(run())
    assert (job.status, job.attempts) == (JobStatus.QUEUED, 0)


def test_a_job_store_that_is_away_for_a_moment_loses_nothing(tmp_path: Path) -> None:
    async def run() -> Job:
        async with stage(tmp_path) as at:
            genuine, refusals = at.jobs.succeed, iter([True, True, False])

            def flaky(*arguments: Any) -> bool:
                if next(refusals, False):
                    raise JobStoreUnavailable
                return genuine(*arguments)

            at.jobs.succeed = flaky  # type: ignore[method-assign]
            return await at.finished(at.submit("a dog"))

    job = asyncio.run(run())
    assert (job.status, job.attempts) == (JobStatus.SUCCEEDED, 1)
    assert (tmp_path / "made").read_text().count(job.id) == 1


def test_a_tenant_with_nothing_at_work_is_served_though_all_places_are_taken(tmp_path: Path) -> None:
    """It waited until one of another tenant's long jobs had ended."""

    async def run() -> None:
        async with stage(tmp_path, jobs_in_flight=2) as at:
            long = [at.submit("hold") for _ in range(4)]
            await at.until(lambda: at.dispatcher.in_flight == 2)
            assert (await at.finished(at.submit("a cat", tenant="modest"))).status is JobStatus.SUCCEEDED
            held = [job for job in long if at.job(job).status is JobStatus.RUNNING]
            assert held == long[:2]  # and the greedy one got no more for it
            at.touch("go")
            for job in long:
                await at.finished(job)

    asyncio.run(run())


def test_however_many_tenants_there_are_the_runtime_is_not_given_everything(tmp_path: Path) -> None:
    async def run() -> None:
        async with stage(tmp_path, jobs_in_flight=1) as at:
            jobs = [at.submit("hold", tenant=f"tenant {number}") for number in range(12)]
            await at.until(lambda: at.dispatcher.in_flight == 8)
            await asyncio.gather(*(at.until(lambda job=job: (tmp_path / f"held-{job}").exists()) for job in jobs[:8]))
            assert at.dispatcher.in_flight == 8
            at.touch("go")
            for job in jobs:
                await at.finished(job)

    asyncio.run(run())


def test_images_that_trickle_hold_up_nobody_else(tmp_path: Path) -> None:
    """Sixteen took all places of a runtime, for everybody."""

    async def run() -> None:
        async with stage(tmp_path, jobs_in_flight=2) as at:
            slow = [at.submit("fetching", image="https://slow.example/a.png", strength=0.5) for _ in range(12)]
            await at.until(lambda: at.dispatcher.in_flight == 8)
            assert (await at.finished(at.submit("a dog", tenant="modest"))).status is JobStatus.SUCCEEDED
            assert sum((tmp_path / f"fetching-{job}").exists() for job in slow) == 8
            at.touch("fetched")
            for job in slow:
                await at.finished(job)

    asyncio.run(run())


def test_what_a_tenant_draws_beside_its_slow_images(tmp_path: Path) -> None:
    async def run() -> None:
        async with stage(tmp_path, jobs_in_flight=2) as at:
            slow = [at.submit("fetching", image="https://slow.example/a.png", strength=0.5) for _ in range(5)]
            await at.until(lambda: all((tmp_path / f"fetching-{job}").exists() for job in slow))
            assert (await at.finished(at.submit("a dog"))).status is JobStatus.SUCCEEDED
            at.touch("fetched")
            for job in slow:
                await at.finished(job)

    asyncio.run(run())
