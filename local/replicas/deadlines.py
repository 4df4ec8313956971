"""Ends the jobs that waited past their deadline: nobody serves their model any more, or nobody came to it in time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from api.waiting import News
from darkroom.contracts import Job, JobStatus
from darkroom.errors import DeadlineExceeded, JobNotFound, JobStoreUnavailable
from darkroom.jobs import JobStore
from local.replicas.bulletin import Bulletin

log = structlog.get_logger(part="deadlines")

LOOK_SECONDS = 5.0
GRACE_SECONDS = 120.0  # for a runtime to end what runs by itself; past it, its holder is gone for good


class Deadlines:
    """Looks at every model's jobs, since whoever served them may be gone; several processes may do it on one store.

    `clock` is the wall clock; it ages only jobs that this process did not accept. A deadline is `job_seconds`.
    """

    def __init__(
        self, jobs: JobStore, bulletin: Bulletin, job_seconds: float, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._jobs = jobs
        self._bulletin = bulletin
        self._job_seconds = job_seconds
        self._clock = clock

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            try:
                await self.enforce()
            except JobStoreUnavailable:
                log.error("job store down")
            except Exception as error:  # a job that cannot be read must not end the serving
                log.error("deadlines could not be looked at", exc_info=error)
            await asyncio.sleep(LOOK_SECONDS)

    async def enforce(self) -> None:
        """End every job that is over now. Raises: JobStoreUnavailable."""
        late = await asyncio.to_thread(self._jobs.overdue, accepted_before=self._clock() - self._job_seconds)
        problem = DeadlineExceeded("No runtime that serves this model made the image in time.").problem()
        for job in late:
            if not self._is_over(job):
                continue
            try:
                await asyncio.to_thread(self._jobs.settle, job.id, problem)
            except JobNotFound:  # purged meanwhile
                continue
            log.warning("deadline passed", job=job.id, model=job.model, was=job.status.value)
            self._bulletin.post(job.id, News(finished=True))

    def _is_over(self, job: Job) -> bool:
        known = self._bulletin.age(job.id)
        age = self._clock() - job.created_at if known is None else known
        return age > self._job_seconds + (GRACE_SECONDS if job.status is JobStatus.RUNNING else 0.0)
