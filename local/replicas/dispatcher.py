"""Claims jobs for one runtime and sees each of them to its end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from darkroom.contracts import Job
from darkroom.errors import JobStoreUnavailable
from darkroom.inference.disposition import Disposition
from darkroom.inference.http import HttpRuntime
from darkroom.jobs import JobStore, Lease
from darkroom.settings import Settings
from local.replicas.attempt import Attempt
from local.replicas.bulletin import Bulletin

log = structlog.get_logger(part="dispatcher")

_POLL_SECONDS = 1.0  # how often to look for jobs of other processes and for leases that have run out
_FETCHING = 4  # jobs that wait for images, for each place of one that is drawn
_MOST = 8  # jobs in all for each place, however many tenants there are
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0  # seconds without claims after the runtime turned a job away


@dataclass(eq=False)
class _Held:
    """A job that the runtime has been given; `fetching` while it has not got the images that the job names."""

    tenant: str
    fetching: bool


class Dispatcher:
    """Gives its runtime, which serves the default model, up to `jobs_in_flight` jobs together while `available` is set.

    What waits for somebody's server has places of its own beside those; and a tenant who has no job here gets one in
    any case, so that nobody waits for another's long ones: the runtime shares its steps among what it has.

    A job's last attempt runs alone: whatever broke the runtime twice may not take its neighbours with it again.
    `clock` is the wall clock; it ages only jobs that were accepted before this process started.
    """

    def __init__(
        self,
        jobs: JobStore,
        runtime: HttpRuntime,
        bulletin: Bulletin,
        settings: Settings,
        *,
        name: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.available = asyncio.Event()
        self._jobs = jobs
        self._runtime = runtime
        self._bulletin = bulletin
        self._settings = settings
        self._name = name
        self._clock = clock
        self._tasks: dict[asyncio.Task[None], _Held] = {}
        self._stopping = False
        self._pause = 0.0

    @property
    def in_flight(self) -> int:
        return len(self._tasks)

    async def run(self) -> None:
        """Claim and run until `stop`; returns when everything in flight has ended."""
        with self._bulletin.arrivals() as arrival:
            while not self._stopping:
                await self.available.wait()
                if self._pause:
                    await asyncio.sleep(self._pause)
                arrival.clear()
                lease = None if self._stopping else await self._claim()
                if lease is not None:
                    await self._begin(lease)
                elif not self._stopping:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(arrival.wait(), _POLL_SECONDS)
        if self._tasks:
            await asyncio.wait(self._tasks)

    def stop(self) -> None:
        """Claim nothing more."""
        self._stopping = True
        self.available.set()
        self._bulletin.wake()

    def abort(self) -> None:
        """Put everything in flight back into the queue at once."""
        self.stop()
        for task in self._tasks:
            task.cancel()

    def _excepted(self) -> set[str] | None:
        """The tenants of whom no job may be claimed now; None where nobody's may."""
        held, places = list(self._tasks.values()), self._settings.jobs_in_flight
        fetching = sum(one.fetching for one in held)
        if len(held) - fetching < places and fetching < _FETCHING * places:
            return set()
        return {one.tenant for one in held} if len(held) < _MOST * places else None

    async def _claim(self) -> Lease | None:
        tenants = self._excepted()
        if tenants is None:
            return None
        served = {self._settings.default_model}
        try:
            return await asyncio.to_thread(self._jobs.claim, self._name, models=served, but_not_of=tenants)
        except JobStoreUnavailable:
            log.error("job store down")
        except Exception as error:  # our own bug, or one job that cannot be read, ends neither this process nor others
            log.error("no job could be claimed", exc_info=error)
        return None

    async def _begin(self, lease: Lease) -> None:
        alone = lease.job.attempts >= self._settings.max_attempts > 1
        held = _Held(lease.job.tenant, lease.job.request is not None and lease.job.request.names_urls)
        task = asyncio.create_task(self._attempt(lease, held, set(self._tasks) if alone else set()))
        self._tasks[task] = held
        task.add_done_callback(self._ended)
        if alone:
            await asyncio.wait({task})

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        self._bulletin.wake()

    async def _attempt(self, lease: Lease, held: _Held, after: set[asyncio.Task[None]]) -> None:
        def admitted() -> None:
            held.fetching = False
            self._bulletin.wake()

        attempt = Attempt(
            lease,
            jobs=self._jobs,
            runtime=self._runtime,
            bulletin=self._bulletin,
            beat_seconds=min(_POLL_SECONDS, self._settings.lease_seconds / 4),
            deadline=self._settings.job_seconds - self._age(lease.job),
            admitted=admitted,
        )
        if await attempt.run(after) is Disposition.REQUEUE:
            self._pause = min(max(self._pause * 2, _SHORTEST_PAUSE), _LONGEST_PAUSE)
        else:
            self._pause = 0.0

    def _age(self, job: Job) -> float:
        known = self._bulletin.age(job.id)
        return max(0.0, self._clock() - job.created_at) if known is None else known
