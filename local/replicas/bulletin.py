"""What the parts of this process tell one another about jobs, so that nobody who waits has to ask the job store."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from api.waiting import News
from darkroom.contracts import Job
from local.replicas.arrival_rate import ArrivalRate


class Watch:
    """One reader's view of one job. Only the newest news is kept: a slow reader misses steps, never the end."""

    def __init__(self) -> None:
        self._newest: News | None = None
        self._fresh = asyncio.Event()

    def put(self, news: News) -> None:
        if self._newest is None or not self._newest.finished:
            self._newest = news
        self._fresh.set()

    async def next(self, seconds: float) -> News | None:
        """The newest news, or None where there was none for so long."""
        try:
            await asyncio.wait_for(self._fresh.wait(), seconds)
        except TimeoutError:
            return None
        self._fresh.clear()
        return self._newest


class Bulletin:
    """Lives on one event loop; `submit` and `withdraw` (darkroom.inference.Inference) may be called from any thread."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, arrival_rate: ArrivalRate | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._clock = clock
        self._arrival_rate = arrival_rate
        self._submitted_at: dict[str, float] = {}
        self._watches: defaultdict[str, set[Watch]] = defaultdict(set)
        self._withdrawals: dict[str, asyncio.Event] = {}
        self._newest: dict[str, News] = {}
        self._arrivals: set[asyncio.Event] = set()
        self.closed = False

    # ---- the API's side -------------------------------------------------------------------------------------------

    def submit(self, job: Job) -> Job:
        """A job is waiting to be claimed."""
        self._loop.call_soon_threadsafe(self._announce_arrival, job.id)
        return job

    def withdraw(self, job: Job) -> None:
        """A job was cancelled."""
        self._loop.call_soon_threadsafe(self._announce_withdrawal, job.id)

    @contextmanager
    def watch(self, job_id: str) -> Iterator[Watch]:
        """Follow a job; what happened while nobody watched is in the job store, so read that after this."""
        watch = Watch()
        self._watches[job_id].add(watch)
        if job_id in self._newest:
            watch.put(self._newest[job_id])
        try:
            yield watch
        finally:
            self._watches[job_id].discard(watch)
            if not self._watches[job_id]:
                del self._watches[job_id]

    # ---- the dispatchers' side ------------------------------------------------------------------------------------

    @contextmanager
    def arrivals(self) -> Iterator[asyncio.Event]:
        """An event that is set whenever a job arrives; whoever takes it clears it."""
        event = asyncio.Event()
        self._arrivals.add(event)
        try:
            yield event
        finally:
            self._arrivals.discard(event)

    def age(self, job_id: str) -> float | None:
        """Seconds since the job was submitted in this process, whatever the wall clock did; None for any other job."""
        submitted_at = self._submitted_at.get(job_id)
        return None if submitted_at is None else self._clock() - submitted_at

    @contextmanager
    def working_on(self, job_id: str) -> Iterator[asyncio.Event]:
        """An event that is set when the job is cancelled while this is open."""
        event = self._withdrawals[job_id] = asyncio.Event()
        try:
            yield event
        finally:
            if self._withdrawals.get(job_id) is event:
                del self._withdrawals[job_id]

    def post(self, job_id: str, news: News) -> None:
        """Tell whoever watches the job; after news of its end nothing is remembered of it."""
        self._newest[job_id] = news
        for watch in self._watches.get(job_id, ()):
            watch.put(news)
        if news.finished:
            age = self.age(job_id)
            if self._arrival_rate is not None and age is not None:
                self._arrival_rate.answered(age)
            self._submitted_at.pop(job_id, None)
            self._newest.pop(job_id, None)

    # ---- the end --------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Nothing more will happen here: whoever waits looks at the job store a last time and answers."""
        self.closed = True
        for watches in self._watches.values():
            for watch in watches:
                watch.put(News())

    def wake(self) -> None:
        """Let every dispatcher look around."""
        for event in self._arrivals:
            event.set()

    def _announce_arrival(self, job_id: str) -> None:
        self._submitted_at[job_id] = self._clock()
        if self._arrival_rate is not None:
            self._arrival_rate.arrived()
        self.wake()

    def _announce_withdrawal(self, job_id: str) -> None:
        if job_id in self._withdrawals:
            self._withdrawals[job_id].set()
        self._submitted_at.pop(job_id, None)  # how long it took until then says nothing about us
        self.post(job_id, News(finished=True))
