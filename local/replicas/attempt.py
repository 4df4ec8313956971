"""One attempt at one job: streamed to a runtime while its lease is kept, then settled in the job store."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection
from typing import Any

import structlog

from api.waiting import News
from darkroom.contracts import GenerationResult, Invocation, Progress
from darkroom.errors import DarkroomError, DeadlineExceeded, JobStoreUnavailable, RuntimeUnavailable
from darkroom.inference.disposition import Disposition, disposition
from darkroom.inference.http import HttpRuntime, StepProgress
from darkroom.jobs import JobStore, Lease
from darkroom.retry import Retry
from local.replicas.bulletin import Bulletin

log = structlog.get_logger(part="dispatcher")

_SETTLING = Retry(tries=6, pause=0.25)  # 8 s in all


class Attempt:
    """`deadline` is how many seconds the job has left; `beat_seconds` is how often its lease is renewed; `admitted` is
    called once the runtime has fetched what the job brings."""

    def __init__(
        self,
        lease: Lease,
        *,
        jobs: JobStore,
        runtime: HttpRuntime,
        bulletin: Bulletin,
        beat_seconds: float,
        deadline: float,
        admitted: Callable[[], None] = lambda: None,
    ) -> None:
        self._lease = lease
        self._job = lease.job
        self._jobs = jobs
        self._runtime = runtime
        self._bulletin = bulletin
        self._beat_seconds = beat_seconds
        self._deadline = deadline
        self._admitted = admitted
        self._progress = Progress()
        self._log = log.bind(job=self._job.id, attempt=self._job.attempts)

    async def run(self, after: Collection[asyncio.Task[Any]] = ()) -> Disposition | None:
        """Try, once the tasks in `after` are done. None: the job reached its end, or is no longer ours.

        Cancelling puts the job back into the queue.
        """
        with self._bulletin.working_on(self._job.id) as withdrawn:
            work = asyncio.create_task(self._generate(after))
            lost = asyncio.create_task(self._keep(withdrawn))
            try:
                await asyncio.wait({work, lost}, return_when=asyncio.FIRST_COMPLETED)
                if not work.done():  # cancelled, or taken over
                    self._bulletin.post(self._job.id, News(finished=True))
                    return None
                return await self._settle(work)
            except asyncio.CancelledError:
                await asyncio.shield(self._release(counts_as_attempt=False))
                raise
            finally:
                for task in (work, lost):
                    task.cancel()
                await asyncio.gather(work, lost, return_exceptions=True)

    async def _generate(self, after: Collection[asyncio.Task[Any]]) -> GenerationResult:
        if after:
            await asyncio.wait(after)
        if self._deadline <= 0:
            raise DeadlineExceeded
        request = self._job.readable_request()
        invocation = Invocation(
            id=self._job.id, tenant=self._job.tenant, request=request, deadline_seconds=self._deadline
        )
        async with contextlib.aclosing(self._runtime.invoke(invocation, self._admitted)) as stream:
            async for event in stream:
                if isinstance(event, GenerationResult):
                    return event
                self._show(event)
        raise RuntimeUnavailable

    def _show(self, step: StepProgress) -> None:
        self._progress = step.progress
        self._bulletin.post(self._job.id, News(step.progress, step.preview))

    async def _keep(self, withdrawn: asyncio.Event) -> None:
        """Beat until the job is no longer ours."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(withdrawn.wait(), self._beat_seconds)
            with contextlib.suppress(JobStoreUnavailable):  # the lease outlives some missed beats
                if withdrawn.is_set() or not await asyncio.to_thread(self._jobs.beat, self._lease, self._progress):
                    return

    async def _settle(self, work: asyncio.Task[GenerationResult]) -> Disposition | None:
        try:
            result = work.result()
        except DarkroomError as error:
            decided = disposition(error)
            tell = self._log.debug if decided is Disposition.REQUEUE else self._log.warning
            tell("attempt failed", code=error.code, verdict=decided.name.lower())
            if decided is not Disposition.FAIL:
                await self._release(counts_as_attempt=decided is Disposition.RETRY)
                return decided
            problem = error.problem()
            await self._insist(lambda: self._jobs.fail(self._lease, problem))
        except Exception as error:  # our own bug must still end the job
            self._log.error("attempt broke", exc_info=error)
            problem = DarkroomError().problem()
            await self._insist(lambda: self._jobs.fail(self._lease, problem))
        else:
            await self._insist(lambda: self._jobs.succeed(self._lease, result))
        self._bulletin.post(self._job.id, News(finished=True))
        return None

    async def _release(self, *, counts_as_attempt: bool) -> None:
        await self._insist(lambda: self._jobs.release(self._lease, counts_as_attempt=counts_as_attempt))
        self._bulletin.post(self._job.id, News(Progress()))

    async def _insist(self, write: Callable[[], bool]) -> None:
        """Write through a short outage of the job store; after a long one the lease runs out and the job runs again."""
        try:
            await _SETTLING.call_async(lambda: asyncio.to_thread(write), on=JobStoreUnavailable, sleep=asyncio.sleep)
        except JobStoreUnavailable:
            self._log.error("job store down; the job will run again when its lease has run out")
